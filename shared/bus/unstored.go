package bus

// What the broker does not store any more: a stream that a full disk has frozen lets itself be read as before.

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Unstored is since when the broker has stored nothing of a family of subjects, and what it said last.
type Unstored struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// unstored keeps that by family of subjects. The zero value is ready.
type unstored struct {
	mu  sync.Mutex
	all map[string]Unstored
}

// note takes in how publishing ended. What the broker refuses for what the message says, or since its stream is not there or has
// reached its own limit, is told otherwise.
func (u *unstored) note(subject string, err error) {
	subject = family(subject)
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case err == nil, errors.Is(err, ErrWrongSequence), errors.Is(err, ErrNoAtomicPublish), errors.Is(err, ErrNoStream), isFullStream(err):
		delete(u.all, subject)
	case errors.Is(err, context.Canceled), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected):
	default:
		if u.all == nil {
			u.all = map[string]Unstored{}
		}
		now := u.all[subject]
		if now.Since.IsZero() {
			now.Since = time.Now().UTC()
		}
		now.Reason = err.Error()
		u.all[subject] = now
	}
}

// Unstored returns the families of subjects of which the broker has stored nothing since publishing to them first failed. It is empty
// while there is no connection.
func (c *Conn) Unstored() map[string]Unstored {
	if !c.Connected() {
		return nil
	}
	c.unstored.mu.Lock()
	defer c.unstored.mu.Unlock()
	return maps.Clone(c.unstored.all)
}
