package ingest

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/logging/logtest"
)

// TestADirectoryThatHangs checks that a directory that hangs holds up neither the checks of the others nor the report
// of its own state: it is reported as not answering, and as usable again once it answers.
func TestADirectoryThatHangs(t *testing.T) {
	t.Parallel()

	root := t.TempDir()
	north, south := filepath.Join(root, "north"), filepath.Join(root, "south")
	cfg := Config{
		Feeds: Feeds{{Feed: "north", Dir: north}, {Feed: "south", Dir: south}}, ProcessedDirectory: filepath.Join(root, "done"),
		FailedDirectory: filepath.Join(root, "failed"), Move: true, Data: config.Data{Directory: filepath.Join(root, "data")},
	}
	for _, dir := range []string{south, cfg.ProcessedDirectory, cfg.FailedDirectory, cfg.Data.Directory} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}

	if err := syscall.Mkfifo(north, 0o600); err != nil { // opening it blocks, as on a network share that hangs
		t.Fatal(err)
	}

	log := &logtest.Log{}

	d := newDirWatch(cfg, slog.New(slog.NewTextHandler(log, nil)), time.Now)
	d.patience = 2 * time.Second
	ended := make(chan struct{})
	go func() {
		defer close(ended)

		for range 3 {
			if !d.check() {
				t.Error("all of them can be used")
			}
		}

		d.onList(control.InputDirectory("south"))(syscall.EIO) // as the watcher of the other feed does
	}()

	select {
	case <-ended:
	case <-time.After(deadline):
		t.Error("the check of a directory that hangs is waited for")
	}

	if reasons := d.state(); reasons[control.InputDirectory("north")] != "does not answer" || len(reasons) != 1 {
		t.Errorf("state %v", reasons)
	}

	writer, err := os.OpenFile(north, os.O_WRONLY, 0) // now it answers
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()

	eventually(t, "it is asked again", func() bool {
		d.check()
		return d.state()[control.InputDirectory("north")] != "does not answer"
	})
}
