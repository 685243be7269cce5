package ubus

import (
	"context"
	"errors"
	"fmt"
)

// Status is how ubus ends a request: 0 is success, the rest are errors. Numbers
// beyond the named ones pass through unchanged. A Status is an error, so that
// errors.Is(err, ubus.ErrNotFound) works through any wrapping.
type Status uint32

// The statuses of ubus.
const (
	StatusOK               Status = 0
	StatusInvalidCommand   Status = 1
	StatusInvalidArgument  Status = 2
	StatusMethodNotFound   Status = 3
	StatusNotFound         Status = 4
	StatusNoData           Status = 5
	StatusPermissionDenied Status = 6
	StatusTimeout          Status = 7
	StatusNotSupported     Status = 8
	StatusUnknownError     Status = 9
	StatusConnectionFailed Status = 10
	StatusNoMemory         Status = 11
	StatusParseError       Status = 12
	StatusSystemError      Status = 13
)

var statusNames = [...]string{"ok", "invalid command", "invalid argument", "method not found", "not found",
	"no data", "permission denied", "timed out", "not supported", "unknown error", "connection failed",
	"out of memory or busy", "parse error", "system error"}

// Error is the status in words.
func (s Status) Error() string {
	if int64(s) < int64(len(statusNames)) {
		return statusNames[s]
	}
	return fmt.Sprintf("status %d", uint32(s))
}

// The statuses as errors, for errors.Is and for handlers to return.
var (
	ErrInvalidCommand   error = StatusInvalidCommand
	ErrInvalidArgument  error = StatusInvalidArgument
	ErrMethodNotFound   error = StatusMethodNotFound
	ErrNotFound         error = StatusNotFound
	ErrNoData           error = StatusNoData
	ErrPermissionDenied error = StatusPermissionDenied
	ErrTimeout          error = StatusTimeout
	ErrNotSupported     error = StatusNotSupported
	ErrUnknown          error = StatusUnknownError
	ErrConnectionFailed error = StatusConnectionFailed // no ubusd, or it went away
	ErrBusy             error = StatusNoMemory         // more calls or bytes at once than we hold
	ErrParse            error = StatusParseError       // a reply that is no ubus message
	ErrSystem           error = StatusSystemError
)

// StatusOf is the status that an error stands for: the [Status] inside it, else
// a time-out for a passed deadline, else "unknown error". nil is StatusOK.
func StatusOf(err error) Status {
	var s Status
	switch {
	case err == nil:
		return StatusOK
	case errors.As(err, &s) && s != StatusOK:
		return s
	case errors.Is(err, context.DeadlineExceeded):
		return StatusTimeout
	}
	return StatusUnknownError
}
