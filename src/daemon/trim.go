package daemon

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

const shrinks = 3

// trim gives memory back that only a handshake or the start has needed: the
// heap's garbage, and the mapped pages of the program itself. A fault maps the
// 15 pages around it, too, so after start nearly the whole program counts as
// resident, while an idle gateway runs in a tenth of it. The pages stay in the
// page cache; what is needed again is mapped again.
func trim() {
	// A collection halves the stacks that are mostly empty: those that a
	// handshake or a look at the kernel has made large need several.
	for range shrinks {
		runtime.GC()
	}
	debug.FreeOSMemory()
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return // no /proc: nothing is lost but a little memory
	}
	defer f.Close()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	for s := bufio.NewScanner(f); s.Scan(); {
		var from, to uintptr
		var perm string
		// "00400000-00b5c000 r-xp 00000000 00:01 123  /usr/bin/htip": read-only
		// parts of the file hold nothing that is not in the file.
		if n, err := fmt.Sscanf(s.Text(), "%x-%x %s", &from, &to, &perm); n == 3 && err == nil &&
			strings.HasPrefix(perm, "r-") && strings.HasSuffix(perm, "p") && strings.HasSuffix(s.Text(), " "+exe) {
			unix.Syscall(unix.SYS_MADVISE, from, to-from, unix.MADV_DONTNEED)
		}
	}
}
