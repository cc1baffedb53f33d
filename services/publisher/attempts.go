package publisher

// This file has what a publisher records of its calls before it makes them, so that a call whose publisher was killed is known.

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/athoc"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// attempts are the calls of a delivery whose answers are not stored yet.
type attempts struct {
	kv   jetstream.KeyValue
	key  string
	open []event.Attempt
	// unmade: under the key may stand a call that was not made, since nobody knows whether the broker stored it.
	unmade bool
}

// begin records that a call is about to be made; first: it is the first of its delivery. When it returns nil, the broker has the record.
//
// The record of a delivery that could not store its answers stays under its key, as does that of a killed publisher: the resolver takes
// those calls for calls without an answer.
func (a *attempts) begin(ctx context.Context, attempt event.Attempt, first bool) error {
	if first && (len(a.open) > 0 || a.key == "") {
		a.open, a.key = nil, topology.CallsKey(uuid.NewString())
	}

	a.open = append(a.open, attempt)

	_, err := a.kv.Put(ctx, a.key, event.Encode(&event.Calling{Calls: a.open}))
	if err != nil {
		a.open, a.unmade = a.open[:len(a.open)-1], true
		return fmt.Errorf("write down a call that is about to be made: %w", err)
	}

	a.unmade = false

	return nil
}

// stored notes that the answers to all calls are stored, and deletes the record of a call that was not made. If it fails, the resolver
// takes these calls for calls without an answer until it finds the answers.
func (a *attempts) stored(ctx context.Context) error {
	if len(a.open) == 0 && !a.unmade {
		return nil
	}

	if _, err := a.kv.Put(ctx, a.key, nil); err != nil {
		return fmt.Errorf("note that calls have their answers: %w", err)
	}

	a.open, a.unmade = nil, false

	return nil
}

// newAttempt describes a call that is about to be made now.
func newAttempt(part []job, publisher string, now time.Time) event.Attempt {
	a := event.Attempt{
		Call: event.Call{ID: uuid.Must(uuid.NewV7()).String(), Publisher: publisher, Sent: now.UnixMilli(), Users: len(part)},
		Whom: make([]event.Sent, 0, len(part)),
	}
	files := map[string]int{"": 0}
	for _, j := range part {
		u := j.update
		at, seen := files[u.File]
		if !seen {
			a.Files = append(a.Files, u.File)
			at = len(a.Files)
			files[u.File] = at
		}

		a.Whom = append(a.Whom, event.Sent{User: u.User, Employee: u.Employee, On: !j.status.Since.IsZero(), At: u.At, File: at, Row: u.Version.Row})
	}

	return a
}

// statusOf is the HTTP status of a call that ended so; 0 if there was no answer.
func statusOf(err error) int {
	if err == nil {
		return http.StatusOK
	}

	if call, ok := err.(*athoc.CallError); ok { //nolint:errorlint // the client returns no other
		return call.Status
	}

	return 0
}
