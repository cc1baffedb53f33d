package content

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"bobosync/services/ingest/internal/files"
)

// TestALeaseIsNotWaitedFor opens a file on which another program holds a lease. Waiting for it would take the kernel
// 45 seconds.
func TestALeaseIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	path := write(t, "text")

	holder, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()

	if _, err := unix.FcntlInt(holder.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skip("no leases here:", err)
	}

	if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, files.ErrBusy) {
		t.Errorf("got %v", err)
	}
}

// TestAPipeThatIsSwappedIn checks that a pipe that replaces a file between its check and its opening is neither
// waited for nor read.
func TestAPipeThatIsSwappedIn(t *testing.T) {
	t.Parallel()

	const text = "text"
	path := write(t, text)
	done, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for pipe, made := false, path+".made"; err == nil; pipe = !pipe {
			select {
			case <-done:
				ended <- nil
				return
			default:
			}

			if pipe {
				err = syscall.Mkfifo(made, 0o644)
			} else {
				err = os.WriteFile(made, []byte(text), 0o644)
			}

			if err == nil {
				err = os.Rename(made, path)
			}
		}

		ended <- err
	}()

	for range 2000 {
		f, err := Open(t.Context(), path, Options{})
		if errors.Is(err, ErrChanged) || errors.Is(err, files.ErrNotRegular) {
			continue
		}

		if err != nil {
			t.Fatal(err)
		}

		if got, err := f.Text(t.Context()); err != nil {
			t.Error(err)
		} else if all, err := io.ReadAll(got); err != nil || string(all) != text {
			t.Errorf("%q, %v", all, err)
		}

		f.Close()
	}

	close(done)

	if err := <-ended; err != nil {
		t.Error(filepath.Base(path), err)
	}
}
