package retention

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/control"
)

// hanging returns a purger whose ledger knows an old file in a directory that hangs, and a function that makes the
// directory answer.
func hanging(t *testing.T, patience time.Duration) (p *Purger, answer func()) {
	t.Helper()

	root := t.TempDir()
	hangs, processed := filepath.Join(root, "failed"), filepath.Join(root, "processed")
	if err := syscall.Mkfifo(hangs, 0o600); err != nil { // opening it blocks, as on a share that hangs
		t.Fatal(err)
	}

	if err := os.Mkdir(processed, 0o700); err != nil {
		t.Fatal(err)
	}

	l, err := ledger.Open(filepath.Join(root, "ingest.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = l.Close() })

	now := time.Now()
	old := now.Add(-100 * 24 * time.Hour)

	file := &ledger.File{
		ID: strings.Repeat("ab", 32), Name: "a.csv", Status: ledger.Moved, Finished: old,
		Copies: ledger.Copies{{Name: "a.csv", MovedTo: filepath.Join(hangs, "a.csv"), Found: old, Moved: old}},
	}
	if err := l.Update(func(tx *ledger.Tx) error { return tx.Put(file) }); err != nil {
		t.Fatal(err)
	}

	p = &Purger{Config: Config{
		Ledger: l, Log: slog.New(slog.DiscardHandler), Processed: processed, Records: 10, Time: time.Second, Patience: patience,
		Now: func() time.Time { return now }, Hit: failpoint.None, Remove: os.Remove,
	}}

	return p, func() {
		var writer *os.File
		waited(t, "nobody waits for the directory", func() (err error) {
			writer, err = os.OpenFile(hangs, os.O_WRONLY|syscall.O_NONBLOCK, 0)
			return err
		})
		t.Cleanup(func() { _ = writer.Close() })
	}
}

// waited tries something until it succeeds.
func waited(t *testing.T, otherwise string, try func() error) {
	t.Helper()

	err := try()
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); err = try() {
		time.Sleep(time.Millisecond)
	}

	if err != nil {
		t.Fatal(otherwise, ": ", err)
	}
}

// everything asks for everything to be purged.
func (p *Purger) everything() control.PurgeRequest {
	return control.PurgeRequest{FilesBefore: p.Now(), RecordsBefore: p.Now(), By: "test"}
}

// inBackground starts a purge in the background, and returns once that waits for the directory, or for a purge that
// does.
func (p *Purger) inBackground(ctx context.Context, t *testing.T) (ended chan error) {
	t.Helper()

	ended = make(chan error, 1)
	go func() {
		_, err := p.Purge(ctx, p.everything())
		ended <- err
	}()

	waited(t, "the purge does not look at the directory", func() error {
		stacks := make([]byte, 1<<20)
		if stacks = stacks[:runtime.Stack(stacks, true)]; bytes.Contains(stacks, []byte("retention.(*Purger).look(")) {
			return nil
		}

		return errors.New("no goroutine is there")
	})

	return ended
}

// TestADirectoryThatHangs: a purge waits for the directory, but the ledger can still be used.
func TestADirectoryThatHangs(t *testing.T) {
	t.Parallel()

	p, answer := hanging(t, time.Minute)
	ended := p.inBackground(t.Context(), t)
	noted := make(chan error, 1)
	go func() { noted <- p.Ledger.Update(func(tx *ledger.Tx) error { return tx.SetMeta("test", "x") }) }()

	select {
	case err := <-noted:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the ledger cannot be written while a directory hangs")
	}

	answer()

	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestNobodyWaitsForADirectoryThatHangs: neither the caller of a purge nor the end of a session with the broker waits,
// and the next purge works once the directory answers again.
func TestNobodyWaitsForADirectoryThatHangs(t *testing.T) {
	t.Parallel()
	p, answer := hanging(t, 300*time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	ended := p.inBackground(ctx, t)

	cancel()

	for range 2 { // the second one waits for the first
		select {
		case err := <-ended:
			if err == nil {
				t.Error("it is said to be done")
			}
		case <-time.After(10 * time.Second):
			t.Fatal("the directory is waited for")
		}

		ended = p.inBackground(t.Context(), t)
	}

	answer()

	if err := <-ended; err != nil {
		t.Log(err) // it may be the purge that took too long
	}

	if _, err := p.Purge(t.Context(), p.everything()); err != nil {
		t.Error(err)
	}
}
