package latest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/event"
)

// TestWhatWasLostIsSentAfterARejection: the status before was lost with the broker's store, and then a newer event was
// held. When that event is rejected, or a person wants the duty to stay, the status before is sent again: otherwise it
// would count as under way for ever.
func TestWhatWasLostIsSentAfterARejection(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		lost  bool
		sends bool
	}{"it is out": {false, false}, "it was lost": {true, true}} {
		var w Worker
		before, _ := resolveNow(&w, booking(2, 1, true), "user")
		require.NotNil(t, before, name)

		if c.lost {
			w.Unresolved, w.Sending = true, true // as after the loss of the broker's store
		}

		off := booking(1, 2, false)
		w.Take(off, false)
		w.Keep(Hold{Group: "g"})
		require.Equal(t, &off, w.Reject(), name)
		require.Equal(t, c.sends, w.Unresolved, name)
		again, _ := w.Resolve("1", "user", "event", noon, rules)
		require.Equal(t, c.sends, again != nil, name)

		if again != nil {
			require.Equal(t, before.Version, again.Version, name)
			require.True(t, again.On, name)
		}
	}

	w := Worker{}
	resolveNow(&w, booking(2, 1, true), "user")
	w.Unresolved, w.Sending = true, true
	w.Keep(Hold{Group: "g"})
	w.KeepDuty()
	require.True(t, w.Unresolved)
}

// TestDutyThatAPersonWantsToStayIsKept: the duty's row gets an outcome if it has none yet, and whatever sends the
// status again later says that it must not be cleared on its way.
func TestDutyThatAPersonWantsToStayIsKept(t *testing.T) {
	t.Parallel()
	var w Worker
	first, _ := resolveNow(&w, booking(26, 1, true), "user")
	require.Nil(t, first, "it was never sent anything")

	w.Sent = &Sent{User: "user", File: "f", Version: booking(30, 0, true).Version, On: true, At: booking(30, 0, true).At}

	e := booking(25, 2, true) // newer than what AtHoc was sent, and stale as well
	w.Take(e, false)
	w.Keep(Hold{Group: "stale-1"})
	w.InDoubt = 1
	repeated := w
	u := repeated.Repeat("1", noon)
	require.True(t, u.On && u.Keep, "what is held is not cleared by the way")

	w.InDoubt = 0

	w.KeepDuty()
	require.True(t, w.Unresolved, "the row awaits its outcome")
	u, outcome := w.Resolve("1", "user", event.ReasonEvent, noon, rules)
	require.NotNil(t, u)
	require.Equal(t, event.Pending, outcome)
	require.Equal(t, []any{true, e.At, true}, []any{u.On, u.At, u.Keep})
	require.True(t, w.Answer(answer(u, event.Applied), noon, rules))
	require.False(t, w.Open)

	for _, reason := range []event.Reason{event.ReasonReplay, event.ReasonReconcile} {
		again := w
		u = again.Again("1", "user", reason, noon, rules)
		require.True(t, u.On && u.Keep, reason)
	}

	w.InDoubt = 1
	u = w.Repeat("1", noon)
	require.True(t, u.On && u.Keep)

	u, _ = resolveNow(&w, booking(1, 3, true), "user")
	require.True(t, u.On && !u.Keep, "a newer duty ages like any other")
}

// TestTheNewestOfWhatWasRejectedIsTakenIn: it is, in whatever order the rows are read again.
func TestTheNewestOfWhatWasRejectedIsTakenIn(t *testing.T) {
	t.Parallel()

	older, newer := booking(4, 1, false), booking(1, 2, false)
	for _, read := range [][]Event{{older, newer}, {newer, older}, {newer, older, newer}} {
		var w Worker
		w.Take(booking(2, 3, true), true)

		for _, e := range read {
			w.Withhold(e, "g")
		}

		latest, superseded := w.Readmit("g")
		require.True(t, latest)
		require.Nil(t, superseded)
		require.Equal(t, newer, w.Latest)
	}
}

// TestEachMassChangeThatWasRejectedCanBeTakenIn: a worker's event of one mass change does not disappear with that of
// another, whichever is newer, is rejected first or is accepted after all.
func TestEachMassChangeThatWasRejectedCanBeTakenIn(t *testing.T) {
	t.Parallel()

	duty, older, newer := booking(4, 1, true), booking(2, 2, false), booking(1, 3, false)
	for name, rejected := range map[string][]Event{"the newer one first": {newer, older}, "the older one first": {older, newer}} {
		var w Worker
		resolveNow(&w, duty, "user")

		for _, e := range rejected {
			w.Take(e, false)
			w.Keep(Hold{Group: e.File})
			require.Equal(t, &e, w.Reject(), name)
		}

		require.Equal(t, duty, w.Latest, name)

		for _, e := range rejected {
			one := w
			latest, superseded := one.Readmit(e.File)
			require.True(t, latest, name)
			require.Nil(t, superseded, name)
			require.Equal(t, e, one.Latest, name)
			_, again := one.WithheldWith(e.File)
			require.False(t, again, name)
			require.NotNil(t, one.Withheld, name)
		}
	}
}

func TestHowManyRejectedEventsAreKept(t *testing.T) {
	t.Parallel()

	var w Worker
	for i := range 2 * maxWithheld {
		w.Withhold(booking(4, int64(i), false), string(rune('a'+i)))
	}

	count := 0
	for h := w.Withheld; h != nil; h = h.Next {
		count++
	}

	require.Equal(t, maxWithheld, count)
	_, last := w.WithheldWith(string(rune('a' + 2*maxWithheld - 1)))
	require.True(t, last)
}

// TestABookingThatWasBeatenByARejectedOneCounts: the booking came from another file, before the rejected one or while
// that was held, and is newer than what AtHoc was sent. An older event is never sent, and nothing of the file that was
// rejected.
func TestABookingThatWasBeatenByARejectedOneCounts(t *testing.T) {
	t.Parallel()

	duty, between, held, ofHeldFile := booking(8, 1, true), booking(4, 2, true), booking(1, 3, false), booking(2, 3, false)
	ofHeldFile.Version.Row = 1
	heldFirst := booking(3, 4, false) // a held booking whose place the next one took
	for name, c := range map[string]struct {
		take []Event // the first one is sent; the others are not decided when the held one arrives
		wins Event
		sent bool
	}{
		"nothing came between":               {[]Event{duty, held}, duty, false},
		"it came before":                     {[]Event{duty, between, held}, between, true},
		"it came while the other was held":   {[]Event{duty, held, between}, between, true},
		"of two the newer one":               {[]Event{duty, held, between, booking(5, 5, false)}, between, true},
		"it is older than what was sent":     {[]Event{between, held, duty}, between, false},
		"it is of the file that is rejected": {[]Event{duty, ofHeldFile, held}, duty, false},
		"it was held as well":                {[]Event{duty, heldFirst, held}, duty, false},
	} {
		var w Worker
		resolveNow(&w, c.take[0], "user")

		for _, e := range c.take[1:] {
			if w.Take(e, false); e == held || e == heldFirst {
				w.Keep(Hold{Group: "g"})
			}
		}

		require.Equal(t, &held, w.Reject(), name)
		require.Equal(t, c.wins, w.Latest, name)
		require.Equal(t, c.sent, w.Unresolved, name)
		require.False(t, w.Open, name)

		if c.sent {
			u, _ := w.Resolve("007", "user", event.ReasonEvent, noon, rules)
			require.NotNil(t, u, name)
			require.Equal(t, c.wins.Version, u.Version, name)
		}
	}
}
