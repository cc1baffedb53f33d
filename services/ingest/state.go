package ingest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/control"
	"bobosync/shared/event"
)

// mostNamed bounds the names in a state, so that it stays small when something is wrong with thousands of files.
const mostNamed = 100

// state tells how ingest is doing.
func (s *service) state(context.Context, control.Nothing) (control.IngestState, error) {
	problems, err := s.ledger.Problems()
	if err != nil {
		return control.IngestState{}, err
	}
	c := s.ledger.Census(s.now())
	state := control.IngestState{
		Instance: control.Me(s.deps.Version, s.started),
		Waiting:  c.Waiting, Rows: c.Rows, Oldest: c.Oldest, LastFile: c.Newest,
		Unsettled: first(s.watcher.Changing(), time.Time.Compare), Problems: map[string]control.Problem{},
		Directories: s.dirs.state(), FreeBytes: s.freeBytes(),
		Today: control.FileCounts{
			Done: c.Today.Done, Failed: c.Today.Failed, Rows: c.Today.Rows, Rejected: c.Today.Rejected, Outcomes: map[string]int{},
		},
	}
	for code, n := range c.Today.Codes {
		state.Today.Outcomes[code.String()] = n
	}
	for name, p := range first(problems, func(a, b ledger.Problem) int { return a.Since.Compare(b.Since) }) {
		state.Problems[name] = control.Problem{Reason: p.Reason, Since: p.Since}
	}
	return state, nil
}

// first returns the first values of a map, by the order of compare, with their names.
func first[V any](all map[string]V, compare func(a, b V) int) map[string]V {
	if len(all) <= mostNamed {
		return all
	}
	names := slices.SortedFunc(maps.Keys(all), func(a, b string) int { return cmp.Or(compare(all[a], all[b]), cmp.Compare(a, b)) })
	for _, name := range names[mostNamed:] {
		delete(all, name)
	}
	return all
}

// count passes on to the metrics what became of rows and files.
func (s *service) count(c ledger.Change) {
	for code, n := range c.Rows {
		if code.Settled() {
			s.metrics.RowsSettled(event.Outcome(code), n)
		} else {
			s.metrics.RowsRejected(code.String(), n)
		}
	}
	if c.Finished {
		s.metrics.FileFinished(c.Failed)
	}
}
