package intake

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/services/ingest/internal/content"
	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/event"
)

type noMetrics struct{}

func (noMetrics) EntriesPublished(int)   {}
func (noMetrics) FileRead(time.Duration) {}

func newIntake(t *testing.T, finished func(...*ledger.File)) *Intake {
	t.Helper()

	l, err := ledger.Open(filepath.Join(t.TempDir(), "ingest.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})

	return &Intake{
		Ledger: l, Log: slog.New(slog.DiscardHandler), Zone: time.UTC, Now: time.Now, Hit: failpoint.None, Metrics: noMetrics{},
		Finished: finished, Retry: func(string) {},
	}
}

// TestMovedWhileItIsReadAgain: a file may get its last outcome and be moved between being read again and that reading
// being stored. Then it is offered to the mover again, which finds that nothing is left where it lay. Otherwise the
// ledger would wait for a move forever.
func TestMovedWhileItIsReadAgain(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	path := filepath.Join(dir, "a.csv")
	if err := os.WriteFile(path, []byte("BON,1,P,20240617,143000,20240617143000,1,2,3,4\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	var finished []*ledger.File
	in := newIntake(t, func(files ...*ledger.File) { finished = append(finished, files...) })
	l := in.Ledger
	publish := func(context.Context, []*message.Message) error { return nil }

	c, err := content.Open(t.Context(), path, content.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	seen := ledger.Copy{Name: "a.csv", Stat: c.Stat}
	first := in.NewGroup(publish)
	if err := first.Read(t.Context(), c, &Reading{File: in.NewFile("a.csv", c), New: true, Copy: &seen}); err != nil {
		t.Fatal(err)
	}

	if err := first.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}

	waiting, err := l.File(c.ID)
	if err != nil {
		t.Fatal(err)
	}

	again := in.NewGroup(publish)
	if err := again.Read(t.Context(), c, &Reading{File: waiting, Again: true, Copy: &seen}); err != nil {
		t.Fatal(err)
	}

	acks := &event.Acks{Rows: []event.FileRows{event.Settle(c.ID, event.Applied, event.Rows(1))}}
	if done, err := l.Settle([]*event.Acks{acks}, time.Now()); err != nil || len(done) != 1 {
		t.Fatal(len(done), err)
	}

	err = l.Update(func(tx *ledger.Tx) error {
		f, err := tx.File(c.ID)
		if err != nil {
			return err
		}

		f.MarkMoved("a.csv", filepath.Join(dir, "done", "a.csv"), c.Stat, false, time.Now())

		return tx.Put(f)
	})
	if err != nil {
		t.Fatal(err)
	}

	if err := again.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}

	f, err := l.File(c.ID)
	if err != nil || f == nil {
		t.Fatal(err)
	}

	if f.NeedsWork() && len(finished) == 0 {
		t.Errorf("it is %s, with %d copies to be moved, and nobody is told", f.Status, len(f.Copies.InInput()))
	}
}
