package control

import "time"

// Rate lets a burst through at once, and after that one in a while. The zero
// value has its whole burst.
type Rate struct{ due time.Time } // when the burst would be whole again

// Take tells whether there is one more now, and takes it.
func (r *Rate) Take(now time.Time, burst int, every time.Duration) bool {
	due := r.due
	if due.Before(now) {
		due = now
	}
	if due = due.Add(every); due.Sub(now) > time.Duration(burst)*every {
		return false
	}
	r.due = due
	return true
}
