package latest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bobosync/shared/event"
)

var (
	noon  = time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	rules = Rules{Lifetime: 24 * time.Hour, Lateness: time.Minute}
)

// booking returns an event from some hours before noon, from a file with the given place in the order of reading.
func booking(hoursAgo int, order int64, on bool) Event {
	at := noon.Add(-time.Duration(hoursAgo) * time.Hour).Unix()
	return Event{Version: event.Version{Rank: at, Sequence: order, Row: 2}, File: string(rune('a' + order)), On: on, At: at}
}

func answer(u *event.Update, o event.Outcome) event.Answer {
	return event.Answer{User: u.User, Employee: u.Employee, File: u.File, Version: u.Version, Outcome: o, On: u.On, At: u.At}
}

func TestTakeKeepsTheLatest(t *testing.T) {
	var w Worker
	first, second := booking(3, 1, true), booking(2, 2, false)

	disposition, beaten := w.Take(second, false)
	require.Equal(t, Newer, disposition)
	require.Nil(t, beaten)

	disposition, beaten = w.Take(first, false)
	require.Equal(t, Older, disposition, "a late file does not win")
	require.Nil(t, beaten)

	third := booking(1, 3, true)
	disposition, beaten = w.Take(third, false)
	require.Equal(t, Newer, disposition)
	require.Equal(t, second, *beaten, "its row waited and is superseded")

	disposition, _ = w.Take(third, false)
	require.Equal(t, Repeated, disposition)
}

func TestTakeAtTheSameSecond(t *testing.T) {
	var w Worker
	a, b := booking(1, 1, true), booking(1, 2, false)
	w.Take(b, false)
	disposition, _ := w.Take(a, false)
	require.Equal(t, Older, disposition, "the row that was read later wins, whichever comes first")
}

func TestTakeARowReadAgainInAnotherOrder(t *testing.T) {
	var w Worker
	e := booking(1, 5, true)
	w.Take(e, false)
	again := e
	again.Version.Sequence = 1
	disposition, beaten := w.Take(again, false)
	require.Equal(t, Repeated, disposition, "a row must not be superseded by itself")
	require.Nil(t, beaten)
	require.True(t, w.Open)
}

// resolveNow takes an event in and resolves it for the user.
func resolveNow(w *Worker, e Event, user string) (*event.Update, event.Outcome) {
	w.Take(e, false)
	return w.Resolve("007", user, event.ReasonEvent, noon, rules)
}

// TestAnAnswerFromBeforeARowWasReadAgainDoesNotSettleIt: ingest reads the row again because its ledger was lost, and
// with it that answer.
func TestAnAnswerFromBeforeARowWasReadAgainDoesNotSettleIt(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		stored time.Time
		waits  bool
	}{
		"before": {noon.Add(-time.Millisecond), true},
		"after":  {noon.Add(time.Millisecond), false},
	} {
		var w Worker
		e := booking(1, 1, true)
		u, _ := resolveNow(&w, e, "user")
		disposition, _ := w.Take(e, false)
		require.Equal(t, Repeated, disposition, name)
		w.ReadAgain(noon)
		again, outcome := w.Resolve("007", "user", event.ReasonEvent, noon, rules)
		require.NotNil(t, again, name)
		require.Equal(t, event.Pending, outcome, name)
		require.True(t, w.Answer(answer(u, event.Applied), c.stored, rules), name)
		require.NotNil(t, w.Confirmed, name)
		require.Equal(t, c.waits, w.Open, name)

		_, superseded := w.Take(booking(0, 2, false), false)
		require.Equal(t, c.waits, superseded != nil, name)
		require.Zero(t, w.Reread, name)
	}
}

func TestResolve(t *testing.T) {
	t.Run("a new event is sent and waits", func(t *testing.T) {
		var w Worker
		u, o := resolveNow(&w, booking(1, 1, true), "bond")
		require.Equal(t, event.Pending, o)
		require.Equal(t, "bond", u.User)
		require.True(t, u.On)
		require.True(t, w.Open)
	})
	t.Run("nobody has the employee id", func(t *testing.T) {
		var w Worker
		u, o := resolveNow(&w, booking(1, 1, true), "")
		require.Nil(t, u)
		require.Equal(t, event.Unmapped, o)
		require.True(t, w.Unmapped)

		u, _ = w.Resolve("007", "bond", event.ReasonMapped, noon, rules)
		require.NotNil(t, u, "the status is sent when the mapping comes")
		require.False(t, w.Unmapped)
	})
	t.Run("a late mapping does not bring stale duty up", func(t *testing.T) {
		var w Worker
		resolveNow(&w, booking(1, 1, true), "")
		u, _ := w.Resolve("007", "bond", event.ReasonMapped, noon.Add(48*time.Hour), rules)
		require.Nil(t, u)
	})
	t.Run("stale duty of a worker never sent is settled in silence", func(t *testing.T) {
		var w Worker
		u, o := resolveNow(&w, booking(25, 1, true), "bond")
		require.Nil(t, u)
		require.Equal(t, event.Expired, o)
		require.False(t, w.Open)
	})
	t.Run("stale duty that beats a value which was sent clears it", func(t *testing.T) {
		var w Worker
		resolveNow(&w, booking(40, 1, true), "bond")
		w.Sent = &Sent{User: "bond", Version: w.Latest.Version, On: true, At: w.Latest.At}
		u, o := resolveNow(&w, booking(30, 2, true), "bond")
		require.Equal(t, event.Expired, o)
		require.False(t, u.On)
	})
	t.Run("an old booking off is not stale", func(t *testing.T) {
		var w Worker
		u, o := resolveNow(&w, booking(100, 1, false), "bond")
		require.NotNil(t, u)
		require.Equal(t, event.Pending, o)
	})
	t.Run("without a lifetime nothing is stale", func(t *testing.T) {
		var w Worker
		w.Take(booking(9000, 1, true), false)
		u, _ := w.Resolve("007", "bond", event.ReasonEvent, noon, Rules{})
		require.True(t, u.On)
	})
	t.Run("a value that AtHoc holds is not sent again", func(t *testing.T) {
		var w Worker
		u, _ := resolveNow(&w, booking(3, 1, false), "bond")
		w.Answer(answer(u, event.Applied), noon, rules)
		require.False(t, w.Open)
		u, o := resolveNow(&w, booking(2, 2, false), "bond")
		require.Nil(t, u)
		require.Equal(t, event.Applied, o)
	})
	t.Run("a value is sent again if another is on its way", func(t *testing.T) {
		var w Worker
		off, _ := resolveNow(&w, booking(4, 1, false), "bond")
		w.Answer(answer(off, event.Applied), noon, rules)
		resolveNow(&w, booking(3, 2, true), "bond")
		u, o := resolveNow(&w, booking(2, 3, false), "bond")
		require.NotNil(t, u)
		require.Equal(t, event.Pending, o)
	})
	t.Run("the answer to an overtaken update confirms nothing", func(t *testing.T) {
		var w Worker
		on, _ := resolveNow(&w, booking(4, 1, true), "bond")
		off, _ := resolveNow(&w, booking(3, 2, false), "bond")
		w.Answer(answer(on, event.Applied), noon, rules)
		require.Nil(t, w.Confirmed)
		require.True(t, w.Unconfirmed())
		w.Answer(answer(off, event.Applied), noon, rules)
		require.False(t, w.Unconfirmed())
	})
	t.Run("an unknown user is tried again with the next event", func(t *testing.T) {
		var w Worker
		u, _ := resolveNow(&w, booking(3, 1, false), "bond")
		w.Answer(answer(u, event.UnknownUser), noon, rules)
		_, o := resolveNow(&w, booking(3, 1, false), "bond")
		require.Equal(t, event.UnknownUser, o, "the same row gets the same answer")

		u, _ = resolveNow(&w, booking(2, 2, false), "bond")
		require.NotNil(t, u)
	})
	t.Run("a worker who got another user is sent again", func(t *testing.T) {
		var w Worker
		u, _ := resolveNow(&w, booking(3, 1, true), "bond")
		w.Answer(answer(u, event.Applied), noon, rules)
		u, _ = w.Resolve("007", "james", event.ReasonMapped, noon, rules)
		require.Equal(t, "james", u.User)
	})
	t.Run("after a call that was given up the last status is sent once more", func(t *testing.T) {
		var w Worker
		on, _ := resolveNow(&w, booking(3, 1, true), "bond")
		inDoubt := answer(on, event.Pending)
		inDoubt.Answered = noon.Unix()
		require.True(t, w.Answer(inDoubt, noon, rules))
		require.True(t, w.Open, "nothing is settled by it")
		off, _ := resolveNow(&w, booking(2, 2, false), "bond")
		w.Answer(answer(off, event.Applied), noon, rules)
		require.Nil(t, w.Repeat("007", noon.Add(rules.Lateness-time.Second)))
		again := w.Repeat("007", noon.Add(rules.Lateness))
		require.Equal(t, off.Version, again.Version)
		require.False(t, again.On)
		require.Nil(t, w.Repeat("007", noon.Add(time.Hour)), "once")
	})
	t.Run("duty that expired at the publisher is known to be off", func(t *testing.T) {
		var w Worker
		u, _ := resolveNow(&w, booking(23, 1, true), "bond")
		a := answer(u, event.Expired)
		a.On = false
		w.Answer(a, noon, rules)
		u, o := resolveNow(&w, booking(2, 2, false), "bond")
		require.Nil(t, u)
		require.Equal(t, event.Applied, o)
	})
}

// TestALateAnswerDoesNotCloseARowThatIsReadAgain: ingest lost its ledger after it had received the answer, and asks for
// all rows again.
func TestALateAnswerDoesNotCloseARowThatIsReadAgain(t *testing.T) {
	var w Worker
	e := booking(1, 1, false)
	u, _ := resolveNow(&w, e, "bond")
	w.Take(e, false)
	require.True(t, w.Answer(answer(u, event.Applied), noon, rules))
	require.True(t, w.Open)
	again, o := w.Resolve("007", "bond", event.ReasonEvent, noon, rules)
	require.Nil(t, again)
	require.Equal(t, event.Applied, o)
	require.False(t, w.Open)
}

// TestAnyOrderComesToTheSame: in whatever order and however often events arrive, the latest wins, no update is older
// than one before it, and each row has its outcome or waits for the answer to the last update.
func TestAnyOrderComesToTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "events")
		events := make([]Event, n)
		for i := range events {
			at := noon.Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "minutes")) * time.Minute).Unix()
			order := rapid.Int64Range(1, 3).Draw(t, "file")
			events[i] = Event{
				Version: event.Version{Rank: at, Sequence: order, Row: i + 1}, File: string(rune('a' + order)),
				On: rapid.Bool().Draw(t, "on"), At: at,
			}
		}

		want := events[0]
		for _, e := range events {
			if e.Version.Compare(want.Version) > 0 {
				want = e
			}
		}

		arrivals := rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 2*n).Draw(t, "repeats")
		arrivals = append(arrivals, rapid.Permutation(indexes(n)).Draw(t, "order")...)

		var w Worker
		var last *event.Update
		settled := map[int]bool{}
		for _, i := range arrivals {
			disposition, beaten := w.Take(events[i], false)
			if beaten != nil {
				settled[beaten.Version.Row] = true
			}

			if disposition == Older {
				settled[events[i].Version.Row] = true
				continue
			}

			u, o := w.Resolve("007", "bond", event.ReasonEvent, noon, rules)
			if o != event.Pending {
				settled[w.Latest.Version.Row] = true
			}

			if u != nil {
				if last != nil && u.Version.Compare(last.Version) < 0 {
					t.Fatalf("update went back from %v to %v", last.Version, u.Version)
				}

				last = u
			}

			if last != nil && rapid.Bool().Draw(t, "answered") {
				w.Answer(answer(last, event.Applied), noon, rules)
				settled[last.Version.Row] = true
			}
		}

		if w.Latest != want {
			t.Fatalf("latest is %v, want %v", w.Latest, want)
		}

		for _, e := range events {
			if !settled[e.Version.Row] && !(w.Open && e == w.Latest) {
				t.Fatalf("row %d has no outcome and waits for none", e.Version.Row)
			}
		}
	})
}

func indexes(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}

	return out
}
