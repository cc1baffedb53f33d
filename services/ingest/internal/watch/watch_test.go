package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func write(t *testing.T, path, text string) {
	t.Helper()

	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// watching is a running Watcher.
type watching struct{ *Watcher }

func start(t *testing.T, dir string, poll, settle time.Duration) *watching {
	t.Helper()

	w := &watching{}
	w.Watcher = New(Config{Dir: dir, Poll: poll, Settle: settle, Logger: quiet()})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { w.Run(ctx); close(ended) }()

	t.Cleanup(func() { cancel(); <-ended })

	return w
}

func (w *watching) problem(name string) string {
	return w.Problems()[name].Reason
}

// next waits until n files have been offered.
func (w *watching) next(t *testing.T, n int) []Found {
	t.Helper()

	timeout := time.After(20 * time.Second)
	var all []Found
	for len(all) < n {
		select {
		case <-w.Ready():
			all = append(all, w.Take()...)
		case <-timeout:
			t.Fatalf("waited in vain for %d files, got %v", n, all)
		}
	}

	return all
}

func TestWatcherOffersOldestFirst(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	now := time.Now()
	for i, name := range []string{"c.csv", "b.csv", "a.csv", "d.csv"} {
		write(t, filepath.Join(dir, name), name)

		at := now.Add(-time.Duration(min(i, 2)) * time.Hour) // a and d have the same time
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}

	w := start(t, dir, time.Hour, 50*time.Millisecond)
	var got []string
	for _, f := range w.next(t, 4) {
		got = append(got, f.Name)
	}

	if want := []string{"a.csv", "d.csv", "b.csv", "c.csv"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	if again := w.Take(); len(again) != 0 {
		t.Errorf("offered twice: %v", again)
	}

	w.Again()

	if again := w.Take(); len(again) != 4 {
		t.Errorf("again: %v", again)
	}
}

func TestWatcherByEventsAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := start(t, dir, time.Hour, 20*time.Millisecond)
	put := func(path, text string) { // in one step: otherwise the empty file may be offered, too
		elsewhere := filepath.Join(t.TempDir(), "new")
		write(t, elsewhere, text)

		if err := os.Rename(elsewhere, path); err != nil {
			t.Fatal(err)
		}
	}
	put(filepath.Join(dir, "first.csv"), "x")
	w.next(t, 1) // from now on the directory is watched

	path := filepath.Join(dir, "a.csv")
	put(path, "one")

	first := w.next(t, 1)[0]
	write(t, path, "one and two")

	second := w.next(t, 1)[0]
	if first.Name != "a.csv" || second.Name != "a.csv" || first.Stat == second.Stat {
		t.Errorf("got %+v and %+v", first, second)
	}
}

func TestWatcherByPollingAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := New(Config{Dir: dir, Poll: time.Hour, Settle: time.Millisecond, Logger: quiet()})
	write(t, filepath.Join(dir, "a.csv"), "one")
	w.list() // as a tick does; there is no Run, so no events
	<-w.dir.timer.C
	w.settleDue()

	for len(w.dir.settling) > 0 {
		<-w.dir.timer.C
		w.settleDue()
	}

	if got := w.Take(); len(got) != 1 || got[0].Name != "a.csv" {
		t.Errorf("got %v", got)
	}
}

func TestWatcherProblems(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "dir.csv"), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := os.Symlink("nowhere", filepath.Join(dir, "link.csv")); err != nil {
		t.Fatal(err)
	}

	write(t, filepath.Join(dir, "ok.csv"), "x")

	w := start(t, dir, 10*time.Millisecond, 20*time.Millisecond)
	if got := w.next(t, 1); got[0].Name != "ok.csv" {
		t.Fatalf("got %v", got)
	}

	if w.problem("dir.csv") == "" || w.problem("link.csv") == "" || !w.Rejected("dir.csv") {
		t.Errorf("problems %v", w.Problems())
	}

	// A link that gets a target is left alone too. A file in its place is offered, and once it has been read, the
	// problem is over.
	write(t, filepath.Join(dir, "nowhere"), "x")
	write(t, filepath.Join(dir, "new"), "x")

	if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "link.csv")); err != nil {
		t.Fatal(err)
	}

	if got := w.next(t, 1); got[0].Name != "link.csv" {
		t.Fatalf("got %v", got)
	}

	w.Accept("link.csv")

	if p := w.problem("link.csv"); p != "" {
		t.Errorf("still a problem: %s", p)
	}

	// A file that cannot be opened is offered again when something happens to it.
	w.Reject("ok.csv", "permission denied")

	if w.problem("ok.csv") == "" {
		t.Error("not reported")
	}

	if err := os.Chmod(filepath.Join(dir, "ok.csv"), 0o600); err != nil {
		t.Fatal(err)
	}

	if got := w.next(t, 1); got[0].Name != "ok.csv" {
		t.Fatalf("got %v", got)
	}
}

func TestRejectedPausesGetLonger(t *testing.T) {
	t.Parallel()

	e := &entry{}
	last := time.Duration(0)
	for range 20 {
		e.reject("no", time.Now())

		if e.pause < last || e.pause > maxPause {
			t.Fatalf("pause %s after %s", e.pause, last)
		}

		last = e.pause
	}

	if last != maxPause {
		t.Errorf("the longest pause is %s", last)
	}
}

// TestWatcherHearsOfADirectoryThatIsMadeAgain: whether it has the same number as before or another one.
func TestWatcherHearsOfADirectoryThatIsMadeAgain(t *testing.T) {
	t.Parallel()

	for range 3 {
		dir := filepath.Join(t.TempDir(), "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}

		w := start(t, dir, 20*time.Millisecond, 10*time.Millisecond)
		write(t, filepath.Join(dir, "first.csv"), "x")
		w.next(t, 1)

		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}

		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}

		write(t, filepath.Join(dir, "second.csv"), "x")
		w.next(t, 1) // a listing has found it, and this or the next one watches again

		for end := time.Now().Add(20 * time.Second); !slices.Contains(w.notify.WatchList(), dir); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the directory is not watched")
			}
		}
	}
}

// TestWatcherHearsEventsOfADirectoryThatWasMadeAgain: after one listing, events alone announce new files.
func TestWatcherHearsEventsOfADirectoryThatWasMadeAgain(t *testing.T) {
	t.Parallel()

	dir := filepath.Join(t.TempDir(), "in")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}

	w := New(Config{Dir: dir, Poll: time.Hour, Settle: time.Millisecond, Logger: quiet()})
	defer w.closeNotify()

	w.list()
	events := w.events

	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}

	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}

	w.list() // as a tick does
	write(t, filepath.Join(dir, "a.csv"), "x")

	timeout := time.After(20 * time.Second)
	for {
		select {
		case e := <-events:
			if filepath.Base(e.Name) == "a.csv" {
				return
			}
		case <-timeout:
			t.Fatal("the file is not heard of")
		}
	}
}

func TestWatcherNamesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "large.csv"), "12345")
	write(t, filepath.Join(dir, "ok.csv"), "1234")
	w := New(Config{Dir: dir, Poll: time.Hour, Settle: time.Millisecond, MaxSize: 4, Logger: quiet()})
	w.list()

	if problems := w.Problems(); len(problems) != 1 || !strings.Contains(problems["large.csv"].Reason, "MAX_FILE_SIZE") {
		t.Errorf("problems %v", problems)
	}
}

// TestWatcherListensToWhatIsThereNow: whatever took the directory's place or kept the system from reporting events,
// they arrive again after the next listing.
func TestWatcherListensToWhatIsThereNow(t *testing.T) {
	t.Parallel()

	for name, change := range map[string]func(dir, other string) error{
		"another was moved there": func(dir, other string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.Rename(other, dir))
		},
		"it was moved away and back": func(dir, _ string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.Rename(dir+".old", dir))
		},
		"a link stands for it": func(dir, other string) error {
			return errors.Join(os.Remove(dir), os.Symlink(other, dir))
		},
		"its parent was moved away and made anew": func(dir, _ string) error {
			parent := filepath.Dir(dir)
			return errors.Join(os.Rename(parent, parent+".old"), os.MkdirAll(dir, 0o755))
		},
		"it was a file for a while": func(dir, _ string) error {
			return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600), os.Remove(dir), os.Mkdir(dir, 0o755))
		},
		"it was made anew time and again": func(dir, _ string) (err error) {
			for range 5 {
				err = errors.Join(err, os.Remove(dir), os.Mkdir(dir, 0o755))
			}
			return err
		},
		"nothing could be heard at first": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			dir, other := filepath.Join(t.TempDir(), "in"), filepath.Join(t.TempDir(), "other")
			if err := errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(other, 0o755)); err != nil {
				t.Fatal(err)
			}

			w := New(Config{Dir: dir, Poll: time.Hour, Settle: time.Hour, Logger: quiet()})
			defer w.closeNotify()

			if change == nil {
				w.open = func() (*fsnotify.Watcher, error) { return nil, syscall.EMFILE }
			}

			w.list()
			w.open = fsnotify.NewWatcher

			if change != nil {
				if err := change(dir, other); err != nil {
					t.Fatal(err)
				}
			}

			w.list()

			deadline, again := time.After(time.Minute), time.NewTicker(10*time.Millisecond)
			defer again.Stop()

			for n := 0; ; {
				select {
				case e := <-w.events:
					if strings.HasPrefix(filepath.Base(e.Name), "x") {
						return
					}

					w.handle(e) // of the change
				case <-again.C:
					n++
					write(t, filepath.Join(dir, fmt.Sprintf("x%d.csv", n)), "x")
				case <-deadline:
					t.Fatal("no event")
				}
			}
		})
	}
}
