package intake

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/roster"
	"bobosync/shared/event"
)

// TestRowsOfARejectedMassChangeThatAreReadAgain: only those that were rejected are withheld. Those that a newer booking had beaten before
// are superseded, as they were told to be before the ledger was lost; and none of them counts as latest.
func TestRowsOfARejectedMassChangeThatAreReadAgain(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Unix()
	entry := func(row int, minutes int64, on bool) event.Entry {
		at := now + 60*minutes
		return event.Entry{Employee: "1", On: on, At: at, Rank: at, Row: row}
	}
	read := func(r *reducer, file string, sequence int64, e ...event.Entry) {
		require.NoError(t, r.add(event.Entries{File: file, Sequence: sequence, Entries: e}, time.Now()))
	}
	decided := &guard.Group{ID: "g", Kind: guard.Off}
	duty, beaten, held, newer := entry(2, 1, true), entry(2, 2, false), entry(3, 3, false), entry(2, 4, true)
	for name, c := range map[string]struct {
		newer bool // a newer booking came before the decision
		held  event.Outcome
	}{
		"the newest of them was rejected": {false, event.Withheld},
		"a newer booking took all places": {true, event.Superseded},
	} {
		var known *guard.Group
		var w latest.Worker
		lookup := func(string) (latest.Worker, error) { return w, nil }
		ofRow := func(file string, _ int) *guard.Group {
			if file == "mass" {
				return known
			}
			return nil
		}
		r := newReducer(lookup, ofRow, roster.RowOutcomes{})
		read(r, "a", 1, duty)
		r.workers["1"].Resolve("1", "user", event.ReasonEvent, time.Unix(now, 0), latest.Rules{})
		read(r, "mass", 2, beaten)
		r.workers["1"].Keep(latest.Hold{Group: "g", Seq: 1})
		read(r, "mass", 2, held)
		r.workers["1"].Keep(latest.Hold{Group: "g", Seq: 2})
		wins := duty
		if c.newer {
			read(r, "b", 3, newer)
			wins = newer
		} else {
			r.workers["1"].Reject()
		}
		known, w = decided, *r.workers["1"]
		known.Decision = &guard.Decision{Outcome: guard.Rejected}

		again := newReducer(lookup, ofRow, roster.RowOutcomes{})
		read(again, "mass", 2, beaten, held)
		require.Equal(t, wins.At, again.workers["1"].Latest.At, name)
		want := roster.RowOutcomes{}
		want.Add("mass", event.Superseded, beaten.Row)
		want.Add("mass", c.held, held.Row)
		require.Equal(t, want, again.settled, name)
	}
}
