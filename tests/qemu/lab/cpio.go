package lab

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// File is one entry of a router's file system.
type File struct {
	Mode fs.FileMode // permissions; with fs.ModeDir, fs.ModeSymlink or fs.ModeCharDevice the kind
	Data []byte      // content, or a symbolic link's target
	Dev  [2]uint32   // major and minor number of a device
}

// cpioWriter writes the "newc" archive that the kernel unpacks as its first file system.
// Parent directories are added as needed; a later entry replaces an earlier one.
type cpioWriter struct {
	w    io.Writer
	time int64 // of last change of every file, Unix seconds
	n    int64
	ino  int
	dirs map[string]bool
}

func newCPIOWriter(w io.Writer, time int64) *cpioWriter {
	return &cpioWriter{w: w, time: time, dirs: map[string]bool{".": true, "/": true}}
}

// add writes one entry under an absolute or relative path.
func (c *cpioWriter) add(name string, f File) error {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if dir := path.Dir(name); !c.dirs[dir] {
		if err := c.add(dir, File{Mode: fs.ModeDir | 0o755}); err != nil {
			return err
		}
	}
	if f.Mode.IsDir() {
		if c.dirs[name] {
			return nil
		}
		c.dirs[name] = true
	}
	return c.entry(name, f)
}

func (c *cpioWriter) entry(name string, f File) error {
	mode := uint32(f.Mode.Perm())
	switch f.Mode.Type() {
	case 0:
		mode |= 0o100000
	case fs.ModeDir:
		mode |= 0o040000
	case fs.ModeSymlink:
		mode |= 0o120000
	case fs.ModeCharDevice, fs.ModeDevice | fs.ModeCharDevice:
		mode |= 0o020000
	default:
		return fmt.Errorf("cpio %s: kind of file %v not supported", name, f.Mode)
	}
	c.ino++
	_, err := fmt.Fprintf(c, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		c.ino, mode, 0, 0, 1, c.time, len(f.Data), 0, 0, f.Dev[0], f.Dev[1], len(name)+1, 0, name)
	if err == nil {
		err = c.pad()
	}
	if err == nil {
		_, err = c.Write(f.Data)
	}
	if err == nil {
		err = c.pad()
	}
	if err != nil {
		return fmt.Errorf("cpio %s: %w", name, err)
	}
	return nil
}

// close writes the trailer. Another archive may follow.
func (c *cpioWriter) close() error {
	return c.entry("TRAILER!!!", File{})
}

// Write counts the bytes for the padding.
func (c *cpioWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func (c *cpioWriter) pad() error {
	_, err := c.Write(make([]byte, -c.n&3))
	return err
}
