package datapath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// PX_PROTO_OL2TP of linux/if_pppox.h.
const pxProtoOL2TP = 1

// kernelL2TP asks the kernel for a PPPoL2TP socket, which is what xl2tpd does
// before it decides between kernel and user space.
func kernelL2TP() error {
	fd, err := unix.Socket(unix.AF_PPPOX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, pxProtoOL2TP)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// loaded is a look at what the kernel has, with one try at loading the module.
// The kernel asks for it by itself; where its modprobe does not know aliases
// this helps.
func loaded(probe func() error, run runner, modprobe, module string) func(context.Context) error {
	return func(ctx context.Context) error {
		err := probe()
		if err == nil {
			return nil
		}
		if path, lookErr := lookPath(modprobe); lookErr == nil {
			if _, loadErr := run(ctx, "", path, module); loadErr == nil {
				err = probe()
			}
		}
		return err
	}
}

// portTaken tells whether a UDP port is bound, by anybody.
func (l *l2tp) portTaken(port uint16) (bool, error) {
	for _, name := range []string{"udp", "udp6"} {
		b, err := os.ReadFile(filepath.Join(l.proc.proc, "net", name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("list UDP ports: %w", err)
		}
		if boundPort(string(b), port) {
			return true, nil
		}
	}
	return false, nil
}

// boundPort looks for a local port in /proc/net/udp or udp6.
func boundPort(table string, port uint16) bool {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		_, hex, ok := cutLast(f[1], ":")
		if n, err := strconv.ParseUint(hex, 16, 16); ok && err == nil && uint16(n) == port {
			return true
		}
	}
	return false
}

// askControl asks xl2tpd over its control pipe for what it has (request 'x')
// and returns the answer, which begins with "00" when all is well. xl2tpd
// writes it into a pipe that the request names.
func askControl(ctx context.Context, dir string) (string, error) {
	answer := filepath.Join(dir, fileAnswer)
	if err := os.Remove(answer); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	control, err := os.OpenFile(filepath.Join(dir, fileControl), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", fmt.Errorf("control pipe: %w", err)
	}
	if err := syscall.Mkfifo(answer, 0o600); err != nil {
		return "", errors.Join(fmt.Errorf("control pipe: %w", err), control.Close())
	}
	defer os.Remove(answer)
	fd, err := unix.Open(answer, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", errors.Join(fmt.Errorf("control pipe: %w", err), control.Close())
	}
	defer unix.Close(fd)
	// Closed at once: xl2tpd reads to the end and does nothing else meanwhile.
	_, err = control.WriteString("@" + answer + " x")
	if err = errors.Join(err, control.Close()); err != nil {
		return "", fmt.Errorf("control pipe: %w", err)
	}
	buf := make([]byte, 2048)
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
		// 0 bytes: nobody has opened the other end yet.
		if n, err := unix.Read(fd, buf); n > 0 {
			return string(buf[:n]), nil
		} else if err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return "", fmt.Errorf("control pipe: %w", err)
		}
		if !pause(ctx, 5*time.Millisecond) {
			return "", ctx.Err()
		}
	}
	return "", errors.New("control pipe: no answer")
}

// lookPath finds a program by its path or name, also where a daemon started at
// boot has not got the directory in its PATH.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil || strings.Contains(name, "/") {
		return path, err
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", err
}
