package client

// What was done, gathered from all services that record it, newest first.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// Kinds of entries that are not in the janitor's journal, but come from ingest and the resolver.
const (
	KindFile   = "file"
	KindReplay = "replay"
)

// JournalKinds are all kinds of entries.
var JournalKinds = []string{
	KindFile, control.JobMapping, control.JobCleanup, control.JobReconcile, control.JobPurge, control.KindOperator, control.KindAudit, KindReplay, control.KindVerdict,
}

// JournalQuery selects journal entries.
type JournalQuery struct {
	// Kind, if not empty, is one of JournalKinds.
	Kind string
	// Since leaves out entries that began earlier. Most is the most entries to return, the newest ones.
	Since time.Time
	Most  int
}

// Journal gathers what was done from all services that record it, newest first. The errors of single services are in
// failed; err is set if none of them answers.
func Journal(ctx context.Context, conn *bus.Conn, f JournalQuery) (entries []control.JournalEntry, failed []error, err error) {
	all := []control.JournalEntry{} // JSON's null is not a list
	asked := 0
	for _, source := range []struct {
		has bool
		ask func(context.Context, *bus.Conn) ([]control.JournalEntry, error)
	}{
		{f.Kind == "" || f.Kind != KindFile && f.Kind != KindReplay, f.done},
		{f.Kind == "" || f.Kind == KindFile, f.files},
		{f.Kind == "" || f.Kind == KindReplay, replayEntries},
	} {
		if !source.has {
			continue
		}

		asked++

		some, err := source.ask(ctx, conn)
		if err != nil {
			failed = append(failed, err)
		}

		all = append(all, some...)
	}

	if len(failed) == asked {
		return nil, nil, errors.Join(failed...)
	}

	return latest(all, f.Since, f.Most), failed, nil
}

// latest sorts entries, newest first, and cuts them by age and number.
func latest(all []control.JournalEntry, since time.Time, most int) []control.JournalEntry {
	all = slices.DeleteFunc(all, func(e control.JournalEntry) bool { return e.Started.Before(since) })
	slices.SortStableFunc(all, func(a, b control.JournalEntry) int {
		return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(b.ID, a.ID))
	})

	return all[:min(len(all), most)]
}

// done asks the janitor for its journal, in parts.
func (f JournalQuery) done(ctx context.Context, conn *bus.Conn) ([]control.JournalEntry, error) {
	var all []control.JournalEntry
	req := control.JournalRequest{Kind: f.Kind, Since: f.Since}
	for {
		req.Most = min(f.Most-len(all), 200)

		answer, err := Ask[control.JournalAnswer](ctx, conn, topology.Janitor, control.Journal, req)
		if err != nil {
			return all, err
		}

		all = append(all, answer.Entries...)
		if !answer.More || len(answer.Entries) == 0 || len(all) >= f.Most {
			return all, nil
		}

		req.Before = answer.Entries[len(answer.Entries)-1].ID
	}
}

// files asks ingest for finished files.
func (f JournalQuery) files(ctx context.Context, conn *bus.Conn) ([]control.JournalEntry, error) {
	answer, err := AskFiles(ctx, conn, control.FilesRequest{Most: f.Most})
	if err != nil {
		return nil, err
	}

	var all []control.JournalEntry
	for _, file := range answer.Files {
		if !file.Finished.IsZero() {
			all = append(all, fileEntry(file))
		}
	}

	return all, nil
}

func fileEntry(f control.FileState) control.JournalEntry {
	e := control.JournalEntry{
		ID: f.ID, Kind: KindFile, Started: f.FirstSeen, Ended: f.Finished, Outcome: control.OutcomeOK, Text: f.Name,
		Counts: map[string]int{"rows": f.Rows}, Error: f.Problem,
	}
	if f.Failed {
		e.Outcome = control.OutcomeFailed
	}

	if f.Rejected > 0 {
		e.Counts["rejected"] = f.Rejected
	}

	for _, o := range event.Outcomes() {
		if n := f.Outcomes[o.String()]; n > 0 {
			e.Counts[o.String()] = n
		}
	}

	return e
}

func replayEntries(ctx context.Context, conn *bus.Conn) ([]control.JournalEntry, error) {
	replays, err := Ask[[]control.ReplayState](ctx, conn, topology.Resolver, control.Replays, control.Nothing{})
	if err != nil {
		return nil, err
	}

	all := make([]control.JournalEntry, 0, len(replays))
	for _, r := range replays {
		e := control.JournalEntry{
			ID: r.ID, Kind: KindReplay, By: r.By, Started: r.Started, Ended: r.Ended, Text: r.What,
			Counts: map[string]int{"users": r.Users, "left": r.Left},
		}
		switch {
		case r.Stopped:
			e.Outcome = control.OutcomeInterrupted
		case !r.Ended.IsZero():
			e.Outcome = control.OutcomeOK
		}

		all = append(all, e)
	}

	return all, nil
}

// ByClock says who did something that nobody ordered.
func ByClock(kind string) string {
	if kind == KindFile {
		return "-"
	}
	return "clock"
}

// WhatOf says in one line what was done.
func WhatOf(e control.JournalEntry) string {
	var parts []string
	for _, part := range []string{e.Text, countsOf(e), e.Error} {
		if part != "" {
			parts = append(parts, strings.ReplaceAll(part, "\n", " "))
		}
	}

	return strings.Join(parts, ": ")
}

// countsOf formats an entry's counts; for a file, its rows come first.
func countsOf(e control.JournalEntry) string {
	if e.Kind != KindFile {
		return Counts(e.Counts)
	}

	rest := maps.Clone(e.Counts)
	delete(rest, "rows")

	return strings.TrimSuffix(text.Count(e.Counts["rows"], "row")+", "+Counts(rest), ", ")
}

// Counts formats the counts of a journal entry that are not zero.
func Counts(c map[string]int) string {
	parts := make([]string, 0, len(c))
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if c[name] == 0 {
			continue
		}

		parts = append(parts, fmt.Sprintf("%d %s", c[name], strings.ReplaceAll(name, "_", " ")))
	}

	return strings.Join(parts, ", ")
}
