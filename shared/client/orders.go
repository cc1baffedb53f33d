package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

const (
	// entryLook is how often the journal is asked whether an order is done.
	entryLook = 500 * time.Millisecond
	// janitorAway is how long the janitor may be away while an order is waited for: it may just be restarted.
	janitorAway = 40 * time.Second
	// noteWait is how long noting an order may take. The order itself is done already.
	noteWait = 3 * time.Second
)

// errEntryGone means that the janitor does not know an order that it took.
var errEntryGone = errors.New("the janitor's journal knows nothing of it any more; bobosync journal shows what it knows")

// Await waits until the janitor has done what it was asked for, and returns the journal's entry of it.
func Await(ctx context.Context, nc *nats.Conn, id string) (control.JournalEntry, error) {
	ticker := time.NewTicker(entryLook)
	defer ticker.Stop()
	heard := time.Now()
	for {
		answer, err := control.Ask[control.JournalAnswer](ctx, nc, topology.Janitor, control.Journal, control.JournalRequest{ID: id, Most: 1})
		switch {
		case ctx.Err() != nil:
			return control.JournalEntry{}, fmt.Errorf("it goes on without being watched; bobosync journal shows its end: %w", ctx.Err())
		case errors.Is(err, control.ErrNobody) && time.Since(heard) < janitorAway:
		case err != nil:
			return control.JournalEntry{}, err
		case len(answer.Entries) == 0:
			return control.JournalEntry{}, errEntryGone
		case !answer.Entries[0].Ended.IsZero():
			return answer.Entries[0], nil
		default:
			heard = time.Now()
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

// Note has the janitor note in its journal what an operator did through another service. The order stands whether or not
// that succeeds. The text holds no personal data.
func Note(ctx context.Context, conn *bus.Conn, stderr *text.Printer, outcome, what string, counts map[string]int) {
	ctx, cancel := context.WithTimeout(ctx, noteWait)
	defer cancel()
	now := time.Now().UTC()
	_, err := control.Ask[control.Nothing](ctx, conn.NC, topology.Janitor, control.JournalNote, control.JournalEntry{
		Kind: control.KindOperator, By: Whoami(), Started: now, Ended: now, Outcome: outcome, Counts: counts, Text: what,
	})
	if err != nil {
		stderr.Printf("bobosync: warning: this is done, but the journal has no note of it: %v\n", err)
	}
}
