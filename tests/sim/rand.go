package sim

import "time"

// Rand is a small random number generator of our own (splitmix64): the same
// seed means the same run with every version of Go.
type Rand struct{ s uint64 }

// NewRand makes a generator; stream tells generators of one seed apart.
func NewRand(seed, stream uint64) *Rand {
	r := &Rand{seed*0x9e3779b97f4a7c15 ^ stream*0xd1342543de82ef95}
	r.Uint64()
	return r
}

// Uint64 is a random number.
func (r *Rand) Uint64() uint64 {
	r.s += 0x9e3779b97f4a7c15
	z := r.s
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Intn is a number from 0 to n-1.
func (r *Rand) Intn(n int) int { return int(r.Uint64() % uint64(n)) }

// Chance is true once in 1/p times.
func (r *Rand) Chance(p float64) bool { return float64(r.Uint64()>>11)/(1<<53) < p }

// Between is a time from a to b, both included.
func (r *Rand) Between(a, b time.Duration) time.Duration {
	return a + time.Duration(r.Uint64()%uint64(b-a+1))
}

func pick[T any](r *Rand, xs []T) T { return xs[r.Intn(len(xs))] }

func shuffle[T any](r *Rand, xs []T) {
	for i := len(xs) - 1; i > 0; i-- {
		j := r.Intn(i + 1)
		xs[i], xs[j] = xs[j], xs[i]
	}
}
