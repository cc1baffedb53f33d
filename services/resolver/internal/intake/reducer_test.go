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

// now is a Unix second before the bookings.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Unix()

// entry returns a booking of the one worker, some minutes after now.
func entry(row int, minutes int64, on bool) event.Entry {
	at := now + 60*minutes
	return event.Entry{Employee: "1", On: on, At: at, Rank: at, Row: row}
}

// TestRowsOfARejectedMassChangeThatAreReadAgain: only the rows that were rejected are withheld. Rows that a newer
// booking had superseded before the rejection are superseded again, as they were before the ledger was lost; and none
// of them counts as latest.
func TestRowsOfARejectedMassChangeThatAreReadAgain(t *testing.T) {
	t.Parallel()

	read := func(r *reducer, file string, sequence int64, e ...event.Entry) {
		require.NoError(t, r.add(event.Entries{File: file, Sequence: sequence, Entries: e}, time.Now()))
	}
	decided := &guard.Group{ID: "g", Kind: guard.Off}
	duty, beaten, held, newer := entry(2, 1, true), entry(2, 2, false), entry(3, 3, false), entry(2, 4, true)
	for name, c := range map[string]struct {
		newer bool // a newer booking arrived before the decision
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

// TestWhatWasHeldItselfDoesNotCountInstead: a newer held booking has taken the place of a held one, and is rejected.
// The older one, from another file, does not count then. Nor does it if its file was read again meanwhile, or if all
// files were, because the state store was lost.
func TestWhatWasHeldItselfDoesNotCountInstead(t *testing.T) {
	t.Parallel()

	duty, beaten, held := entry(2, 1, true), entry(2, 2, false), entry(2, 3, false)
	for name, c := range map[string]struct {
		lost     bool // the state store was lost before they are read again
		decision string
		counts   event.Entry
	}{
		"read again":                            {false, "", duty},
		"all is read again":                     {true, "", duty},
		"overtaken, and read again":             {false, guard.Overtaken, duty},
		"it was approved with others, and then": {false, guard.Approved, beaten},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			older := &guard.Group{ID: "older", Kind: guard.Off}
			var w latest.Worker
			lookup := func(string) (latest.Worker, error) { return w, nil }
			ofRow := func(file string, _ int) *guard.Group {
				return map[string]*guard.Group{"older": older, "newer": {ID: "newer", Kind: guard.Off}}[file]
			}
			read := func(file string, sequence int64, settled bool, e event.Entry) {
				r := newReducer(lookup, ofRow, roster.RowOutcomes{})
				require.NoError(t, r.add(event.Entries{File: file, Sequence: sequence, Settled: settled, Entries: []event.Entry{e}}, time.Now()))
				w = *r.workers["1"]
			}
			all := func(again bool) {
				read("duty", 1, again, duty)
				w.Resolve("1", "user", event.ReasonEvent, time.Unix(now, 0), latest.Rules{})
				read("older", 2, again, beaten)
				w.Keep(latest.Hold{Group: "older", Seq: 1})
				read("newer", 3, false, held)
				w.Keep(latest.Hold{Group: "newer", Seq: 1})
			}
			all(false)

			if c.decision != "" {
				older.Decision = &guard.Decision{Outcome: c.decision}
			}

			if c.lost {
				w = latest.Worker{}

				all(true)
			} else {
				read("older", 2, true, beaten)
			}

			w.Reject()
			require.Equal(t, c.counts.At, w.Latest.At)
		})
	}
}
