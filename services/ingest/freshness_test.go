package ingest

import (
	"context"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// freshness waits until the freshness that ingest reports satisfies holds, and returns it.
func (h *harness) freshness(what string, holds func(control.Freshness) bool) (f control.Freshness) {
	h.t.Helper()
	eventually(h.t, what, func() bool {
		s := h.state()
		if s.Freshness == nil {
			h.t.Fatal("no freshness in the state")
		}

		f = *s.Freshness

		return holds(f)
	})

	return f
}

// TestCompleteUpTo checks that the watermark stands at the arrival of the first file that waits, whatever the file
// waits for, and that it is now if none waits.
func TestCompleteUpTo(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.mute(true)

	h.cfg.MaxFileSize = 1 << 20
	began := time.Now()

	h.start()

	if f := h.freshness("idle", func(control.Freshness) bool { return true }); f.LagMS != 0 || f.Waiting != 0 || f.CompleteUpTo.Before(began) || f.Rows != 0 || f.Worst != nil {
		t.Errorf("idle: %+v", f)
	}

	if err := os.Mkdir(h.in("no file.csv"), 0o755); err != nil {
		t.Fatal(err)
	}

	before := time.Now()
	first, second := row("1"), row("2")
	h.put("first.csv", first)

	waits := func(f control.Freshness) bool { return f.Waiting == 1 && f.LagMS > 20 }
	f := h.freshness("the file waits", waits)
	if f.First != "first.csv" || f.CompleteUpTo.Before(before) || f.CompleteUpTo.After(time.Now()) {
		t.Errorf("complete up to %+v, the file came at %s", f, before)
	}

	h.put("second.csv", second)

	if f2 := h.freshness("two wait", func(f control.Freshness) bool { return f.Waiting == 2 }); !f2.CompleteUpTo.Equal(f.CompleteUpTo) || f2.LagMS < f.LagMS {
		t.Errorf("with a second file complete up to %+v, was %+v", f2, f)
	}

	h.end()
	h.start()

	f2 := h.freshness("waits after a restart", func(f control.Freshness) bool { return f.Waiting == 2 })
	if !f2.CompleteUpTo.Equal(f.CompleteUpTo) || f2.First != "first.csv" {
		t.Errorf("after a restart %+v, was %+v", f2, f)
	}

	h.put("too large.csv", strings.Repeat("#", 1<<20+1))
	h.freshness("a file that is not read waits as well", func(f control.Freshness) bool { return f.Waiting == 3 })
	r.mute(false)
	h.answer(idFor(first), "1", 7*time.Millisecond)
	h.answer(idFor(second), "2", 7*time.Millisecond)

	f = h.freshness("only that is left", func(f control.Freshness) bool { return f.Waiting == 1 })
	if f.First != "too large.csv" || f.Rows != 2 {
		t.Errorf("%+v", f)
	}

	if err := os.Remove(h.in("too large.csv")); err != nil {
		t.Fatal(err)
	}

	h.freshness("idle again", func(f control.Freshness) bool { return f.Waiting == 0 && f.LagMS == 0 })
}

// answer publishes AtHoc's confirmation of the first line of a file.
func (h *harness) answer(file, employee string, waited time.Duration) {
	h.t.Helper()
	h.resolver.publish(h.t.Context(), &event.Acks{Answers: []event.Answer{{
		User: "u" + employee, Employee: employee, File: file, Version: event.Version{Row: 1}, Outcome: event.Applied, On: true, Waited: waited.Milliseconds(),
	}}})
}

// TestWhatCameWhileIngestWasDown checks that a file that was put there before ingest started counts as waiting before
// it is read, with the time at which it was put there as its arrival.
func TestWhatCameWhileIngestWasDown(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	h.cfg.SettleTime = time.Hour
	h.put("early.csv", row("1"))

	after := time.Now()

	h.start()

	f := h.freshness("it waits", func(f control.Freshness) bool { return f.Waiting == 1 })
	if f.First != "early.csv" || f.CompleteUpTo.After(after) || f.CompleteUpTo.Before(after.Add(-time.Minute)) {
		t.Errorf("%+v, the file came before %s", f, after)
	}
}

// TestHowLongRowsTake checks the time that a row takes in all, its parts, and who waited longest.
func TestHowLongRowsTake(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.mute(true)
	h.start()

	text := row("7")
	h.put("one.csv", text)
	waited := h.freshness("it waits", func(f control.Freshness) bool { return f.Waiting == 1 && f.LagMS >= 100 && r.lost() == 1 }).LagMS
	h.answer(idFor(text), "007", 20*time.Millisecond)

	f := h.freshness("it is confirmed", func(f control.Freshness) bool { return f.Rows == 1 })
	w := f.Worst
	if w == nil || w.File != "one.csv" || w.Line != 1 || w.MS < waited || w.AtHoc != 20 || w.Settling < h.cfg.SettleTime.Milliseconds() ||
		f.Total.Worst != w.MS || f.Total.P50 > w.MS {
		t.Errorf("%+v, worst %+v", f, w)
	}

	h.answer(idFor(text), "007", time.Hour) // the same answer again is not another row

	answer, err := control.Ask[control.SlowestAnswer](t.Context(), h.conn.NC, topology.Ingest, control.Slowest, control.Nothing{})
	if err != nil || answer.Employee != "007" || answer.Row == nil || answer.Row.Line != 1 {
		t.Errorf("slowest %+v, %v", answer, err)
	}

	h.freshness("still one", func(f control.Freshness) bool { return f.Rows == 1 })
}

// TestWhatWaitsForAPersonIsCountedApart checks that a file whose open rows are all held does not hold the watermark
// back for as long as the resolver reports the hold, but that a file with another open row does.
func TestWhatWaitsForAPersonIsCountedApart(t *testing.T) {
	h := newHarness(t)
	h.resolve().mute(true)
	h.tune.check = 300 * time.Millisecond
	var mu sync.Mutex
	held := map[string]int{}

	stop, err := control.Serve(t.Context(), h.conn.NC, topology.Resolver, "test",
		control.OnEvery(control.State, func(context.Context, control.Nothing) (control.ResolverState, error) {
			mu.Lock()
			defer mu.Unlock()
			return control.ResolverState{Guard: &control.GuardState{Rows: maps.Clone(held)}}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()

	hold := func(id string, n int) {
		mu.Lock()
		defer mu.Unlock()

		held[id] = n
	}

	h.start()

	text := row("1") + row("2")
	h.put("crew.csv", text)
	h.freshness("it waits", func(f control.Freshness) bool { return f.Waiting == 1 && f.LagMS > 20 })
	hold(idFor(text), 1)

	f := h.freshness("one row is held", func(f control.Freshness) bool { return f.HeldRows == 1 })
	if f.Held != 0 || f.Waiting != 1 || f.LagMS == 0 {
		t.Errorf("with another row that waits: %+v", f)
	}

	hold(idFor(text), 2)

	f = h.freshness("all of it is held", func(f control.Freshness) bool { return f.Held == 1 })
	if f.HeldRows != 2 || f.Waiting != 0 || f.LagMS != 0 || f.First != "" {
		t.Errorf("nothing else waits: %+v", f)
	}

	h.put("other.csv", row("3"))
	h.freshness("another file waits", func(f control.Freshness) bool {
		return f.LagMS > 20 && f.First == "other.csv" && f.Waiting == 1 && f.Held == 1
	})
	hold(idFor(text), 0)
	h.freshness("they were decided about, and are not settled", func(f control.Freshness) bool { return f.First == "crew.csv" && f.Waiting == 2 && f.Held == 0 })
	hold(idFor(text), 2)
	h.freshness("held again", func(f control.Freshness) bool { return f.Held == 1 })
	stop()
	h.freshness("nobody says so any more", func(f control.Freshness) bool { return f.Held == 0 && f.Waiting == 2 })
}

// TestUnmappedRowsAreCountedApart checks that unmapped rows of the last hour are counted separately.
func TestUnmappedRowsAreCountedApart(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.mute(true)
	h.start()

	text := row("1")
	h.put("one.csv", text)
	h.freshness("it waits", func(f control.Freshness) bool { return f.Waiting == 1 && r.lost() == 1 })
	r.publish(t.Context(), &event.Acks{Rows: []event.FileRows{event.Settle(idFor(text), event.Unmapped, event.Rows(1))}})

	f := h.freshness("it is settled", func(f control.Freshness) bool { return f.Unmapped == 1 })
	if f.Rows != 0 {
		t.Errorf("%+v", f)
	}

	h.freshness("nothing waits", func(f control.Freshness) bool { return f.Waiting == 0 && f.LagMS == 0 })
}
