package history_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bobosync/shared/event"
	"bobosync/shared/history"
)

// call returns a delivery by a call that was sent and answered at these seconds. If answered is 0, there was no answer,
// and AtHoc may have worked on the call until the second until.
func call(id string, on bool, sent, answered, until int64) event.Delivery {
	t := event.Delivery{User: "u", On: on, At: 1, Outcome: event.Applied, Call: event.Call{ID: id, Sent: sent * 1000, Answered: answered * 1000}}
	if answered == 0 {
		t.Outcome, t.Until = event.Pending, until*1000
	}

	return t
}

func TestAt(t *testing.T) {
	on, off := call("a", true, 10, 11, 0), call("b", false, 20, 21, 0)
	lost := call("c", true, 30, 0, 60)

	refused := call("d", true, 25, 26, 0)
	refused.Outcome = event.UnknownUser
	early, late := call("e", false, 40, 41, 0), call("f", false, 61, 62, 0)
	info := event.HistoryInfo{From: time.Unix(5, 0)}
	gap := event.HistoryInfo{From: time.Unix(5, 0), Gaps: []event.Gap{{From: 23_000, To: 24_000}}}
	for _, c := range []struct {
		name       string
		deliveries []event.Delivery
		info       event.HistoryInfo
		at         int64
		want       history.State
	}{
		{"before the history begins", []event.Delivery{on}, info, 4, history.Unknown},
		{"nothing was told yet", []event.Delivery{on}, info, 9, history.Unknown},
		{"the first call is under way", []event.Delivery{on}, info, 10, history.Uncertain},
		{"from the answer on", []event.Delivery{on, off}, info, 11, history.On},
		{"until the next call", []event.Delivery{on, off}, info, 19, history.On},
		{"which AtHoc may have taken before its answer was read", []event.Delivery{on, off}, info, 20, history.Uncertain},
		{"unless it says the same", []event.Delivery{on, call("b", true, 20, 21, 0)}, info, 20, history.On},
		{"the publisher was frozen while it waited for the answer", []event.Delivery{off, call("c", true, 30, 40, 0)}, info, 39, history.Uncertain},
		{"it was frozen, and another one went on", []event.Delivery{call("b", false, 20, 40, 0), call("c", true, 30, 31, 0)}, info, 35, history.On},
		{"then no more", []event.Delivery{off, on}, info, 21, history.Off},
		{"a refusal changes nothing", []event.Delivery{on, off, refused}, info, 27, history.Off},
		{"before a call without an answer", []event.Delivery{on, off, lost}, info, 29, history.Off},
		{"from when it was sent", []event.Delivery{on, off, lost}, info, 30, history.Uncertain},
		{"also behind an answer, while AtHoc may be at work on it", []event.Delivery{on, off, lost, early}, info, 50, history.Uncertain},
		{"also later, since nobody told it again", []event.Delivery{on, off, lost, early}, info, 70, history.Uncertain},
		{"until it was told again when AtHoc was done", []event.Delivery{on, off, lost, early, late}, info, 62, history.Off},
		{"it says what AtHoc holds anyway", []event.Delivery{on, call("c", true, 12, 0, 60)}, info, 15, history.On},
		{"nothing else was ever told", []event.Delivery{lost}, info, 35, history.Uncertain},
		{"the answer was found later", []event.Delivery{on, call("b", false, 20, 0, 60), off}, info, 25, history.Off},
		{"answers were lost", []event.Delivery{on, off}, gap, 23, history.Uncertain},
		{"before they were", []event.Delivery{on, off}, gap, 22, history.Off},
		{"and it was told again", []event.Delivery{on, off, early}, gap, 41, history.Off},
		{"its publisher was frozen and read the answer late", []event.Delivery{call("b", false, 20, 40, 0), call("c", true, 30, 31, 0)}, info, 50, history.On},
		{"nothing is known and nothing was", nil, info, 50, history.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := history.At(c.deliveries, c.info, time.Unix(c.at, 0))
			require.Equal(t, c.want, got.State)
			require.Equal(t, got, history.At(append(c.deliveries, c.deliveries...), c.info, time.Unix(c.at, 0)), "what is there twice counts once")
		})
	}

	require.Equal(t, "b", history.At([]event.Delivery{on, off}, info, time.Unix(15, 0)).Next.Call.ID)
}

// TestWhatSettlesIsEnough: the result for a moment is the same without the deliveries before one that settles them.
func TestWhatSettlesIsEnough(t *testing.T) {
	const longest = 30 * time.Second
	rapid.Check(t, func(t *rapid.T) {
		var deliveries []event.Delivery
		at := int64(10)
		for i := range rapid.IntRange(1, 12).Draw(t, "calls") {
			at += rapid.Int64Range(1, 20).Draw(t, "pause")
			answered := at + rapid.Int64Range(0, 1).Draw(t, "took")
			if rapid.Bool().Draw(t, "lost") {
				answered = 0
			}

			deliveries = append(deliveries, call(string(rune('a'+i)), rapid.Bool().Draw(t, "on"), at, answered, at+rapid.Int64Range(1, 30).Draw(t, "late")))
			at = max(at, answered)
		}

		moment := time.Unix(at+1, 0)
		want := history.At(deliveries, event.HistoryInfo{}, moment)
		for first := range deliveries {
			for _, later := range deliveries[first+1:] {
				if history.Settles(later, deliveries[first], longest) {
					require.Equal(t, want.State, history.At(deliveries[first:], event.HistoryInfo{}, moment).State)
					require.ElementsMatch(t, want.Doubts, history.At(deliveries[first:], event.HistoryInfo{}, moment).Doubts)
					break
				}
			}
		}
	})
}
