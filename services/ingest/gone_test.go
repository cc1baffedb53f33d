package ingest

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/intake"
	"bobosync/services/ingest/internal/ledger"
)

const (
	givenUp   = "was removed or changed before all of its rows"
	readAgain = "files wait although nothing is under way"
)

// impatient starts ingest with a stall detector that checks all the time, puts a file, and waits until its entries
// are lost.
func impatient(t *testing.T, text string) (*harness, *fakeResolver) {
	t.Helper()
	h := newHarness(t)
	h.tune.check, h.tune.stallTimeout = 20*time.Millisecond, 60*time.Millisecond
	r := h.resolve()
	r.mute(true)
	h.start()
	h.put("a.csv", text)
	eventually(t, "entries published and lost", func() bool { return r.lost() > 0 })

	return h, r
}

// settledAll checks that each row of the only file has got its outcome from the resolver.
func (h *harness) settledAll(n int) {
	h.t.Helper()

	f := h.files()["a.csv"]
	if f.Status == ledger.Done {
		// A reading that ended after the move has found the file once more, and ingest was stopped before it saw that
		// nothing is left there.
		h.start()
		f = h.files()["a.csv"]
	}

	if f.Rows != n || f.Rejected != 0 || f.Codes.Settled() != n || f.Status != ledger.Moved {
		h.t.Errorf("status %s, %d rows, %d rejected, outcomes %v", f.Status, f.Rows, f.Rejected, f.Codes)
	}
}

// TestDirectoryAwayIsNoFileGone checks that files are not given up while a network share is away.
func TestDirectoryAwayIsNoFileGone(t *testing.T) {
	h, r := impatient(t, rows("a", 2))
	away := h.cfg.CSVDirectory + ".away"
	if err := os.Rename(h.cfg.CSVDirectory, away); err != nil {
		t.Fatal(err)
	}

	before := h.log.Count(readAgain)
	eventually(t, "looked for in vain", func() bool { return h.log.Count(readAgain) > before+1 || h.log.Count(givenUp) > 0 })
	r.mute(false)

	if err := os.Rename(away, h.cfg.CSVDirectory); err != nil {
		t.Fatal(err)
	}

	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })

	if h.log.Count(givenUp) > 0 {
		t.Error("given up although only the directory was away")
	}

	h.settledAll(2)
}

// TestPutBack checks that a file that was given up is taken up again when it returns, under its own name or another
// one.
func TestPutBack(t *testing.T) {
	t.Parallel()

	for _, name := range []string{"a.csv", "b.csv"} {
		t.Run(name, func(t *testing.T) {
			h, r := impatient(t, rows("a", 2))
			kept := h.in("kept")
			if err := os.Rename(h.in("a.csv"), kept); err != nil {
				t.Fatal(err)
			}

			eventually(t, "given up", func() bool { return h.log.Count(givenUp) == 1 })
			r.mute(false)

			if err := os.Rename(kept, h.in(name)); err != nil { // its stat is the same as before
				t.Fatal(err)
			}

			eventually(t, "moved", func() bool { return there(h.done(name)) })
			h.settledAll(2)
		})
	}
}

// TestTouchedWhileItIsReadAgain checks that a file that waits is not given up when it is touched: its content lies
// there all the time.
func TestTouchedWhileItIsReadAgain(t *testing.T) {
	h := newHarness(t)
	h.tune.check, h.tune.stallTimeout = 20*time.Millisecond, 60*time.Millisecond
	r := h.resolve()
	r.mute(true)
	const n = intake.WindowLines + 5000
	var stored atomic.Int32
	h.tune.hit = func(at failpoint.Point) error {
		if at == failpoint.Stored && stored.Add(1) == 3 { // the first window of the second reading
			touch(t, h.in("a.csv"))
		}
		return nil
	}
	h.put("a.csv", rows("a", n))
	h.start()
	eventually(t, "given up or read again", func() bool { return h.log.Count(givenUp) > 0 || stored.Load() > 6 })

	if h.log.Count(givenUp) > 0 {
		t.Error("given up although its content lies there unchanged")
	}

	r.mute(false)
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	h.settledAll(n)
}

// TestTouchedWhileItIsReadFirst touches a file when a part of it is in the ledger already.
func TestTouchedWhileItIsReadFirst(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	const n = intake.WindowLines + 5000
	var once sync.Once
	h.tune.hit = func(at failpoint.Point) error {
		if at == failpoint.Stored {
			once.Do(func() { touch(t, h.in("a.csv")) })
		}
		return nil
	}
	h.put("a.csv", rows("a", n))
	h.start()
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	h.settledAll(n)
}

// TestStoppedWhileItIsRead stops ingest when a part of a file is in the ledger.
func TestStoppedWhileItIsRead(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	const n = intake.WindowLines + 5000
	reached, ending := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.tune.hit = func(at failpoint.Point) error {
		if at == failpoint.Published {
			once.Do(func() { close(reached); <-ending })
		}
		return nil
	}
	h.put("a.csv", rows("a", n))
	h.start()
	<-reached
	h.cancel()
	close(ending)
	h.end()
	h.start()
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	h.settledAll(n)
}

func touch(t *testing.T, path string) {
	t.Helper()

	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		t.Error(err)
	}
}
