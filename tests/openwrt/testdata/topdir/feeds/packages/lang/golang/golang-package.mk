# Stands in for golang-package.mk of OpenWrt's feed of packages. As there, a program is
# linked with the C library unless the Makefile says otherwise.
GO_ARCH_DEPENDS:=@(aarch64||x86_64)

GO_PKG_BUILD_PKG?=$(GO_PKG)/...
GO_PKG_BUILD_DIR=$(PKG_BUILD_DIR)/.go_work/build
GO_PKG_BUILD_BIN_DIR=$(GO_PKG_BUILD_DIR)/bin

ifneq ($(strip $(PKG_ASLR_PIE))$(strip $(PKG_ASLR_PIE_REGULAR)),00)
  GO_PKG_ENABLE_PIE:=1
endif

GO_PKG_TARGET_VARS= \
	GOOS=linux GOARCH=amd64 GOAMD64=v1 \
	CGO_ENABLED=1 \
	CC="$(TARGET_CC)"

GO_PKG_VARS=$(GO_PKG_TARGET_VARS) GOPROXY=off GOENV=off GOTOOLCHAIN=local

GO_PKG_DEFAULT_LDFLAGS=-linkmode external -extldflags '$(TARGET_LDFLAGS)'

define GoBinPackage
$(info @@go $(1))
endef

# As there, Go is called in a directory below that of go.mod.
compile:
	mkdir -p $(GO_PKG_BUILD_DIR)
	cd $(GO_PKG_BUILD_DIR) && $(GO_PKG_VARS) go build -mod=readonly -trimpath -buildvcs=false \
		$(if $(GO_PKG_ENABLE_PIE),-buildmode pie) -gcflags "$(GO_PKG_GCFLAGS)" \
		-ldflags "$(GO_PKG_LDFLAGS) $(patsubst %,-X %,$(GO_PKG_LDFLAGS_X)) $(GO_PKG_DEFAULT_LDFLAGS)" \
		-o $(GO_PKG_BUILD_BIN_DIR)/ $(GO_PKG_BUILD_PKG)

.PHONY: compile
