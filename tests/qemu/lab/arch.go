package lab

// Arch is what the lab must know about a processor architecture to emulate a router of it.
type Arch struct {
	Debian  string   // Debian's name: directory under build/cache, package architecture
	GoEnv   []string // environment of a cross-building go command
	QEMU    string   // emulator
	Machine []string // emulator's machine and processor options
	Console string   // kernel's name of the first serial port
	Init    string   // shell commands run by the guest before it touches a PCI device
}

// Mipsel is the little-endian MIPS 24K router, the core of the ramips family.
var Mipsel = Arch{
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
