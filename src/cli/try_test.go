package cli

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"htip/src/ubus"
)

// answers is a bus whose calls end one after the other as it says; the last goes on.
type answers struct {
	bus
	errs []error
	n    int
}

// errSilence stands for a call that nobody answers.
var errSilence = errors.New("silence")

func (a *answers) Call(ctx context.Context, _, _ string, _ ubus.Table) (ubus.Table, error) {
	err := a.errs[min(a.n, len(a.errs)-1)]
	if a.n++; err == errSilence {
		<-ctx.Done()
		return nil, ubus.ErrTimeout
	}
	return ubus.T("n", int64(a.n)), err
}

// TestTryOverARestart: a daemon that ends says so, or nothing at all; then there is none for
// a while, and then another one.
func TestTryOverARestart(t *testing.T) {
	for name, c := range map[string]struct {
		errs     []error
		want     error
		min, max time.Duration
	}{
		"at once":              {errs: []error{nil}},
		"not there":            {errs: []error{ubus.ErrNotFound}, want: ubus.ErrNotFound},
		"it ends":              {errs: []error{ubus.ErrTimeout, ubus.ErrNotFound, ubus.ErrNotFound, ubus.ErrTimeout, nil}, min: restartPause, max: 2 * time.Second},
		"it ends for good":     {errs: []error{ubus.ErrTimeout, ubus.ErrNotFound}, want: ubus.ErrNotFound, min: restartLimit, max: restartLimit + time.Second},
		"it ends all the time": {errs: []error{ubus.ErrTimeout}, want: ubus.ErrTimeout, min: restartLimit, max: restartLimit + time.Second},
		"nothing once":         {errs: []error{errSilence, nil}, min: callLimit, max: callLimit + time.Second},
		"nothing twice":        {errs: []error{errSilence, errSilence, nil}, min: 3 * callLimit, max: 3*callLimit + time.Second},
		"nothing, then none":   {errs: []error{errSilence, ubus.ErrNotFound}, want: ubus.ErrNotFound, min: callLimit, max: callLimit + time.Second},
		"nothing at all":       {errs: []error{errSilence}, want: ubus.ErrTimeout, min: 6 * callLimit, max: 6*callLimit + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				a := &answers{errs: c.errs}
				_, err := try(t.Context(), a, "status", nil)
				if took := time.Since(began); !errors.Is(err, c.want) || took < c.min || took > c.max {
					t.Errorf("%v after %v and %d calls", err, took, a.n)
				}
			})
		})
	}
}
