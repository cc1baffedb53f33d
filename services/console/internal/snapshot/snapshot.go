// Package snapshot polls the status of all services for everybody who views pages: once a second while somebody does,
// seldom otherwise. Many viewers cost the services as much as one.
package snapshot

import (
	"context"
	"sync"
	"time"

	"bobosync/shared/verdict"
)

const (
	// busy and idle are the times between two polls, with and without viewers.
	busy = time.Second
	idle = 15 * time.Second
	// fresh is how old a page's facts may be, and freshTimeout how long a page waits for newer ones.
	fresh        = 1500 * time.Millisecond
	freshTimeout = 2 * time.Second
)

// Snapshot is what is known at one moment.
type Snapshot struct {
	Facts   verdict.Facts
	Verdict verdict.Verdict
	// Known are the last facts that could be had: they differ from Facts only while the broker is away.
	Known verdict.Facts
	// Begun and Taken are when the poll began and ended, and Number counts the polls.
	Begun, Taken time.Time
	Number       int
}

// Collector keeps the latest snapshot. It may be used by several goroutines.
type Collector struct {
	observe func(context.Context) (verdict.Facts, error)
	wake    chan struct{}

	mu       sync.Mutex
	latest   Snapshot
	began    time.Time
	changes  time.Time // when something was last changed from this console
	watchers int
	changed  chan struct{}
}

// New returns a collector that polls with observe. Until the first poll has ended, its snapshot says that nobody can
// tell how things are.
func New(observe func(context.Context) (verdict.Facts, error)) *Collector {
	facts := verdict.Facts{At: time.Now(), Unreachable: &verdict.Unreachable{
		Cause: verdict.CauseBroker, Text: "the console has just started, and nobody has answered it yet", Do: "wait some seconds: it says then what is wrong, if anything is",
	}}
	first := Snapshot{Facts: facts, Verdict: judge(facts)}

	return &Collector{observe: observe, wake: make(chan struct{}, 1), changed: make(chan struct{}), latest: first}
}

func judge(facts verdict.Facts) verdict.Verdict {
	return verdict.Judge(facts, verdict.Limits{SilentAfter: verdict.DefaultSilentAfter})
}

// Run polls again and again until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-c.wake:
			if !c.wait(ctx) {
				return nil
			}
		}

		c.collect(ctx)
		timer.Reset(c.pause())
	}
}

// wait keeps the least time between two polls, unless something was changed from this console. It returns false if ctx
// ended.
func (c *Collector) wait(ctx context.Context) bool {
	c.mu.Lock()

	since := time.Since(c.began)
	if c.changes.After(c.began) {
		since = busy
	}
	c.mu.Unlock()

	select {
	case <-ctx.Done():
		return false
	case <-time.After(busy - since):
		return true
	}
}

func (c *Collector) pause() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.watchers > 0 {
		return max(busy-time.Since(c.began), 0)
	}

	return idle
}

// collect takes a snapshot and wakes those who wait for it.
func (c *Collector) collect(ctx context.Context) {
	c.mu.Lock()
	c.began = time.Now()
	c.mu.Unlock()

	facts, err := c.observe(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return
		}

		facts = verdict.Facts{At: time.Now(), Unreachable: &verdict.Unreachable{
			Cause: verdict.CauseBroker, Text: "the broker cannot be asked", Do: "check the console's settings NATS_URL, NATS_CREDS and NATS_CA", Err: err,
		}}
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	s := Snapshot{Facts: facts, Verdict: judge(facts), Known: facts, Begun: c.began, Taken: time.Now(), Number: c.latest.Number + 1}
	if !facts.Reached() {
		s.Known = c.latest.Known
	}

	c.latest = s
	close(c.changed)
	c.changed = make(chan struct{})
}

// Latest returns the latest snapshot, and a channel that is closed when there is another.
func (c *Collector) Latest() (Snapshot, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.latest, c.changed
}

// Fresh returns a snapshot for a page: a recent one that includes what was changed from this console, unless getting it
// takes too long.
func (c *Collector) Fresh(ctx context.Context) Snapshot {
	ctx, cancel := context.WithTimeout(ctx, freshTimeout)
	defer cancel()

	for {
		s, changed := c.Latest()
		if s.Number > 0 && time.Since(s.Taken) < fresh && !c.changedSince(s.Begun) {
			return s
		}

		c.hurry()

		select {
		case <-changed:
		case <-ctx.Done():
			s, _ = c.Latest()
			return s
		}
	}
}

// Changed records that something was changed from this console just now, so that no page shows what was there before.
func (c *Collector) Changed() {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.changes = time.Now()
}

func (c *Collector) changedSince(t time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changes.After(t)
}

// Watch makes the collector poll once a second until stop is called.
func (c *Collector) Watch() (stop func()) {
	c.add(1)
	c.hurry()
	return sync.OnceFunc(func() { c.add(-1) })
}

func (c *Collector) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.watchers += n
}

func (c *Collector) hurry() {
	select {
	case c.wake <- struct{}{}:
	default: // it is awake already
	}
}
