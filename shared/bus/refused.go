package bus

// Requests that the broker refuses: it reports that on the connection, and not to the caller that waits for an answer.

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// ErrNotAllowed means that the broker does not let this user send what was to be sent.
var ErrNotAllowed = errors.New("the broker does not let this user do that")

// refusals holds the pending requests: how to end the context of each, by the subject in quotes, as the broker names
// it.
type refusals struct {
	mu     sync.Mutex
	asking map[*string]context.CancelCauseFunc
}

// Heed returns a context for a request. It ends, with ErrNotAllowed as its cause, when the broker refuses what is sent
// to subject, or anything at all if subject is empty: there will be no answer to wait for.
func (c *Conn) Heed(ctx context.Context, subject string) (context.Context, context.CancelFunc) {
	if subject != "" {
		subject = `"` + subject + `"`
	}

	ctx, cancel := context.WithCancelCause(ctx)
	r := &c.asking
	r.mu.Lock()
	defer r.mu.Unlock()

	if r.asking == nil {
		r.asking = map[*string]context.CancelCauseFunc{}
	}

	r.asking[&subject] = cancel

	return ctx, func() {
		r.mu.Lock()
		delete(r.asking, &subject)
		r.mu.Unlock()
		cancel(nil)
	}
}

func (r *refusals) notify(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}

	r.mu.Lock()
	defer r.mu.Unlock()

	for subject, cancel := range r.asking {
		if strings.Contains(err.Error(), *subject) {
			cancel(ErrNotAllowed)
		}
	}
}
