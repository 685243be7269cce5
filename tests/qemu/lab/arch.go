package lab

import (
	"fmt"
	"slices"
	"strings"
)

// Arch is what the lab must know about a processor architecture to emulate a router of it.
type Arch struct {
	Name    string   // for people; directory of the programs built for it
	Debian  string   // Debian's name: directory under build/cache, package architecture
	GoEnv   []string // environment of a cross-building go command
	QEMU    string   // emulator
	Machine []string // emulator's machine and processor options
	Console string   // kernel's name of the first serial port
	Kernel  string   // more of the kernel's command line
	Init    string   // shell commands run by the guest before it touches a PCI device
}

// Mipsel is the little-endian MIPS 24K router, the core of the ramips family.
var Mipsel = Arch{
	Name:    "mipsel",
	Debian:  "mipsel",
	GoEnv:   []string{"GOOS=linux", "GOARCH=mipsle", "GOMIPS=softfloat", "CGO_ENABLED=0"},
	QEMU:    "qemu-system-mipsel",
	Machine: []string{"-M", "malta", "-cpu", "24Kc"},
	Console: "ttyS0",
	// Without firmware malta leaves PCI interrupts 10 and 11 edge-triggered, and a second
	// network card hangs under load: bits 2 and 3 of port 0x4d1 make them level-triggered.
	// The emulated processor's own timer (MIPS) is lost now and then while the guest is idle; all
	// sleepers then wait 25.8 s, until its 32-bit counter comes round, and that time is missing
	// from the guest's clock. Without it the kernel takes the board's timer (PIT).
	Init: `printf '\014' | /bin/busybox dd of=/dev/port bs=1 seek=1233 conv=notrunc 2>/dev/null
echo MIPS >/sys/devices/system/clockevents/clockevent0/unbind_device`,
}

// Armv5 and Armv7 are the same 32-bit ARM machine, a Cortex-A7 as in ipq40xx; the programs
// differ.
var (
	Armv5 = armhf("armv5", "GOARM=5")
	Armv7 = armhf("armv7", "GOARM=7")
)

func armhf(name, variant string) Arch {
	return Arch{
		Name:   name,
		Debian: "armhf",
		GoEnv:  []string{"GOOS=linux", "GOARCH=arm", variant, "CGO_ENABLED=0"},
		QEMU:   "qemu-system-arm",
		// The kernel's driver of the PCI bridge can't use addresses above 4 GB.
		Machine: []string{"-M", "virt,highmem=off", "-cpu", "cortex-a7"},
		Console: "ttyAMA0",
		Init:    ":",
	}
}

// Arm64 is a 64-bit ARM router, a Cortex-A53 as in mt7622 and filogic.
var Arm64 = Arch{
	Name:    "arm64",
	Debian:  "arm64",
	GoEnv:   []string{"GOOS=linux", "GOARCH=arm64", "GOARM64=v8.0", "CGO_ENABLED=0"},
	QEMU:    "qemu-system-aarch64",
	Machine: []string{"-M", "virt", "-cpu", "cortex-a53"},
	Console: "ttyAMA0",
	// With page tables of its own, which a Cortex-A53 does not need, the kernel makes the emulator
	// forget all addresses at every system call. They come with a randomized kernel.
	Kernel: "nokaslr kpti=off",
	Init:   ":",
}

// Amd64 is a PC as a router, emulated like the others: no KVM.
var Amd64 = Arch{
	Name:    "amd64",
	Debian:  "amd64",
	GoEnv:   []string{"GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "CGO_ENABLED=0"},
	QEMU:    "qemu-system-x86_64",
	Machine: []string{"-M", "q35"},
	Console: "ttyS0",
	Init:    ":",
}

// Archs are the architectures that can be emulated. Big-endian MIPS is not among them: Debian
// 12 has neither a kernel nor programs for it.
var Archs = []Arch{Mipsel, Armv5, Armv7, Arm64, Amd64}

// ArchByName is the architecture of this name.
func ArchByName(name string) (Arch, error) {
	var names []string
	for _, a := range Archs {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	return Arch{}, fmt.Errorf("architecture %q: want one of %s", name, strings.Join(names, ", "))
}

// archByDebian is an architecture of this Debian name; those that share it share their image.
func archByDebian(name string) (Arch, error) {
	i := slices.IndexFunc(Archs, func(a Arch) bool { return a.Debian == name })
	if i < 0 {
		return Arch{}, fmt.Errorf("no emulated architecture is called %q by Debian", name)
	}
	return Archs[i], nil
}
