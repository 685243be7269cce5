package datapath

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// apart calls start in a mount namespace of its own, in which directories
// lie over others: {what, where}. What start starts stays in it; our own process
// does not get there. With nothing to lay over it just calls start.
func apart(over [][2]string, start func() error) (err error) {
	if len(over) == 0 {
		return start()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never let go of: the thread ends with the goroutine
		if unix.Gettid() == os.Getpid() {
			// The process's first thread is what /proc shows as the process, and
			// does not end. While we hold it, another one is taken.
			err = apart(over, start)
			runtime.UnlockOSThread()
			return
		}
		if err = layOver(over); err == nil {
			err = start()
		}
	}()
	<-done
	return err
}

func layOver(over [][2]string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mount namespace: %w", err)
	}
	for _, o := range over {
		if err := unix.Mount(o[0], o[1], "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("lay %s over %s: %w", o[0], o[1], err)
		}
	}
	return nil
}
