package files

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

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

func list(t *testing.T, dir *Dir) []string {
	t.Helper()

	entries, err := os.ReadDir(dir.path)
	if err != nil {
		t.Fatal(err)
	}

	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}

	return all
}

func dir(t *testing.T) *Dir {
	t.Helper()

	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(d.Close)

	return d
}

func stat(t *testing.T, d *Dir, name string) Stat {
	t.Helper()

	info, err := d.Stat(name)
	if err != nil {
		t.Fatal(err)
	}

	return StatOf(info)
}

// holds returns the Same of a file with this text.
func holds(t *testing.T, text string) func(*Dir, string) (bool, error) {
	return func(d *Dir, name string) (bool, error) { return read(t, d.Path(name)) == text, nil }
}

// moveOf writes a file with this text and returns its Move.
func moveOf(t *testing.T, name, text string) Move {
	t.Helper()
	m := Move{From: dir(t), Name: name, Into: dir(t), Wanted: name, Tag: "tag", Token: "token-", Same: holds(t, text)}
	write(t, m.From.Path(name), text)
	m.Stat = stat(t, m.From, name)
	m.Found = m.Stat

	return m
}

// TestMoveAlwaysFindsAName: over a thousand files of the same name are moved, one after another.
func TestMoveAlwaysFindsAName(t *testing.T) {
	t.Parallel()

	const n = 1100
	for _, name := range []string{"a.b.csv", strings.Repeat("x", 251) + ".csv", strings.Repeat("ä", 125) + ".csv", "caf\xe9.csv"} {
		in, out := dir(t), dir(t)
		want := map[string]string{}
		for i := range n {
			text := fmt.Sprint("content ", i)
			write(t, in.Path(name), text)

			to, _, err := Move{
				From: in, Name: name, Into: out, Wanted: name, Tag: "0123456789ab", Stat: stat(t, in, name), Same: holds(t, text),
			}.Do(t.Context())
			if err != nil {
				t.Fatal(err)
			}

			want[to] = text
			if utf8.ValidString(name) && !utf8.ValidString(to) {
				t.Fatalf("a character was cut: %q", to)
			}
		}

		if len(want) != n || len(list(t, out)) != n || len(list(t, in)) != 0 {
			t.Fatalf("%d names, %d in all", len(want), len(list(t, out)))
		}

		for to, text := range want {
			if got := read(t, out.Path(to)); got != text {
				t.Errorf("%s holds %q, want %q", to, got, text)
			}
		}

		if name == "a.b.csv" {
			for _, name := range []string{"a.b.csv", "a.b (2).csv", "a.b (20).csv", "a.b (0123456789ab).csv"} {
				if want[name] == "" {
					t.Errorf("no %s", name)
				}
			}
		}
	}
}

func TestMoveGone(t *testing.T) {
	t.Parallel()

	m := moveOf(t, "a.csv", "text")
	if err := os.Remove(m.From.Path("a.csv")); err != nil {
		t.Fatal(err)
	}

	if _, _, err := m.Do(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
}

func TestMoveByCopy(t *testing.T) {
	t.Parallel()
	m := moveOf(t, "a.csv", "text")
	from := m.From.Path("a.csv")
	write(t, m.Into.Path("a.csv"), "other")

	at := time.Date(2024, 6, 17, 12, 0, 0, 123456789, time.UTC)
	if err := errors.Join(os.Chtimes(from, at, at), os.Chmod(from, 0o666)); err != nil {
		t.Fatal(err)
	}

	m.Stat = stat(t, m.From, "a.csv")
	ended, cancel := context.WithCancel(t.Context())
	cancel()

	if _, _, err := m.copyOver(ended); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}

	if got := list(t, m.Into); !slices.Equal(got, []string{"a.csv"}) || read(t, from) != "text" {
		t.Fatalf("a copy that was cut off left %v", got)
	}

	to, now, err := m.copyOver(t.Context())
	if err != nil || to != "a (2).csv" || now != stat(t, m.Into, to) {
		t.Fatal(to, now, err)
	}

	info, err := m.Into.Stat(to)
	if err != nil || !info.ModTime().Equal(at) || read(t, m.Into.Path(to)) != "text" || len(list(t, m.From)) != 0 {
		t.Errorf("copied with time %s, %v", info.ModTime(), err)
	}

	if mode := info.Mode().Perm(); mode&^0o640 != 0 {
		t.Errorf("copied with mode %o", mode)
	}
}

// TestWhatIsLeftOfACopiedFile: a producer that has kept the file open writes to a file that no longer has a name.
func TestWhatIsLeftOfACopiedFile(t *testing.T) {
	t.Parallel()
	m := moveOf(t, "a.csv", "one\n")

	writer, err := os.OpenFile(m.From.Path("a.csv"), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}

	var rest *Remnant
	m.OnRemnant = func(r Remnant) { rest = &r }
	if to, _, err := m.copyOver(t.Context()); err != nil || to != "a.csv" || rest == nil {
		t.Fatal(to, rest, err)
	}

	if _, written := rest.Written(); written {
		t.Error("written by a removal")
	}

	if _, err := writer.WriteString("two\n"); err != nil {
		t.Fatal(err)
	}

	write(t, m.From.Path("a.csv"), "the next")

	if _, written := rest.Written(); !written {
		t.Error("not seen to be written")
	}

	to, err := rest.Restore(t.Context(), m.From, "a.csv", m.Tag, m.Token)
	if err != nil || read(t, m.From.Path(to)) != "one\ntwo\n" || read(t, m.From.Path("a.csv")) != "the next" {
		t.Errorf("restored as %s, %v", to, err)
	}

	rest.Close(m.From)

	if got := list(t, m.From); len(got) != 2 {
		t.Errorf("left %v", got)
	}
}

// TestMoveLeavesWhatIsNoFile: a name that is not that of a regular file is neither moved nor opened.
func TestMoveLeavesWhatIsNoFile(t *testing.T) {
	t.Parallel()

	for kind, replace := range map[string]func(path string) error{
		"link":      func(path string) error { return os.Symlink("/etc/hostname", path) },
		"directory": func(path string) error { return os.Mkdir(path, 0o755) },
		"pipe":      func(path string) error { return syscall.Mkfifo(path, 0o644) },
	} {
		for _, copied := range []bool{false, true} {
			m := moveOf(t, "a.csv", "text")
			path := m.From.Path("a.csv")
			if err := errors.Join(os.Remove(path), replace(path)); err != nil {
				t.Fatal(kind, err)
			}

			move := m.Do
			if copied {
				move = m.copyOver
			}

			if _, _, err := move(t.Context()); err == nil {
				t.Errorf("%s was moved", kind)
			}

			if _, err := m.From.Open("a.csv"); !errors.Is(err, ErrNotRegular) {
				t.Errorf("%s is opened: %v", kind, err)
			}

			if len(list(t, m.From)) != 1 || len(list(t, m.Into)) != 0 {
				t.Errorf("%s: %v, %v", kind, list(t, m.From), list(t, m.Into))
			}
		}
	}
}

// TestACopyWritesIntoNothingThatLiesThere: a copy does not follow a link that lies under a name that it might take.
func TestACopyWritesIntoNothingThatLiesThere(t *testing.T) {
	t.Parallel()
	m := moveOf(t, "a.csv", "text")
	victim := filepath.Join(t.TempDir(), "victim")
	write(t, victim, "precious")

	for _, name := range []string{".bobosync-tag.part", ".bobosync-token-.part", "a.csv"} {
		if err := os.Symlink(victim, m.Into.Path(name)); err != nil {
			t.Fatal(err)
		}
	}

	to, _, err := m.copyOver(t.Context())
	if err != nil || to != "a (2).csv" || read(t, victim) != "precious" {
		t.Errorf("%s, %v; the victim holds %q", to, err, read(t, victim))
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
			t.Parallel()

			in, out := dir(t), dir(t)
			make := func(path, text string) {
				write(t, path, text)

				if err := os.Chtimes(path, at, at); err != nil {
					t.Fatal(err)
				}
			}
			to := out.Path("a.csv")
			if tt.inTheWay != "" {
				make(to, tt.inTheWay)
				to = out.Path("a (2).csv")
			}

			if tt.source {
				make(in.Path("a.csv"), text)
			}

			if tt.copied {
				make(to, text)
			}

			found := Stat{Size: int64(len(text)), Modified: at.UnixNano()}

			got, _, err := Move{
				From: in, Name: "a.csv", Into: out, Wanted: "a.csv", Tag: "tag", Resumed: true, Stat: found, Found: found,
				Same: holds(t, text),
			}.Do(t.Context())
			if !errors.Is(err, tt.wantErr) {
				t.Fatal(err)
			}

			if err != nil {
				return
			}

			if got != tt.wantDestination || read(t, out.Path(got)) != text || len(list(t, in)) != 0 {
				t.Errorf("moved to %s; %v, left %v", got, list(t, out), list(t, in))
			}
		})
	}
}

// during runs a function whenever the context is checked, as a copy does between two blocks.
type during struct {
	context.Context
	run func()
}

func (d during) Err() error {
	d.run()
	return d.Context.Err()
}

// TestMoveLeavesTheNextFile: the producer may put its next file under the same name at any moment of a move.
func TestMoveLeavesTheNextFile(t *testing.T) {
	t.Parallel()

	tests := []struct {
		name string
		move func(m Move, replace func()) (string, Stat, error)
		want error
	}{
		{"before a rename", func(m Move, replace func()) (string, Stat, error) {
			replace()
			return m.Do(t.Context())
		}, ErrReplaced},
		{"before a copy", func(m Move, replace func()) (string, Stat, error) {
			replace()
			return m.copyOver(t.Context())
		}, ErrReplaced},
		{"while it is copied", func(m Move, replace func()) (string, Stat, error) {
			return m.copyOver(during{t.Context(), sync.OnceFunc(replace)})
		}, nil},
		{"after an attempt that was cut off", func(m Move, replace func()) (string, Stat, error) {
			part, _, src, err := m.copy(t.Context())
			if err != nil {
				return "", Stat{}, err
			}
			defer src.Close()

			if _, err := renameToFree(m.Into, part, m.Into, m.Name, m.Tag); err != nil {
				return "", Stat{}, err
			}

			m.Resumed = true

			replace()

			return m.Do(t.Context())
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := moveOf(t, "a.csv", "old")
			from := m.From.Path("a.csv")

			to, _, err := tt.move(m, func() {
				write(t, from+".tmp", "new")

				if err := os.Rename(from+".tmp", from); err != nil {
					t.Error(err)
				}
			})
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}

			if got := list(t, m.From); !slices.Equal(got, []string{"a.csv"}) || read(t, from) != "new" {
				t.Errorf("left %v", got)
			}

			if err == nil && read(t, m.Into.Path(to)) != "old" {
				t.Errorf("moved %q", read(t, m.Into.Path(to)))
			}
		})
	}
}

// TestMoveKnowsAFileByItsContent: some shares give a file another number with each rename.
func TestMoveKnowsAFileByItsContent(t *testing.T) {
	t.Parallel()

	m := moveOf(t, "a.csv", "text")
	m.Stat.Key = "another"
	if to, _, err := m.Do(t.Context()); err != nil || read(t, m.Into.Path(to)) != "text" || len(list(t, m.From)) != 0 {
		t.Errorf("%s, %v, left %v", to, err, list(t, m.From))
	}
}

// TestARewriteShowsInItsStat: even if its size and modification time are the same as before.
func TestARewriteShowsInItsStat(t *testing.T) {
	t.Parallel()
	d := dir(t)
	write(t, d.Path("a.csv"), "old")
	before := stat(t, d, "a.csv")
	write(t, d.Path("a.csv"), "new")

	if err := os.Chtimes(d.Path("a.csv"), before.Time(), before.Time()); err != nil {
		t.Fatal(err)
	}

	now := stat(t, d, "a.csv")
	if now.Size != before.Size || now.Modified != before.Modified || now.Same(before) {
		t.Errorf("%+v, was %+v", now, before)
	}

	if before.Changed = 0; !now.Same(before) {
		t.Error("a stat that was stored without the time of the last change differs")
	}
}

// TestEveryRewriteShows: whichever way a file is replaced by another one of the same size and modification time.
func TestEveryRewriteShows(t *testing.T) {
	t.Parallel()

	for name, change := range map[string]func(d *Dir) error{
		"written into": func(d *Dir) error {
			f, err := os.OpenFile(d.Path("a.csv"), os.O_WRONLY, 0)
			if err != nil {
				return err
			}

			_, err = f.WriteAt([]byte("n"), 0)

			return errors.Join(err, f.Close())
		},
		"emptied and written": func(d *Dir) error {
			return errors.Join(os.Truncate(d.Path("a.csv"), 0), os.WriteFile(d.Path("a.csv"), []byte("new"), 0o600))
		},
		"replaced": func(d *Dir) error {
			return errors.Join(os.WriteFile(d.Path("b"), []byte("new"), 0o600), os.Rename(d.Path("b"), d.Path("a.csv")))
		},
		"removed and made": func(d *Dir) error {
			return errors.Join(os.Rename(d.Path("a.csv"), d.Path("away")), os.WriteFile(d.Path("a.csv"), []byte("new"), 0o600))
		},
		"written under another name": func(d *Dir) error {
			return errors.Join(os.Link(d.Path("a.csv"), d.Path("other")), os.WriteFile(d.Path("other"), []byte("new"), 0o600), os.Remove(d.Path("other")))
		},
	} {
		d := dir(t)
		write(t, d.Path("a.csv"), "old")

		before := stat(t, d, "a.csv")
		if err := errors.Join(change(d), os.Chtimes(d.Path("a.csv"), before.Time(), before.Time())); err != nil {
			t.Fatal(err)
		}

		if now := stat(t, d, "a.csv"); now.Size != before.Size || now.Modified != before.Modified || now.Same(before) {
			t.Errorf("%s: %+v, was %+v", name, now, before)
		}
	}
}

// TestTidyTouchesItsOwnThingsOnly: files that look like this program's, but not like those of the run to clean up
// after, stay.
func TestTidyTouchesItsOwnThingsOnly(t *testing.T) {
	t.Parallel()

	d := dir(t)
	for _, name := range []string{".bobosync-run-1.aside", ".bobosync-x.aside"} {
		if err := os.Mkdir(d.Path(name), 0o700); err != nil {
			t.Fatal(err)
		}

		write(t, d.Path(name)+"/a.csv", "aside")
	}

	if err := os.Symlink("/etc", d.Path(".bobosync-run-2.aside")); err != nil {
		t.Fatal(err)
	}

	for _, name := range []string{"a.csv", ".bobosync-run-3.part", ".bobosync-y.part"} {
		write(t, d.Path(name), "next")
	}

	if err := d.Tidy("run-"); err == nil {
		t.Error("the link is taken for a directory")
	}

	want := []string{".bobosync-run-2.aside", ".bobosync-x.aside", ".bobosync-y.part", "a (2).csv", "a.csv"}
	if got := list(t, d); !slices.Equal(got, want) || read(t, d.Path("a (2).csv")) != "aside" {
		t.Errorf("left %v", got)
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
