package folder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestMoveNeverOverwrites(t *testing.T) {
	t.Parallel()
	in, out := t.TempDir(), t.TempDir()
	want := map[string]string{}
	for i := range 25 {
		text := fmt.Sprint("content ", i)
		write(t, filepath.Join(in, "a.b.csv"), text)
		to, err := Move{From: filepath.Join(in, "a.b.csv"), Into: out, Tag: "tag"}.Do(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want[to] = text
	}
	if len(want) != 25 || len(list(t, out)) != 25 || len(list(t, in)) != 0 {
		t.Fatalf("%d names, %v, %v left", len(want), list(t, out), list(t, in))
	}
	for to, text := range want {
		if got := read(t, to); got != text {
			t.Errorf("%s holds %q, want %q", to, got, text)
		}
	}
	for _, name := range []string{"a.b.csv", "a.b (2).csv", "a.b (20).csv", "a.b (tag).csv", "a.b (tag-5).csv"} {
		if want[filepath.Join(out, name)] == "" {
			t.Errorf("no %s among %v", name, list(t, out))
		}
	}
}

func TestMoveGone(t *testing.T) {
	t.Parallel()
	if _, err := (Move{From: filepath.Join(t.TempDir(), "a.csv"), Into: t.TempDir()}).Do(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
}

func TestMoveByCopy(t *testing.T) {
	t.Parallel()
	in, out := t.TempDir(), t.TempDir()
	from := filepath.Join(in, "a.csv")
	write(t, from, "text")
	write(t, filepath.Join(out, "a.csv"), "other")
	at := time.Date(2024, 6, 17, 12, 0, 0, 123456789, time.UTC)
	if err := os.Chtimes(from, at, at); err != nil {
		t.Fatal(err)
	}
	m := Move{From: from, Into: out, Tag: "tag", Stat: stat(t, from)}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.copyOver(ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if got := list(t, out); !slices.Equal(got, []string{"a.csv"}) || read(t, from) != "text" {
		t.Fatalf("a copy that was cut off left %v", got)
	}
	to, err := m.copyOver(t.Context())
	if err != nil || to != filepath.Join(out, "a (2).csv") {
		t.Fatal(to, err)
	}
	info, err := os.Stat(to)
	if err != nil || !info.ModTime().Equal(at) || read(t, to) != "text" || len(list(t, in)) != 0 {
		t.Errorf("copied with time %s, %v", info.ModTime(), err)
	}
}

func TestMoveOfALinkKeepsTheContent(t *testing.T) {
	t.Parallel()
	in, out := t.TempDir(), t.TempDir()
	write(t, filepath.Join(in, "target"), "text")
	if err := os.Symlink("target", filepath.Join(in, "a.csv")); err != nil {
		t.Skip("no links here:", err)
	}
	to, err := Move{From: filepath.Join(in, "a.csv"), Into: out, Tag: "tag"}.Do(t.Context())
	if err != nil || read(t, to) != "text" || !slices.Equal(list(t, in), []string{"target"}) {
		t.Errorf("%s, %v, left %v", to, err, list(t, in))
	}
}

func TestMoveResumed(t *testing.T) {
	t.Parallel()
	const text = "text"
	at := time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	tests := []struct {
		name            string
		source, copied  bool
		inTheWay        string // content of a file of the same name
		wantErr         error
		wantDestination string
	}{
		{name: "not begun", source: true, wantDestination: "a.csv"},
		{name: "done but not noted", copied: true, wantDestination: "a.csv"},
		{name: "copied but not removed", source: true, copied: true, wantDestination: "a.csv"},
		{name: "done beside another", copied: true, inTheWay: "else", wantDestination: "a (2).csv"},
		{name: "not begun, another is there", source: true, inTheWay: "else", wantDestination: "a (2).csv"},
		{name: "removed by somebody", wantErr: ErrGone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, out := t.TempDir(), t.TempDir()
			from, to := filepath.Join(in, "a.csv"), filepath.Join(out, "a.csv")
			make := func(path, text string) {
				write(t, path, text)
				if err := os.Chtimes(path, at, at); err != nil {
					t.Fatal(err)
				}
			}
			if tt.inTheWay != "" {
				make(to, tt.inTheWay)
				to = filepath.Join(out, "a (2).csv")
			}
			if tt.source {
				make(from, text)
			}
			if tt.copied {
				make(to, text)
			}
			got, err := Move{
				From: from, Into: out, Tag: "tag", Resumed: true, Size: int64(len(text)), Modified: at,
				Same: func(path string) (bool, error) { return read(t, path) == text, nil },
			}.Do(t.Context())
			if !errors.Is(err, tt.wantErr) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			if got != filepath.Join(out, tt.wantDestination) || read(t, got) != text || len(list(t, in)) != 0 {
				t.Errorf("moved to %s; %v, left %v", got, list(t, out), list(t, in))
			}
		})
	}
}

func stat(t *testing.T, path string) Stat {
	t.Helper()
	s, err := statAt(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// during runs a function when a context is looked at, as a copy does between two blocks.
type during struct {
	context.Context
	run func()
}

func (d during) Err() error {
	d.run()
	return d.Context.Err()
}

// TestMoveLeavesTheNextFile: the producer puts its next file under the same name, at any moment of a move.
func TestMoveLeavesTheNextFile(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		move func(m Move, replace func()) (string, error)
		want error
	}{
		{"before a rename", func(m Move, replace func()) (string, error) {
			replace()
			return m.Do(t.Context())
		}, ErrReplaced},
		{"before a copy", func(m Move, replace func()) (string, error) {
			replace()
			return m.copyOver(t.Context())
		}, ErrReplaced},
		{"while it is copied", func(m Move, replace func()) (string, error) {
			return m.copyOver(during{t.Context(), sync.OnceFunc(replace)})
		}, nil},
		{"after an attempt that was cut off", func(m Move, replace func()) (string, error) {
			if _, err := copyFile(t.Context(), m.From, filepath.Join(m.Into, "a.csv"), m.Stat); err != nil {
				return "", err
			}
			m.Resumed, m.Size, m.Modified = true, m.Stat.Size, m.Stat.Time()
			replace()
			return m.Do(t.Context())
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in, out := t.TempDir(), t.TempDir()
			from := filepath.Join(in, "a.csv")
			write(t, from, "old")
			m := Move{From: from, Into: out, Tag: "tag", Stat: stat(t, from), Same: func(path string) (bool, error) {
				return read(t, path) == "old", nil
			}}
			to, err := tt.move(m, func() {
				write(t, from+".tmp", "new")
				if err := os.Rename(from+".tmp", from); err != nil {
					t.Error(err)
				}
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if got := list(t, in); !slices.Equal(got, []string{"a.csv"}) || read(t, from) != "new" {
				t.Errorf("left %v", got)
			}
			if err == nil && read(t, to) != "old" {
				t.Errorf("moved %q", read(t, to))
			}
		})
	}
}

// TestMoveKnowsAFileByItsContent where a share gives it another number with each rename.
func TestMoveKnowsAFileByItsContent(t *testing.T) {
	t.Parallel()
	in, out := t.TempDir(), t.TempDir()
	from := filepath.Join(in, "a.csv")
	write(t, from, "text")
	s := stat(t, from)
	s.Key = "another"
	m := Move{From: from, Into: out, Tag: "tag", Stat: s, Same: func(path string) (bool, error) { return read(t, path) == "text", nil }}
	if to, err := m.Do(t.Context()); err != nil || read(t, to) != "text" || len(list(t, in)) != 0 {
		t.Errorf("%s, %v, left %v", to, err, list(t, in))
	}
}

func TestPutBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	aside := filepath.Join(dir, partPrefix+"1"+asideSuffix)
	if err := os.Mkdir(aside, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(aside, "a.csv"), "aside")
	write(t, filepath.Join(dir, "a.csv"), "next")
	if err := PutBack(dir); err != nil {
		t.Fatal(err)
	}
	if got := list(t, dir); !slices.Equal(got, []string{"a (2).csv", "a.csv"}) || read(t, filepath.Join(dir, "a (2).csv")) != "aside" {
		t.Errorf("left %v", got)
	}
}

func TestRemoveParts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, ".bobosync-abc.part"), "x")
	write(t, filepath.Join(dir, "a.csv"), "x")
	if err := RemoveParts(dir); err != nil || !slices.Equal(list(t, dir), []string{"a.csv"}) {
		t.Errorf("%v, left %v", err, list(t, dir))
	}
}

func TestIsCSV(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"a.csv": true, "A.CSV": true, "a.b.CsV": true, ".a.csv": true, ".csv": true, "a.csv.tmp": false, "csv": false, "a.txt": false} {
		if IsCSV(name) != want {
			t.Errorf("%s: %t", name, !want)
		}
	}
}

// watching runs a Watcher and collects the problems that it reports.
type watching struct {
	*Watcher
	mu       sync.Mutex
	problems map[string]string
}

func watch(t *testing.T, dir string, poll, settle time.Duration) *watching {
	t.Helper()
	w := &watching{problems: map[string]string{}}
	w.Watcher = NewWatcher(WatchConfig{Dir: dir, Poll: poll, Settle: settle, Logger: quiet(), OnProblem: func(name, reason string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.problems[name] = reason
	}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { w.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return w
}

func (w *watching) problem(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.problems[name]
}

// next waits for files to be offered.
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
		at := now.Add(-time.Duration(min(i, 2)) * time.Hour) // a and d are of the same time
		if err := os.Chtimes(filepath.Join(dir, name), at, at); err != nil {
			t.Fatal(err)
		}
	}
	w := watch(t, dir, time.Hour, 50*time.Millisecond)
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
	w := watch(t, dir, time.Hour, 20*time.Millisecond)
	write(t, filepath.Join(dir, "first.csv"), "x")
	w.next(t, 1) // from now on the directory is watched
	path := filepath.Join(dir, "a.csv")
	write(t, path, "one")
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
	w := NewWatcher(WatchConfig{Dir: dir, Poll: time.Hour, Settle: time.Millisecond, Logger: quiet()})
	write(t, filepath.Join(dir, "a.csv"), "one")
	w.list() // as a tick does; there is no Run, so no events
	<-w.timer.C
	w.settle()
	for len(w.settling) > 0 {
		<-w.timer.C
		w.settle()
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
	w := watch(t, dir, 10*time.Millisecond, 20*time.Millisecond)
	if got := w.next(t, 1); got[0].Name != "ok.csv" {
		t.Fatalf("got %v", got)
	}
	if w.problem("dir.csv") == "" || w.problem("link.csv") == "" || !w.Rejected("dir.csv") {
		t.Errorf("problems %v", w.problems)
	}
	// The link gets a target: the file is offered, and once it was read the problem is over.
	write(t, filepath.Join(dir, "nowhere"), "x")
	if got := w.next(t, 1); got[0].Name != "link.csv" {
		t.Fatalf("got %v", got)
	}
	w.Accept("link.csv")
	if p := w.problem("link.csv"); p != "" {
		t.Errorf("still a problem: %s", p)
	}
	// What cannot be opened is offered again when something happens to it.
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
	w := NewWatcher(WatchConfig{Dir: t.TempDir(), Poll: time.Hour, Settle: time.Hour, Logger: quiet()})
	e := &entry{}
	last := time.Duration(0)
	for range 20 {
		w.reject(e, "no")
		if e.pause < last || e.pause > maxPause {
			t.Fatalf("pause %s after %s", e.pause, last)
		}
		last = e.pause
	}
	if last != maxPause {
		t.Errorf("the longest pause is %s", last)
	}
}
