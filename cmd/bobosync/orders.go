package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"bobosync/shared/bus"
	"bobosync/shared/control"
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

// await waits until the janitor has done what it was asked for, and returns the journal's entry of it.
func await(ctx context.Context, nc *nats.Conn, id string) (control.JournalEntry, error) {
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

// finish waits for an order and returns its entry; that it was interrupted by Ctrl-C is told and ends the command.
func finish(ctx context.Context, conn *bus.Conn, stderr io.Writer, id string) (control.JournalEntry, error) {
	entry, err := await(ctx, conn.NC, id)
	if err != nil && ctx.Err() != nil {
		fmt.Fprintln(stderr, "bobosync: it goes on without being watched; bobosync journal shows its end")
		return entry, exitStatus(exitInterrupted)
	}
	return entry, err
}

// counts shows what a journal entry counts, as far as there is any of it.
func counts(c map[string]int) string {
	parts := make([]string, 0, len(c))
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if c[name] == 0 {
			continue
		}
		parts = append(parts, fmt.Sprintf("%d %s", c[name], strings.ReplaceAll(name, "_", " ")))
	}
	return strings.Join(parts, ", ")
}

// noteOrder has the janitor note in its journal what an operator did through another service. The order stands whether or not
// that succeeds. The text holds no personal data.
func noteOrder(ctx context.Context, conn *bus.Conn, stderr io.Writer, outcome, text string, counts map[string]int) {
	ctx, cancel := context.WithTimeout(ctx, noteWait)
	defer cancel()
	now := time.Now().UTC()
	_, err := control.Ask[control.Nothing](ctx, conn.NC, topology.Janitor, control.JournalNote, control.JournalEntry{
		Kind: control.KindOperator, By: whoami(), Started: now, Ended: now, Outcome: outcome, Counts: counts, Text: text,
	})
	if err != nil {
		fmt.Fprintf(stderr, "bobosync: warning: this is done, but the journal has no note of it: %v\n", err)
	}
}
