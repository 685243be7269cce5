# make demo        two homes with the same network, connected before your eyes
# make test        everything: lint, unit tests, fuzz seeds, real routers in QEMU
# make size        what the program costs on a router, by packages and modules; fails above the budgets
# make check       the quick part of make test
# make page        the pages, in a browser; LUCI_DIR=CHECKOUT: on LuCI's own JavaScript, too
# make test-mips   unit tests of messages on big-endian and 32-bit processors
# make bench       times and throughput on emulated routers
# make po          what is to be translated of LuCI's page anew, and translations up to date
# make ipk         packages for routers with opkg, and a feed of them, in build/ipk
# make qemu-mips   the tests on routers, those on MIPS that make test runs on arm64, too
# make test-arm    ARM homes in QEMU; fetches packages of a third architecture
# make sim         SEEDS worlds of many gateways, with everything going wrong
# make exhaustive  every order of events of two gateways

VERSION ?= $(shell git describe --always --dirty 2>/dev/null || echo unknown)
GOARCH  ?= $(shell go env GOARCH)
VARIANT ?=
OUT     ?= build/htip
STRIP   ?= -s -w

# Without inlining the packed program is a fifth smaller, and nothing in it is
# hot: packets stay in the kernel. The other flags leave out two passes that only
# change which branch comes first: another 6 kB.
GCFLAGS := all=-l -d=ssa/likelyadjust/off,ssa/loop_rotate/off

# What tests put in the place of OpenWrt's own scripts.
STANDINS := $(addprefix tests/openwrt/root/,init etc/rc.common lib/functions.sh lib/functions/procd.sh sbin/reload_config $(addprefix etc/init.d/,firewall dnsmasq network))

ALONE   := TestFlood
FIGURES := TestConnectTime|TestThroughput|TestDatapathTimes|TestFirstView

# Packages with goroutines: make test runs them under the race detector, and not once more without.
RACED   := ./src/cli ./src/control ./src/daemon ./src/dns ./src/ubus ./tests/ubusd ./tests/page/bridge

.PHONY: demo test bench ipk test-arm test-mips check lint unit unraced qemu qemu-mips setup setup-arm64 size program race fuzz sim scale exhaustive

demo: setup
	go run ./tests/qemu/demo

test: setup-arm64 lint unraced race big-endian page qemu

check: lint unit

setup:
	scripts/setup

setup-arm64:
	scripts/setup arm64

lint:
	@fmt=$$(gofmt -l src tests openwrt); test -z "$$fmt" || { echo "gofmt would change: $$fmt"; exit 1; }
	go vet ./...
	go vet -tags qemu,browser ./tests/...
	GOOS=linux GOARCH=mips go vet ./src/...
	shellcheck scripts/* .ci/run openwrt/files/ipk.*
	shellcheck -s dash openwrt/files/htip.init openwrt/files/htip.defaults openwrt/files/*.sh openwrt/files/firewall.include $(STANDINS)

unit:
	go test ./...

unraced:
	go test $(filter-out $(patsubst ./%,htip/%,$(RACED)),$(shell go list ./...))

race:
	go test -race $(RACED)

# mips is big-endian with an int of 32 bits. The others are that small, too, but
# as this machine in everything else: a minute and a half more.
.PHONY: big-endian
big-endian:
	scripts/foreign mips

test-mips:
	scripts/foreign --all

# FLOWS=PATTERN runs only some flows. Pictures are left in build/page.
.PHONY: page pictures
# Those of the user guide, out of the last make page.
pictures:
	for p in overview:alice-connected request:bob-request map:alice-map invite:alice-invite; do \
	  cp build/page/TestApp/stand-in/$${p#*:}-1280-light.png docs/pictures/$${p%:*}.png || exit 1; done

page: setup
	go test -tags browser -count 1 -timeout 30m -v ./tests/page

# Two labs at a time: emulated routers wait more than they work. What measures runs alone, before,
# or the package on a router like OpenWrt, which is in another program, would wait for it alone.
LABS ?= 2
qemu: setup-arm64
	go test -tags qemu -count 1 -timeout 25m -v -run '$(ALONE)' ./tests/qemu -slower 3
	go test -tags qemu -count 1 -timeout 60m -p $(LABS) -parallel $(LABS) -skip '$(ALONE)|$(FIGURES)|TestArm' ./tests/qemu ./tests/qemu/firmware

# Everything on the processor that most routers have, before a release.
qemu-mips: setup
	go test -tags qemu -count 1 -timeout 60m -parallel $(LABS) -skip '$(ALONE)|$(FIGURES)' ./tests/qemu -arch mipsel

# Tests that only measure: they fail when something is far too slow.
bench: setup
	go test -tags qemu -count 1 -v -timeout 40m -run '$(ALONE)|$(FIGURES)' ./tests/qemu

program:
	GOOS=linux GOARCH=$(GOARCH) $(VARIANT) CGO_ENABLED=0 go build -trimpath -gcflags="$(GCFLAGS)" -ldflags "$(STRIP) -X main.version=$(VERSION)" -o $(OUT) ./src/cmd/htip

ipk:
	scripts/ipk

.PHONY: po
po:
	go run ./tests/page/po/cmd/po

test-arm:
	scripts/setup armhf arm64
	go test -tags qemu -count 1 -timeout 20m -v ./tests/qemu/arm
	go test -tags qemu -count 1 -timeout 30m -v -run Arm ./tests/qemu/firmware

size:
	scripts/setup --all
	scripts/size rss

# Every fuzz target for a while (FUZZTIME each); what is found is kept by Go under testdata.
FUZZTIME ?= 30s
fuzz:
	@for pkg in $$(go list ./src/... ./tests/ubusd/...); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep ^Fuzz); do \
	    echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; done; done

# Simulated worlds; a failing seed is made smaller and shown. A million tunnel
# set-ups are about 12,000 seeds.
SEEDS   ?= 12000
SEED    ?= 1
WORKERS ?= 1
sim:
	go run ./tests/sim/cmd/sim -seed $(SEED) -seeds $(SEEDS) -workers $(WORKERS)

# 10,000 homes with one network, and 1,000 tunnels of one gateway.
scale:
	go run ./tests/sim/cmd/sim -scale

# Every order of events of two gateways, with up to two crashes and two losses,
# then fewer of these and more clicks. Takes 3 GB of memory and some minutes.
exhaustive:
	go test -c -o build/exhaustive.test ./src/htip
	GOGC=200 build/exhaustive.test -test.run 'Exhaustive$$' -test.v -exhaustive -crashes 2 -losses 2
	GOGC=200 build/exhaustive.test -test.run 'Exhaustive$$' -test.v -exhaustive -crashes 1 -losses 1 -clicks 2
	GOGC=200 build/exhaustive.test -test.run 'Exhaustive$$' -test.v -exhaustive -crashes 1 -losses 1 -ends 1
