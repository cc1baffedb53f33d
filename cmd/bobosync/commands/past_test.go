package commands

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/history"
)

// TestTheHourThatComesTwice checks that a wall-clock time in the repeated hour is refused with both moments to choose
// from, and accepted with an offset.
func TestTheHourThatComesTwice(t *testing.T) {
	t.Parallel()

	london, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)

	now := time.Now().In(london)

	_, err = pastMoment("2026-10-25 01:30", now)
	require.ErrorContains(t, err, "say 2026-10-25T01:30:00+01:00 for the first time, or 2026-10-25T01:30:00Z for the second")

	for words, want := range map[string]string{
		"2026-10-25T01:30:00+01:00": "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z": "2026-10-25T01:30:00Z",
		"2026-10-25 00:59": "2026-10-24T23:59:00Z", "2026-10-25 02:00": "2026-10-25T02:00:00Z", "2026-06-17 03:12": "2026-06-17T02:12:00Z",
	} {
		got, err := pastMoment(words, now)
		require.NoError(t, err, words)
		require.Equal(t, want, got.UTC().Format(time.RFC3339), words)
	}

	none, err := pastMoment("", now)
	require.NoError(t, err)
	require.Zero(t, none)
}

// TestSentences checks a sentence for each thing that can be known of a moment.
func TestSentences(t *testing.T) {
	t.Parallel()

	zone := time.FixedZone("BST", 3600)
	at := func(second int) time.Time { return time.Date(2026, 6, 17, 18, 2, second, 0, time.UTC) }
	told := control.DeliveryAnswer{
		On: true, Booked: at(0), File: "f0123456789abc", Line: 17, Outcome: event.Applied.String(), Call: "0193", Sent: at(41), Answered: at(42),
	}
	next := control.DeliveryAnswer{Sent: at(50), Answered: at(51)}
	for want, a := range map[string]control.PastAnswer{
		"AtHoc was told on duty since 2026-06-17 19:02:00 BST (booked 2026-06-17 19:02:00 BST) at 2026-06-17 19:02:41 BST, call 0193, answered applied 2026-06-17 19:02:42 BST, north.csv line 17; not told otherwise until 2026-06-17 19:02:51 BST": {State: history.On, Confirmed: &told, Next: &next},
		"Nothing is known of that time: the history is complete from 2026-06-17 19:02:10 BST on":                                    {State: history.Unknown, At: at(5), CompleteFrom: at(10)},
		"AtHoc had been told nothing of this worker since the history begins, at 2026-06-17 19:02:10 BST; not told otherwise since": {State: history.Unknown, At: at(15), CompleteFrom: at(10)},
		"It is uncertain what AtHoc held: call 0194 told it off duty at 2026-06-17 19:02:20 BST, and no answer says whether it took that; not told otherwise since": {
			State: history.Uncertain, Doubts: []control.DeliveryAnswer{{Call: "0194", Sent: at(20)}},
		},
		"It is uncertain what AtHoc held: answers between 2026-06-17 19:02:20 BST and 2026-06-17 19:02:30 BST may have been lost; not told otherwise since": {
			State: history.Uncertain, Gaps: []control.Interval{{From: at(20), To: at(30)}},
		},
	} {
		require.Equal(t, want, a.Sentence(map[string]string{told.File: "north.csv"}, zone))
	}
}

// TestReceipts checks that each outcome has its call, or the reason why there was none.
func TestReceipts(t *testing.T) {
	t.Parallel()

	call := []control.DeliveryAnswer{{Call: "c"}}
	for _, c := range []struct {
		row        control.RowState
		deliveries []control.DeliveryAnswer
		known      bool
		why        string
	}{
		{control.RowState{Outcome: "applied"}, call, true, ""},
		{control.RowState{Outcome: "applied"}, nil, true, "no call was needed: AtHoc was known to hold that already"},
		{control.RowState{Outcome: "applied"}, nil, false, "the history does not reach back to it"},
		{control.RowState{Outcome: "superseded", Text: "a newer one won"}, nil, true, "a newer one won"},
		{control.RowState{Outcome: "superseded", Text: "a newer one won"}, call, true, ""},
	} {
		got := control.Receipt(c.row, c.deliveries, c.known)
		require.Equal(t, c.why, got.Why)
		require.Len(t, got.Calls, len(c.deliveries))
	}
}
