package datapath

import (
	"errors"
	"fmt"
)

// Error is what went wrong with one tunnel.
type Error struct {
	Tunnel string // the peer's name, may be empty
	Device string // may be empty
	// Permanent errors stay until somebody changes something: a package is
	// missing, a value is wrong. The others are worth another try.
	Permanent bool
	Err       error
}

func (e *Error) Error() string {
	switch {
	case e.Tunnel != "":
		return fmt.Sprintf("tunnel to %q: %v", e.Tunnel, e.Err)
	case e.Device != "":
		return fmt.Sprintf("tunnel %s: %v", e.Device, e.Err)
	}
	return e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// IsPermanent tells whether trying the same again is useless.
func IsPermanent(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Permanent
}

// permanent marks an error before it gets its tunnel.
func permanent(format string, args ...any) error {
	return &Error{Permanent: true, Err: fmt.Errorf(format, args...)}
}

// forTunnel gives an error its tunnel and keeps whether it is permanent.
func forTunnel(t Tunnel, err error) error {
	e := &Error{Tunnel: t.Name, Device: t.Device, Err: err}
	var inner *Error
	if errors.As(err, &inner) {
		e.Permanent = inner.Permanent
		if inner == err {
			e.Err = inner.Err
		}
	}
	return e
}

// Report says what one [Manager.Apply] did.
type Report struct {
	// Changes in plain words, in the order in which they were made. Empty:
	// everything was as wanted.
	Changes []string
	// Errors by device (of a known prefix: by its text). A tunnel that is
	// named here does not work; all others do.
	Errors map[string]error
	// Warnings in plain words: what works, but not as well as it should.
	Warnings []string
}

// Err is all errors of the report in one, or nil.
func (r Report) Err() error {
	var errs []error
	for _, d := range sortedKeys(r.Errors) {
		errs = append(errs, r.Errors[d])
	}
	return errors.Join(errs...)
}

func (r *Report) changed(format string, args ...any) {
	r.Changes = append(r.Changes, fmt.Sprintf(format, args...))
}

func (r *Report) fail(device string, err error) {
	if r.Errors == nil {
		r.Errors = map[string]error{}
	}
	if old := r.Errors[device]; old != nil {
		err = errors.Join(old, err)
	}
	r.Errors[device] = err
}
