package ledger

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/shared/event"
)

// counted returns the counts from a walk through all records. The stats must be equal to them without such a walk.
func counted(t testing.TB, l *Ledger, now time.Time) Stats {
	t.Helper()

	files, err := l.Files()
	if err != nil {
		t.Fatal(err)
	}

	want := Stats{Today: Counts{Codes: map[Code]int{}}}
	for _, f := range files {
		if f.Status == Reading || f.Status == Waiting {
			want.Waiting++
			want.Rows += max(f.Pending(), 0)
			if want.Oldest.IsZero() || f.FirstSeen.Before(want.Oldest) {
				want.Oldest = f.FirstSeen
			}
		} else if dayOf(f.Finished) == dayOf(now) {
			want.Today.add(viewOf(f), 1)
		}
	}

	return want
}

func sameStats(a, b Stats) bool {
	return a.Waiting == b.Waiting && a.Rows == b.Rows && a.Oldest.Equal(b.Oldest) && a.Today.Done == b.Today.Done &&
		a.Today.Failed == b.Today.Failed && a.Today.Rows == b.Today.Rows && a.Today.Rejected == b.Today.Rejected &&
		maps.Equal(a.Today.Codes, b.Today.Codes)
}

// TestStatsComeToTheSameAsAWalk compares the stats with a walk over any sequence of commits, some of them rolled
// back, with a restart in between. The reported changes must add up to the codes of all rows.
func TestStatsComeToTheSameAsAWalk(t *testing.T) {
	t.Parallel()

	if testing.Short() {
		t.Skip("thousands of commits take seconds")
	}

	dir := t.TempDir()
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		path := filepath.Join(dir, fmt.Sprint(run, ".db"))

		l := open(t, path)
		defer func() { _ = l.Close() }() // the file is thrown away

		now, made, told := noon, 0, map[Code]int{}
		finished := 0
		count := func(c Change) {
			for code, n := range c.Rows {
				told[code] += n
			}

			if c.Finished {
				finished++
			}
		}
		l.OnChange(count)

		some := func() *File {
			if made == 0 {
				rt.Skip()
			}
			return get(t, l, idFor(fmt.Sprint(rapid.IntRange(1, made).Draw(rt, "file"))))
		}
		update := func(fn func(tx *Tx) error) {
			fail := rapid.IntRange(0, 4).Draw(rt, "fails") == 0
			err := l.Update(func(tx *Tx) error {
				if err := fn(tx); err != nil || !fail {
					return err
				}
				return errRolledBack
			})
			if err != nil && !errors.Is(err, errRolledBack) {
				rt.Fatal(err)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"new file": func(rt *rapid.T) {
				made++
				codes := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0, byte(bobocsv.Date), byte(NoRow)}), 0, 6).Draw(rt, "codes")
				f := &File{ID: idFor(fmt.Sprint(made)), Name: "x", Status: Reading, FirstSeen: now, Copies: []Copy{{Name: "x", Found: now}}}

				err := l.Update(func(tx *Tx) error {
					_, err := tx.Rows(f.ID).Add(0, codes, nil)
					if err == nil {
						err = tx.Put(f)
					}

					if err == nil && rapid.Bool().Draw(rt, "whole") {
						err = tx.Complete(f, len(codes), now)
					}

					return err
				})
				if err != nil {
					rt.Fatal(err)
				}
			},
			"outcomes": func(rt *rapid.T) {
				f := some()

				outcome := rapid.SampledFrom([]event.Outcome{event.Applied, event.Dead, event.Unmapped}).Draw(rt, "outcome")
				lines := rapid.SliceOfNDistinct(rapid.IntRange(1, 6), 1, 6, rapid.ID).Draw(rt, "lines")
				ack := rowsAck(f.ID, outcome, lines...)
				if _, err := l.Settle([]*event.Acks{ack, ack}, now); err != nil {
					rt.Fatal(err)
				}
			},
			"closed": func(*rapid.T) {
				id := some().ID
				update(func(tx *Tx) error {
					f, err := tx.File(id)
					if err != nil || f.Status == Done || f.Status == Moved {
						return err
					}

					return tx.Abandon(f, Vanished, now)
				})
			},
			"moved": func(*rapid.T) {
				id := some().ID
				update(func(tx *Tx) error {
					f, err := tx.File(id)
					if err != nil || f.Status != Done {
						return err
					}

					f.MarkMoved("x", "/done/x", f.Copies[0].Stat, false, now)

					return tx.Put(f)
				})
			},
			"time": func(rt *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(1, 30).Draw(rt, "hours")) * time.Hour) },
			"restart": func(*rapid.T) {
				if err := l.Close(); err != nil {
					rt.Fatal(err)
				}

				l = open(t, path)
				l.OnChange(count)
			},
			"": func(rt *rapid.T) {
				if got, want := l.Stats(now, nil), counted(t, l, now); !sameStats(got, want) {
					rt.Fatalf("the census is %+v, a walk counts %+v", got, want)
				}

				sum, done := map[Code]int{}, 0

				files, err := l.Files()
				if err != nil {
					rt.Fatal(err)
				}

				for _, f := range files {
					for code, n := range f.Codes {
						sum[code] += n
					}

					if f.Status == Done || f.Status == Moved {
						done++
					}
				}

				for code, n := range sum { // a repaired row was reported twice, with different outcomes
					if told[code] < n || code != Code(event.Dead) && told[code] != n {
						rt.Fatalf("told of %v, the rows are %v", told, sum)
					}
				}

				if done != finished {
					rt.Fatalf("told of %d finished files, there are %d", finished, done)
				}
			},
		})
	})
}

var errRolledBack = errors.New("rolled back")

func TestRemovedFilesStayCountedToday(t *testing.T) {
	t.Parallel()

	l := fresh(t)
	f := store(t, l, "a.csv", []byte{byte(bobocsv.Date)})
	waiting := store(t, l, "b.csv", []byte{0})
	if err := l.Update(func(tx *Tx) error { return tx.Remove(f.ID) }); err != nil {
		t.Fatal(err)
	}

	if c := l.Stats(noon, nil); c.Today.Done != 1 || c.Today.Rejected != 1 || c.Waiting != 1 {
		t.Errorf("census %+v", c)
	}

	if err := l.Update(func(tx *Tx) error { return tx.Remove(waiting.ID) }); err != nil {
		t.Fatal(err)
	}

	if c := l.Stats(noon, nil); c.Waiting != 0 || !c.Oldest.IsZero() {
		t.Errorf("census %+v", c)
	}
}

// TestAClockThatWasPutBack: a file that by its record arrived later than now still holds the watermark back, from the
// time at which this was noticed, whatever becomes of its rows. The newest file did not arrive later than now either.
func TestAClockThatWasPutBack(t *testing.T) {
	t.Parallel()

	l := fresh(t)
	f := store(t, l, "a.csv", []byte{0, 0})
	seen := noon.Add(-time.Hour)
	for i := range 3 {
		now := seen.Add(time.Duration(i) * time.Minute)
		if c := l.Stats(now, nil); !c.FirstArrival.Equal(seen) || c.Newest.After(now) {
			t.Errorf("after %d minutes the file came at %s, the last one at %s", i, c.FirstArrival, c.Newest)
		}

		settle(t, l, rowsAck(f.ID, event.Superseded, 1))
	}
}

func TestAfterWalksThroughAllFiles(t *testing.T) {
	t.Parallel()

	l := fresh(t)
	want := map[string]bool{}
	for i := range 25 {
		want[store(t, l, fmt.Sprint(i), nil).ID] = true
	}

	for after := ""; ; {
		files, err := l.After(after, 4)
		if err != nil || len(files) > 4 {
			t.Fatal(len(files), err)
		}

		if len(files) == 0 {
			break
		}

		for _, f := range files {
			if f.ID <= after || !want[f.ID] {
				t.Fatalf("%s after %s", f.ID, after)
			}

			delete(want, f.ID)
			after = f.ID
		}
	}

	if len(want) != 0 {
		t.Errorf("%d files were left out", len(want))
	}
}

func TestForgetRowsKeepsTheCounts(t *testing.T) {
	t.Parallel()

	l := fresh(t)
	f := store(t, l, "a.csv", append(make([]byte, 2*ChunkLines), byte(bobocsv.Date)))
	other := store(t, l, "b.csv", []byte{0})
	if err := l.Update(func(tx *Tx) error { return tx.Rows(f.ID).Forget() }); err != nil {
		t.Fatal(err)
	}

	for id, want := range map[string]int{f.ID: 0, other.ID: 1} {
		n := 0
		for _, err := range l.Rows(id, func(Code) bool { return true }) {
			if err != nil {
				t.Fatal(err)
			}

			n++
		}

		if n != want {
			t.Errorf("%d rows, want %d", n, want)
		}
	}

	if f = get(t, l, f.ID); f.Rows != 2*ChunkLines+1 || f.Rejected != 1 {
		t.Errorf("record %+v", f)
	}
}

// BenchmarkOpen measures opening a ledger with a month of 1,000 files a day, and asking for the stats.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "ingest.db")
	l := open(b, path)
	for i := range 30 {
		err := l.Update(func(tx *Tx) error {
			for j := range 1000 {
				f := &File{
					ID: idFor(fmt.Sprint(i, j)), Name: "export_2024.csv", Status: Moved, Finished: noon.AddDate(0, 0, i), FirstSeen: noon,
					Rows: 500, Codes: map[Code]int{1: 300, 2: 190, 33: 10}, Copies: []Copy{{Name: "export_2024.csv", MovedTo: "/data/done/export_2024.csv"}},
				}
				f.Note(noon, "found as export_2024.csv")
				f.Note(noon, "moved to /data/done/export_2024.csv")

				if err := tx.Put(f); err != nil {
					return err
				}

				if _, err := tx.Rows(f.ID).Add(0, make([]byte, 500), nil); err != nil {
					return err
				}
			}

			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}

	if err := l.Close(); err != nil {
		b.Fatal(err)
	}

	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			if err := open(b, path).Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	l = open(b, path)
	b.Run("census", func(b *testing.B) {
		for b.Loop() {
			l.Stats(noon.AddDate(0, 0, 29), nil)
		}
	})

	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}
