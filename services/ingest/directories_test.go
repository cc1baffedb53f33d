package ingest

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bobosync/shared/config"
	"bobosync/shared/logging/logtest"
)

// TestADirectoryThatCannotBeUsed checks that there is one log line at the start, one a minute, and one when it is
// over.
func TestADirectoryThatCannotBeUsed(t *testing.T) {
	t.Parallel()

	root := t.TempDir()
	cfg := Config{
		CSVDirectory: filepath.Join(root, "in"), ProcessedDirectory: filepath.Join(root, "done"),
		FailedDirectory: filepath.Join(root, "failed"), Move: true, Data: config.Data{Directory: filepath.Join(root, "data")},
	}
	for _, dir := range []string{cfg.CSVDirectory, cfg.ProcessedDirectory, cfg.FailedDirectory, cfg.Data.Directory} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	log, now := &logtest.Log{}, time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	d := newDirWatch(cfg, slog.New(slog.NewTextHandler(log, nil)), func() time.Time { return now })
	if d.check() || len(d.state()) != 0 || log.String() != "" {
		t.Fatalf("state %v, log %s", d.state(), log)
	}

	if left, err := os.ReadDir(cfg.ProcessedDirectory); err != nil || len(left) != 0 {
		t.Fatalf("looking leaves %v behind, %v", left, err)
	}

	if err := os.Remove(cfg.FailedDirectory); err != nil {
		t.Fatal(err)
	}

	for _, seconds := range []int{0, 5, 50, 4, 1, 30} { // two lines: one at the start, one after a minute
		now = now.Add(time.Duration(seconds) * time.Second)

		if !d.check() || d.state()["FAILED_FILES_DIRECTORY"] != "does not exist" || len(d.state()) != 1 {
			t.Fatalf("state %v", d.state())
		}
	}

	if n := log.Count("level=ERROR"); n != 2 || log.Count("variable=FAILED_FILES_DIRECTORY") != 2 || log.Count("seconds=60") != 1 {
		t.Errorf("%d lines in 90 seconds: %s", n, log)
	}

	if err := os.Mkdir(cfg.FailedDirectory, 0o755); err != nil {
		t.Fatal(err)
	}

	for range 3 {
		if d.check() || len(d.state()) != 0 {
			t.Errorf("state %v", d.state())
		}
	}

	if log.Count("can be used again") != 1 || strings.Count(log.String(), "\n") != 3 {
		t.Errorf("log %s", log)
	}

	d.begin("CSV_DIRECTORY") // a check that does not return, as on a network share that hangs

	now = now.Add(slowCheck)

	if reason := d.state()["CSV_DIRECTORY"]; !strings.Contains(reason, "not answered for 10s") {
		t.Errorf("a directory that hangs is said to be %q", reason)
	}
}

func TestPlainReasons(t *testing.T) {
	t.Parallel()

	for err, want := range map[error]string{
		fs.ErrNotExist: "does not exist", syscall.EROFS: "is read-only", syscall.ENOSPC: "is full", syscall.EDQUOT: "is full",
		syscall.EACCES: "this program has no right to use it", syscall.ENOTDIR: "is not a directory", syscall.EIO: syscall.EIO.Error(),
	} {
		if got := plainReason(&fs.PathError{Op: "open", Path: "/secret", Err: err}); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}
