package dns

import (
	"sync"
	"time"
)

// cacheSize is how many names the proxy remembers; dnsmasq keeps its own cache
// in front of this one.
const cacheSize = 256

// key is one question to one peer as it was described at one time: after a
// change of the peer no old entry is found.
type key struct {
	peer string
	gen  uint64
	name string
}

// cache remembers answers for their TTL.
type cache struct {
	mu      sync.Mutex
	entries map[key]entry
}

type entry struct {
	answer answer
	until  time.Time
}

func newCache() *cache { return &cache{entries: make(map[key]entry)} }

// get is the answer that is still valid at now, with what is left of its TTL.
func (c *cache) get(k key, now time.Time) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[k]
	if !ok || !now.Before(e.until) {
		return answer{}, false
	}
	e.answer.ttl = e.until.Sub(now)
	return e.answer, true
}

// put keeps a for its TTL. When the cache is full, what has ended goes first,
// then anything.
func (c *cache) put(k key, a answer, now time.Time) {
	if a.ttl <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.entries[k]; !ok && len(c.entries) >= cacheSize {
		for old, e := range c.entries {
			if !now.Before(e.until) {
				delete(c.entries, old)
			}
		}
		for old := range c.entries {
			if len(c.entries) < cacheSize {
				break
			}
			delete(c.entries, old)
		}
	}
	c.entries[k] = entry{a, now.Add(a.ttl)}
}

// keep forgets every entry for which live is false.
func (c *cache) keep(live func(key) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.entries {
		if !live(k) {
			delete(c.entries, k)
		}
	}
}
