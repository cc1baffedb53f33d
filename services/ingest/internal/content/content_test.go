package content

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bobosync/services/ingest/internal/files"
)

func write(t *testing.T, text string) string {
	t.Helper()

	path := filepath.Join(t.TempDir(), "a.csv")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}

	return path
}

func TestContentIsReadTwice(t *testing.T) {
	t.Parallel()

	for _, text := range []string{"", "a", strings.Repeat("x", blockSize-1), strings.Repeat("x", blockSize), strings.Repeat("xy\n", blockSize)} {
		blocks := 0

		f, err := Open(t.Context(), write(t, text), Options{Between: func(context.Context) error { blocks++; return nil }})
		if err != nil {
			t.Fatal(err)
		}

		sum := sha256.Sum256([]byte(text))
		if f.ID != hex.EncodeToString(sum[:]) || f.Problem != "" || f.Stat.Size != int64(len(text)) {
			t.Errorf("%d bytes: %+v", len(text), f)
		}

		if large := len(text) >= blockSize; large != (blocks > 0) {
			t.Errorf("%d bytes: %d times something else was let through", len(text), blocks)
		}

		again, err := f.Text(t.Context())
		if err != nil {
			t.Fatal(err)
		}

		got, err := io.ReadAll(again)
		if err = errors.Join(err, again.Check()); err != nil || string(got) != text {
			t.Errorf("%d bytes came out as %d, %v", len(text), len(got), err)
		}

		f.Close()
	}
}

// TestWhatIsNoTextIsNotReadToItsEnd checks that terabytes of NUL, which would take hours, are not read. The id still
// distinguishes such a file from others.
func TestWhatIsNoTextIsNotReadToItsEnd(t *testing.T) {
	t.Parallel()

	ids := map[string]bool{}
	for _, size := range []int64{1 << 40, 1<<40 + 1} {
		for _, head := range []string{"", "BON,1,P\n"} {
			path := write(t, head)
			if err := os.Truncate(path, size); err != nil {
				t.Skip("no sparse files here:", err)
			}

			f, err := Open(t.Context(), path, Options{})
			if err != nil || !strings.Contains(f.Problem, "NUL") {
				t.Fatalf("%+v, %v", f, err)
			}

			ids[f.ID] = true
			f.Close()
		}
	}

	if len(ids) != 4 {
		t.Errorf("four files have %d ids", len(ids))
	}
}

func TestTooLarge(t *testing.T) {
	t.Parallel()

	if _, err := Open(t.Context(), write(t, "12345"), Options{MaxSize: 4}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// TestAnAbsentDirectorySaysNothingOfItsFiles checks that a file only counts as gone if its directory is there.
func TestAnAbsentDirectorySaysNothingOfItsFiles(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	for path, want := range map[string]bool{filepath.Join(dir, "a.csv"): false, filepath.Join(dir, "away", "a.csv"): true} {
		_, err := Open(t.Context(), path, Options{})
		if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNoDirectory) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestOpeningNeverWaits checks that Open waits neither for the other end of a pipe nor for the target of a link.
func TestOpeningNeverWaits(t *testing.T) {
	t.Parallel()

	pipe := filepath.Join(t.TempDir(), "a.csv")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}

	link := filepath.Join(t.TempDir(), "a.csv")
	if err := os.Symlink(write(t, "secret"), link); err != nil {
		t.Fatal(err)
	}

	for _, path := range []string{pipe, link} {
		if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, files.ErrNotRegular) {
			t.Errorf("got %v", err)
		}
	}
}

// TestACallThatHangsIsLeftAlone checks that within gives up on a call that hangs after stallTime, or as soon as the
// context ends.
func TestACallThatHangsIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended, closed := make(chan struct{}), make(chan int, 2)

		hang := func() (int, error) { <-ended; return 7, nil }
		late := func(n int, _ error) { closed <- n }
		began := time.Now()
		if _, err := within(t.Context(), "/in/a.csv", hang, late); !errors.Is(err, ErrStalled) || time.Since(began) != stallTime {
			t.Errorf("%v after %s", err, time.Since(began))
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()

		if _, err := within(ctx, "/in/b.csv", hang, late); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != stallTime+time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}

		close(ended)

		if a, b := <-closed, <-closed; a != 7 || b != 7 || len(stalled.calls) != 0 {
			t.Errorf("what came late was %d and %d, %v are waited for", a, b, stalled.calls)
		}
	})
}

// TestWhatHangsHoldsUpNothingElse checks that a file that is tried again and again does not hold up the others in its
// directory, and that a directory does not hold up another one.
func TestWhatHangsHoldsUpNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})

		hang := func() (int, error) { <-ended; return 7, nil }
		well := func() (int, error) { return 7, nil }
		late := func(int, error) {}
		for range 2 * maxStalled {
			if _, err := within(t.Context(), "/north/hangs.csv", hang, late); !errors.Is(err, ErrStalled) {
				t.Errorf("what hangs says %v", err)
			}

			if n, err := within(t.Context(), "/north/good.csv", well, late); n != 7 || err != nil {
				t.Fatalf("a file beside one that hangs: %v", err)
			}
		}

		for i := range 2 * maxStalled {
			if _, err := within(t.Context(), fmt.Sprintf("/north/hangs too %d.csv", i), hang, late); !errors.Is(err, ErrStalled) {
				t.Errorf("what hangs says %v", err)
			}
		}

		if n := stalled.calls["/north"]; n != maxStalled {
			t.Errorf("%d calls are waited for", n)
		}

		if n, err := within(t.Context(), "/south/good.csv", well, late); n != 7 || err != nil {
			t.Errorf("a file of another directory than one that hangs: %v", err)
		}

		close(ended)
		synctest.Wait()

		if n, err := within(t.Context(), "/north/hangs.csv", well, late); n != 7 || err != nil || len(stalled.calls) != 0 {
			t.Errorf("when it hangs no more: %v, %v are waited for", err, stalled.calls)
		}
	})
}

func TestTextCheck(t *testing.T) {
	t.Parallel()

	tests := []struct{ text, want string }{
		{"", ""}, {"plain", ""}, {"ä€😀", ""}, {"ab\x00", "NUL at byte 3"}, {"ab\xff", "near byte 3"},
		{"ä\xc3", "ends within a character, at byte 3"}, {"\xe2\x82", "ends within"}, {"😀\xf0\x9fx", "near byte 5"}, {"\x80\x80\x80\x80\x80", "near byte 1"},
	}
	for _, tt := range tests {
		for block := 1; block <= len(tt.text)+1; block++ {
			var c textCheck
			for rest := tt.text; rest != ""; rest = rest[min(block, len(rest)):] {
				if c.add([]byte(rest[:min(block, len(rest))])) >= 0 {
					break
				}
			}

			if got := c.finding(); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("%q in blocks of %d: %q, want %q", tt.text, block, got, tt.want)
			}
		}
	}
}
