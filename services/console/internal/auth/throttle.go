package auth

// How often a login may fail.

import (
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"
)

const (
	// failuresEach is how many failures an address may have with one name in throttleTime, and failuresAddress how many
	// with all names.
	failuresEach    = 5
	failuresAddress = 20
	throttleTime    = time.Minute
	// maxTried bounds how many addresses and names are remembered; beyond it everybody has to wait.
	maxTried = 20_000
)

type throttle struct {
	clock func() time.Time
	mu    sync.Mutex
	tries map[string][]time.Time
	swept time.Time
}

func newThrottle(clock func() time.Time) *throttle {
	return &throttle{clock: clock, tries: map[string][]time.Time{}}
}

// begin counts a try as a failure and returns true, or returns false if there were too many. After a success, forget
// takes the try back.
func (t *throttle) begin(address, name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()

	now := t.clock()
	if len(t.tries) >= maxTried && now.Sub(t.swept) >= time.Second {
		t.swept = now
		for key := range t.tries {
			t.recent(key, now)
		}
	}

	each, all := keys(address, name)
	if len(t.recent(each, now)) >= failuresEach || len(t.recent(all, now)) >= failuresAddress || len(t.tries) >= maxTried {
		return false
	}

	t.tries[each], t.tries[all] = append(t.tries[each], now), append(t.tries[all], now)

	return true
}

// forget takes back the last try of an address and name.
func (t *throttle) forget(address, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()

	each, all := keys(address, name)
	for _, key := range []string{each, all} {
		if tries := t.tries[key]; len(tries) > 1 {
			t.tries[key] = tries[:len(tries)-1]
		} else {
			delete(t.tries, key)
		}
	}
}

// recent drops the tries that are too old to count, and returns the others.
func (t *throttle) recent(key string, now time.Time) []time.Time {
	tries := t.tries[key]
	for len(tries) > 0 && now.Sub(tries[0]) >= throttleTime {
		tries = tries[1:]
	}

	if len(tries) == 0 {
		delete(t.tries, key)
		return nil
	}

	t.tries[key] = tries

	return tries
}

// keys returns the keys by which failures are counted. The owner of one IPv6 address has all of its /64. A name is
// whatever a stranger typed, and may be as long as a form; its hash takes the same room whatever the name.
func keys(address, name string) (each, all string) {
	if ip, err := netip.ParseAddr(address); err == nil && ip.Is6() && !ip.Is4In6() {
		if p, err := ip.Prefix(64); err == nil {
			address = p.String()
		}
	}

	sum := sha256.Sum256([]byte(name))

	return address + " " + string(sum[:]), address
}
