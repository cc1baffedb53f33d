package breaker

// An operator's order not to call AtHoc for a while. It lies next to the state, under a key of its own: when a program
// of an older version writes the state, it drops whatever it does not know.

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/cas"
)

const (
	// PauseKey is the key of the pause, in the bucket of the state.
	PauseKey = "athoc.pause"
	// LongestPause is the longest that a pause may last.
	LongestPause = 24 * time.Hour
)

// Pause is an order not to call AtHoc until the pause ends, or until somebody resumes. Its times are by the broker's
// clock.
type Pause struct {
	// By is who ordered it, Reason why.
	By     string `json:"by"`
	Reason string `json:"reason"`
	// At is when it was ordered, Until when it ends by itself.
	At    time.Time `json:"at"`
	Until time.Time `json:"until"`
	// All holds back the janitor's reads as well as updates.
	All bool `json:"all,omitempty"`
	// Resumed is when an operator ended it early, and ResumedBy who that was; zero if nobody has.
	Resumed   time.Time `json:"resumed,omitzero"`
	ResumedBy string    `json:"resumed_by,omitempty"`
}

// InForce reports whether the pause is in force at the given time. A pause whose end is farther away than any can be is
// not in force: the clock was put back.
func (p *Pause) InForce(now time.Time) bool {
	return p != nil && p.Resumed.IsZero() && now.Before(p.Until) && p.Until.Sub(now) <= LongestPause+clockMargin
}

// Stops reports whether the pause holds back updates, or reads if updates is false.
func (p *Pause) Stops(updates bool, now time.Time) bool { return p.InForce(now) && (updates || p.All) }

// PauseHistory is what a process remembers of pauses across its sessions with the broker, to distinguish a pause that
// was lost from one that ended. The zero value remembers nothing. It is safe for concurrent use.
type PauseHistory struct {
	mu         sync.Mutex
	last, lost *Pause
}

// seen compares the pause that the broker holds with the last one seen, and returns the last one if it was lost.
func (h *PauseHistory) seen(p *Pause, now time.Time) (lost *Pause) {
	h.mu.Lock()
	defer h.mu.Unlock()

	if p == nil && h.last.InForce(now) {
		h.lost, lost = h.last, h.last
	} else if p != nil {
		h.lost = nil
	}

	h.last = p

	return lost
}

// Lost returns the pause that would still be in force if the broker had not lost it; nil if there is none.
func (h *PauseHistory) Lost(now time.Time) *Pause {
	h.mu.Lock()
	defer h.mu.Unlock()

	if !h.lost.InForce(now) {
		return nil
	}

	return h.lost
}

// Pauses gives access to the pause of a circuit breaker, which operators order. It is safe for concurrent use, except
// for Track.
type Pauses struct {
	kv      jetstream.KeyValue
	clock   *clock
	log     *slog.Logger
	history *PauseHistory
}

// Track keeps what is seen of pauses in h, beginning with the present one. It must be called before the first call is
// asked for.
func (s *Pauses) Track(ctx context.Context, h *PauseHistory) error {
	s.history = h
	_, err := s.Last(ctx)
	return err
}

// Last returns the last pause that was ordered, whether or not it is in force; nil if there was none.
func (s *Pauses) Last(ctx context.Context) (*Pause, error) {
	p, err := LoadPause(ctx, s.kv)
	if err != nil {
		return nil, err
	}

	if lost := s.history.seen(p, s.clock.now()); lost != nil {
		s.log.Error("the broker has lost an operator's pause with its state: AtHoc is called again; order the pause again if it is still wanted",
			"by", lost.By, "reason", lost.Reason, "until", lost.Until)
	}

	return p, nil
}

// LoadPause reads the pause that was ordered last, from the bucket of the state; nil if there was none.
func LoadPause(ctx context.Context, kv jetstream.KeyValue) (*Pause, error) {
	value, _, err := cas.Load(ctx, kv, PauseKey)
	return decodePause(value), err
}

// decodePause reads a pause. A pause that cannot be read counts as lost.
func decodePause(value []byte) *Pause {
	p := &Pause{}
	if len(value) == 0 || json.Unmarshal(value, p) != nil {
		return nil
	}

	return p
}

// stopped reports whether a pause holds back updates now, or reads if updates is false.
func (s *Pauses) stopped(ctx context.Context, updates bool) (bool, error) {
	p, err := s.Last(ctx)
	return p.Stops(updates, s.clock.now()), err
}

// Order orders p, which begins now, lasts for at most LongestPause, and replaces any earlier pause. All callers obey it
// from their next call on.
func (s *Pauses) Order(ctx context.Context, p Pause, lasts time.Duration) (*Pause, error) {
	p.At = s.clock.now()
	p.Until = p.At.Add(min(lasts, LongestPause))
	if err := s.store(ctx, func(*Pause) *Pause { return &p }); err != nil {
		return nil, err
	}

	s.log.Warn("AtHoc is not called: an operator has ordered a pause", "by", p.By, "reason", p.Reason, "until", p.Until, "all", p.All)

	return &p, nil
}

// Resume ends the pause that is in force, and returns it; nil if there is none.
func (s *Pauses) Resume(ctx context.Context, by string) (ended *Pause, err error) {
	err = s.store(ctx, func(p *Pause) *Pause {
		ended = nil
		if now := s.clock.now(); p.InForce(now) {
			p.Resumed, p.ResumedBy, ended = now, by, p
		}

		return ended
	})
	if err == nil && ended != nil {
		s.log.Info("AtHoc is called again: an operator has ended the pause", "by", by)
	}

	return ended, err
}

// store stores what change makes of the pause. If change returns nil, nothing is stored.
func (s *Pauses) store(ctx context.Context, change func(*Pause) *Pause) error {
	err := cas.Update(ctx, s.kv, PauseKey, func(old []byte) ([]byte, error) {
		after := change(decodePause(old))
		if after == nil {
			return nil, nil
		}

		return json.Marshal(after)
	})
	if err != nil {
		return fmt.Errorf("write the pause: %w", err)
	}

	_, err = s.Last(ctx)

	return err
}
