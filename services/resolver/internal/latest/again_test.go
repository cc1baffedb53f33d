package latest

import (
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"

	"bobosync/shared/event"
)

// life is a worker to whom everything happens in any order, and what the table of updates says of the worker.
type life struct {
	w Worker
	// history has the events that were taken, in the order in which they arrived; newest is the one that must win.
	history []Event
	newest  Event
	now     time.Time
	// sent has all updates that were published.
	sent []event.Update
}

// publish checks an update against those before it: never older, and never anything but an event that was taken.
func (l *life) publish(t *rapid.T, why string, u *event.Update) {
	if u == nil {
		return
	}

	if n := len(l.sent); n > 0 && u.Version.Compare(l.sent[n-1].Version) < 0 {
		t.Fatalf("%s went back from %v to %v", why, l.sent[n-1].Version, u.Version)
	}

	for _, e := range l.history {
		if e.Version == u.Version {
			if u.On && !e.On || u.At != e.At {
				t.Fatalf("%s sent %+v for %+v", why, u, e)
			}

			l.sent = append(l.sent, *u)

			return
		}
	}

	t.Fatalf("%s sent %v, which nobody booked", why, u.Version)
}

func (l *life) take(e Event) {
	l.w.Take(e, false)

	if l.newest.File == "" || e.Version.Compare(l.newest.Version) > 0 {
		l.newest = e
	}
}

func (l *life) resolve(t *rapid.T) {
	if l.w.Unresolved {
		u, _ := l.w.Resolve("007", "bond", event.ReasonEvent, l.now, rules)
		l.publish(t, "event", u)
	}
}

// TestNothingEverSendsAnOlderEvent: events, replays, late and lost answers, repeats, restarts and lost state stores
// happen in any order. No update is older than one before it, a replay sends the latest event and nothing else, and in
// the end AtHoc has been sent the latest.
func TestNothingEverSendsAnOlderEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := &life{now: noon}
		t.Repeat(map[string]func(*rapid.T){
			"event": func(t *rapid.T) {
				at := noon.Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "minutes")) * time.Minute).Unix()
				order := rapid.Int64Range(1, 3).Draw(t, "file")
				e := Event{
					Version: event.Version{Rank: at, Sequence: order, Row: len(l.history) + 1}, File: string(rune('a' + order)),
					On: rapid.Bool().Draw(t, "on"), At: at,
				}
				l.history = append(l.history, e)
				l.take(e)

				if rapid.Bool().Draw(t, "resolved") {
					l.resolve(t)
				}
			},
			"event again": func(t *rapid.T) {
				if len(l.history) == 0 {
					t.Skip()
				}

				l.take(rapid.SampledFrom(l.history).Draw(t, "event"))
			},
			"resolve": l.resolve,
			"answer": func(t *rapid.T) {
				if len(l.sent) == 0 {
					t.Skip()
				}

				u := rapid.SampledFrom(l.sent).Draw(t, "update")
				a := answer(&u, rapid.SampledFrom([]event.Outcome{
					event.Applied, event.Pending, event.Dead, event.UnknownUser, event.Expired,
				}).Draw(t, "outcome"))
				a.Answered = l.now.Unix()
				l.w.Answer(a, noon, rules)
			},
			"replay": func(t *rapid.T) {
				u := l.w.Again("007", "bond", event.ReasonReplay, l.now, rules)
				if u == nil && len(l.history) > 0 {
					t.Fatal("a known worker is left out of the replay")
				}

				if u != nil && u.Version != l.newest.Version {
					t.Fatalf("a replay sent %v, the latest is %v", u.Version, l.newest.Version)
				}

				l.publish(t, "replay", u)

				if rapid.Bool().Draw(t, "doubted") {
					l.w.Confirmed = nil
				}
			},
			"repeat": func(t *rapid.T) { l.publish(t, "repeat", l.w.Repeat("007", l.now)) },
			"time": func(t *rapid.T) {
				l.now = l.now.Add(time.Duration(rapid.IntRange(1, 30*3600).Draw(t, "seconds")) * time.Second)
			},
			"restart": func(t *rapid.T) {
				data, err := cbor.Marshal(l.w)
				if err != nil {
					t.Fatal(err)
				}

				l.w = Worker{}
				if err := cbor.Unmarshal(data, &l.w); err != nil {
					t.Fatal(err)
				}
			},
			"memory lost": func(t *rapid.T) {
				l.w = Worker{}
				if n := len(l.sent); n > 0 {
					l.w = Rebuilt(l.sent[n-1])
				}

				for _, i := range rapid.Permutation(indexes(len(l.history))).Draw(t, "order") {
					l.take(l.history[i])
				}
			},
			"": func(t *rapid.T) {
				got, want := l.w.Latest, l.newest
				if rules.Stale(want.On, want.At, l.now) {
					want.On = got.On // it may come from an update that cleared stale duty, which amounts to the same
				}

				if got != want {
					t.Fatalf("the latest is %+v, want %+v", l.w.Latest, l.newest)
				}
			},
		})

		if len(l.history) == 0 {
			return
		}

		l.resolve(t)
		l.publish(t, "replay", l.w.Again("007", "bond", event.ReasonReplay, l.now, rules))

		if last := l.sent[len(l.sent)-1]; last.Version != l.newest.Version {
			t.Fatalf("AtHoc was sent %v in the end, the latest is %v", last.Version, l.newest.Version)
		}
	})
}
