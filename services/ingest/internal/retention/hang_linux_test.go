package retention

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/control"
)

// TestADirectoryThatHangs keeps a purge waiting, and nobody from the ledger.
func TestADirectoryThatHangs(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	hangs, processed := filepath.Join(root, "failed"), filepath.Join(root, "processed")
	if err := syscall.Mkfifo(hangs, 0o600); err != nil { // whoever opens it waits, as for a share that hangs
		t.Fatal(err)
	}
	if err := os.Mkdir(processed, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := ledger.Open(filepath.Join(root, "ingest.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	now := time.Now()
	old := now.Add(-100 * 24 * time.Hour)
	file := &ledger.File{
		ID: strings.Repeat("ab", 32), Name: "a.csv", Status: ledger.Moved, Finished: old,
		Copies: ledger.Copies{{Name: "a.csv", MovedTo: filepath.Join(hangs, "a.csv"), Found: old, Moved: old}},
	}
	if err := l.Update(func(tx *ledger.Tx) error { return tx.Put(file) }); err != nil {
		t.Fatal(err)
	}
	p := &Purger{Config: Config{
		Ledger: l, Log: slog.New(slog.DiscardHandler), Processed: processed, Records: 10, Time: time.Second,
		Now: func() time.Time { return now }, Hit: failpoint.None, Remove: os.Remove,
	}}
	ended := make(chan error, 1)
	go func() {
		_, err := p.Purge(t.Context(), control.PurgeRequest{FilesBefore: now, RecordsBefore: now, By: "test"})
		ended <- err
	}()
	time.Sleep(200 * time.Millisecond) // the purge has come to the directory
	noted := make(chan error, 1)
	go func() { noted <- l.Update(func(tx *ledger.Tx) error { return tx.SetMeta("test", "x") }) }()
	select {
	case err := <-noted:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the ledger cannot be written while a directory hangs")
	}
	writer, err := os.OpenFile(hangs, os.O_WRONLY|syscall.O_NONBLOCK, 0) // now it answers
	if err != nil {
		t.Fatal("nobody waits for the directory: ", err)
	}
	defer writer.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
