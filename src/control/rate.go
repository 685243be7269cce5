package control

import "time"

var began = time.Now()

// Now is the time since the process began. It goes forward only: a router
// learns the date some time after it has started.
func Now() time.Duration { return time.Since(began) }

// Rate lets a burst through at once, and after that one in a while. It is the
// time when the burst will be whole again; the zero value has its whole burst.
type Rate time.Duration

// Take tells whether there is one more now, and takes it.
func (r *Rate) Take(now time.Duration, burst int, every time.Duration) bool {
	due := max(time.Duration(*r), now) + every
	if due > now+time.Duration(burst)*every {
		return false
	}
	*r = Rate(due)
	return true
}
