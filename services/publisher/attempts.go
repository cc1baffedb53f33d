package publisher

// This file records a publisher's calls before they are made, so that a call whose publisher was killed is known.

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
	// unmade: the record under the key may contain a call that was not made, since nobody knows whether the broker
	// stored the call.
	unmade bool
}

// begin records that a call is about to be made; first reports that it is the first call of its delivery. When begin
// returns nil, the broker has the record.
//
// If a delivery could not store its answers, its record stays under its key, as does the record of a killed publisher:
// the resolver treats those calls as calls without an answer.
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

// stored notes that the answers to all calls are stored, and deletes the record, along with any call in it that was not
// made. If it fails, the resolver treats these calls as calls without an answer until it finds the answers.
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

// statusOf returns the HTTP status of a call that ended with err, or 0 if there was no answer.
func statusOf(err error) int {
	if err == nil {
		return http.StatusOK
	}

	if call, ok := err.(*athoc.CallError); ok { //nolint:errorlint // the client returns no other
		return call.Status
	}

	return 0
}
