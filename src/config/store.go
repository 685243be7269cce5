package config

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// SetPeer writes a peer into a configuration file: into its section, or into a new
// one at the end. Of an existing section only options change that don't mean the
// same already; comments and everything else stay byte for byte. The file is
// replaced by rename after fsync; a new one gets mode 0600, an old one keeps its
// own. An error leaves the file as it was and says what about the peer can't be
// (a key that another peer has, say).
func SetPeer(path string, p Peer) error {
	return edit(path, func(data []byte) ([]byte, error) { return setPeer(data, p) })
}

// RemovePeer takes a peer's section out of a configuration file, as carefully as
// SetPeer. A peer or a file that isn't there is no error.
func RemovePeer(path, name string) error {
	return edit(path, func(data []byte) ([]byte, error) { return removePeer(data, name) })
}

// edit replaces a file by what change makes of it. While it works it holds the lock
// that uci takes.
func edit(path string, change func([]byte) ([]byte, error)) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("changing the configuration: %w", err)
	}
	f, err := openLocked(path, 3*time.Second)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("changing the configuration: %w", err)
	}
	var old []byte
	var was os.FileInfo
	if err == nil {
		defer f.Close() // gives the lock back; nothing was written to it
		if old, err = readAll(f, path); err != nil {
			return fmt.Errorf("changing the configuration: %w", err)
		}
		if was, err = f.Stat(); err != nil {
			return fmt.Errorf("changing the configuration: %w", err)
		}
	}
	data, err := change(old)
	if err == nil && len(data) > MaxSize {
		err = fmt.Errorf("it would be larger than %d bytes", MaxSize)
	}
	if err != nil {
		return fmt.Errorf("changing the configuration %s: %w", path, err)
	}
	if bytes.Equal(data, old) {
		return nil
	}
	if err := replaceFile(path, data, was); err != nil {
		return fmt.Errorf("changing the configuration: %w", err)
	}
	return nil
}

// openLocked opens a regular file and takes its lock. A file that was replaced
// while we waited is opened anew.
func openLocked(path string, wait time.Duration) (*os.File, error) {
	for end := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		st, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !st.Mode().IsRegular() {
			return nil, fmt.Errorf("%s: not a regular file", path)
		}
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.ENOSYS) {
			return f, nil // as uci does on a file system without locks
		}
		if err == nil {
			mine, e1 := f.Stat()
			now, e2 := os.Stat(path)
			if e1 == nil && e2 == nil && os.SameFile(mine, now) {
				return f, nil
			}
			err = errors.Join(e1, e2, errors.New("replaced by another program meanwhile"))
		}
		f.Close() // only opened for reading
		if time.Now().After(end) {
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
	}
}

// replaceFile puts data into path's place with the mode and the owner that was
// tells, 0600 without it. uci doesn't look at files with a dot in their name.
func replaceFile(path string, data []byte, was os.FileInfo) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".")
	if err != nil {
		return err
	}
	err = writeLike(f, data, was)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

func writeLike(f *os.File, data []byte, was os.FileInfo) error {
	if was != nil {
		if st, ok := was.Sys().(*syscall.Stat_t); ok && (int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid()) {
			if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
				return err
			}
		}
		if err := f.Chmod(was.Mode().Perm()); err != nil {
			return err
		}
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// syncDir makes a rename last over a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
