package ingest

// What may lie in directories that others write to, and what may happen to these directories.

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bobosync/shared/control"

	"golang.org/x/sys/unix"
)

// mounted mounts a file system for as long as the test lasts, or until off is called.
func mounted(t *testing.T, source, target, kind string, flags uintptr, data string) (off func()) {
	t.Helper()

	if os.Getuid() != 0 {
		t.Skip("skipped: only root can mount")
	}

	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Skip("skipped: nothing can be mounted here:", err)
	}

	over := false
	off = func() {
		if over {
			return
		}

		over = true

		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(off)

	return off
}

// readOnly turns a directory into a read-only file system.
func readOnly(t *testing.T, dir string) (off func()) {
	off = mounted(t, dir, dir, "", unix.MS_BIND, "")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""); err != nil {
		t.Skip("skipped: nothing can be mounted here:", err)
	}

	return off
}

// TestWhatKeepsFilesFromLeaving checks that the reason is reported of the file or of the directory, does not hinder
// reading, and ends with its cause.
func TestWhatKeepsFilesFromLeaving(t *testing.T) {
	for name, block := range map[string]func(t *testing.T, h *harness) (free func()){
		"the input directory is read-only":     func(t *testing.T, h *harness) func() { return readOnly(t, h.cfg.CSVDirectory) },
		"the processed directory is read-only": func(t *testing.T, h *harness) func() { return readOnly(t, h.cfg.ProcessedDirectory) },
		"the processed directory is on a full file system": func(t *testing.T, h *harness) func() {
			off := mounted(t, "tmpfs", h.cfg.ProcessedDirectory, "tmpfs", 0, "size=64k")
			for i := range 16 {
				if os.WriteFile(h.done(fmt.Sprint(i)), make([]byte, 4096), 0o600) != nil {
					break
				}
			}

			return off
		},
		"the processed directory is on a file system that takes no more files": func(t *testing.T, h *harness) func() {
			return mounted(t, "tmpfs", h.cfg.ProcessedDirectory, "tmpfs", 0, "nr_inodes=1")
		},
		"something is mounted on the file": func(t *testing.T, h *harness) func() {
			other := filepath.Join(t.TempDir(), "other")
			if err := os.WriteFile(other, []byte(row("1")), 0o600); err != nil {
				t.Fatal(err)
			}

			return mounted(t, other, h.in("a.csv"), "", unix.MS_BIND, "")
		},
		"the processed directory is a file": func(t *testing.T, h *harness) func() {
			if err := os.Rename(h.cfg.ProcessedDirectory, h.cfg.ProcessedDirectory+".away"); err != nil { // ingest may be testing the directory
				t.Fatal(err)
			}

			if err := os.WriteFile(h.cfg.ProcessedDirectory, nil, 0o600); err != nil {
				t.Fatal(err)
			}

			return func() {
				if err := os.Remove(h.cfg.ProcessedDirectory); err != nil {
					t.Error(err)
				}

				if err := os.Mkdir(h.cfg.ProcessedDirectory, 0o700); err != nil {
					t.Error(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			h.tune.check, h.tune.stallTimeout = 20*time.Millisecond, 60*time.Millisecond
			r := h.resolve()
			r.mute(true)
			h.start()
			eventually(t, "started", h.ready.Load)
			h.put("a.csv", row("1"))
			eventually(t, "it is read", func() bool { return r.fileCount() == 1 })
			free := block(t, h)

			r.mute(false)
			var s control.IngestState
			eventually(t, "it is said", func() bool {
				s = h.state()
				return len(s.Blocked) > 0 || len(s.Directories) > 0
			})

			if there(h.done("a.csv")) {
				t.Error("it is there already")
			}

			free()
			eventually(t, "it leaves", func() bool { return there(h.done("a.csv")) && !there(h.in("a.csv")) })
			eventually(t, "it is over", func() bool {
				s = h.state()
				return len(s.Blocked) == 0 && len(s.Directories) == 0
			})
		})
	}
}

// sparse creates a file that begins and ends with the given texts and takes no disk space in between.
func sparse(t *testing.T, path, begin, end string, size int64) {
	t.Helper()

	file, err := os.Create(path)
	if err == nil {
		_, err = file.WriteString(begin)
	}

	if err == nil {
		err = file.Truncate(size)
	}

	if err == nil {
		_, err = file.WriteAt([]byte(end), size-int64(len(end)))
	}

	if err == nil {
		err = file.Close()
	}

	if err != nil {
		t.Fatal(err)
	}
}

// TestNothingHoldsUpAFile checks that whatever lies in the input directory, a good file that arrives goes through at
// once, and that anything that is not a file of bookings is put away or reported.
func TestNothingHoldsUpAFile(t *testing.T) {
	h := newHarness(t)
	h.cfg.MaxFileSize = 1 << 40
	h.resolve()
	const huge = 60 << 30
	sparse(t, h.in("zeroes.csv"), "", "", huge)
	sparse(t, h.in("hole.csv"), rows("hole", 1000), "", huge)
	sparse(t, h.in("late hole.csv"), rows("late", 20_000), row("last"), huge)
	sparse(t, h.in("text at its end.csv"), "", row("end"), huge)
	sparse(t, h.in("UTF-16.csv"), "\xff\xfeB\x00O\x00N\x00", "", huge)
	h.put("a line without an end.csv", strings.Repeat("x", 1<<20))
	h.put("a quote without an end.csv", `BON,"`+strings.Repeat("x\n", 1<<19))
	h.put("blank.csv", strings.Repeat("\n", 1<<20))
	h.put("no rows.csv", strings.Repeat("a,b\n", 20_000))
	h.put("no UTF-8.csv", strings.Repeat("\xe9", 1<<20))

	for i := range 50 {
		h.put(fmt.Sprintf("empty %d.csv", i), "")
	}

	noFiles := []string{"pipe.csv", "socket.csv", "directory.csv", "link.csv", "to itself.csv"}

	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(h.cfg.CSVDirectory, "s"))
	if err == nil {
		defer listener.Close()

		err = os.Rename(filepath.Join(h.cfg.CSVDirectory, "s"), h.in("socket.csv"))
	}

	for _, e := range []error{
		err, unix.Mkfifo(h.in("pipe.csv"), 0o600), os.Mkdir(h.in("directory.csv"), 0o700), os.Symlink("/dev/zero", h.in("link.csv")),
		os.Symlink("to itself.csv", h.in("to itself.csv")),
	} {
		if e != nil {
			t.Fatal(e)
		}
	}

	if unix.Mknod(h.in("device.csv"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) == nil {
		noFiles = append(noFiles, "device.csv")
	}

	h.start()
	eventually(t, "started", h.ready.Load)

	for i := range 3 {
		began, name := time.Now(), fmt.Sprintf("good %d.csv", i)
		h.put(name, row(fmt.Sprint(i)))
		eventually(t, "it goes through", func() bool { return there(h.done(name)) })

		if took := time.Since(began); took > time.Minute {
			t.Errorf("%s took %s", name, took)
		}
	}

	eventually(t, "all files leave", func() bool {
		left := names(t, h.cfg.CSVDirectory)
		slices.Sort(left)
		slices.Sort(noFiles)
		return slices.Equal(left, noFiles)
	})

	if s := h.state(); s.ProblemNames != len(noFiles) {
		t.Errorf("problems %+v", s.Problems)
	}
}

// TestProblemsThatEndWhileIngestIsDown checks that such problems are not reported any more.
func TestProblemsThatEndWhileIngestIsDown(t *testing.T) {
	h := newHarness(t)
	h.cfg.MaxFileSize = 4096
	h.resolve()

	make := map[string]func(path string) error{
		"directory removed":         func(path string) error { return os.Mkdir(path, 0o700) },
		"directory becomes a file":  func(path string) error { return os.Mkdir(path, 0o700) },
		"directory renamed":         func(path string) error { return os.Mkdir(path, 0o700) },
		"link removed":              func(path string) error { return os.Symlink("/etc/passwd", path) },
		"link becomes its file":     func(path string) error { return os.Symlink("nowhere", path) },
		"pipe removed":              func(path string) error { return unix.Mkfifo(path, 0o600) },
		"too large removed":         func(path string) error { return os.WriteFile(path, []byte(rows("l", 200)), 0o600) },
		"too large made smaller":    func(path string) error { return os.WriteFile(path, []byte(rows("s", 200)), 0o600) },
		"too large for another day": func(path string) error { return os.WriteFile(path, []byte(rows("d", 200)), 0o600) },
	}
	good := func(path string) error { return os.WriteFile(path, []byte(row(filepath.Base(path))), 0o600) }
	again := func(path string) error {
		if err := os.Remove(path); err != nil {
			return err
		}
		return good(path)
	}
	mend := map[string]func(path string) error{
		"directory becomes a file": again, "link becomes its file": again, "too large made smaller": good,
		"directory renamed":         func(path string) error { return os.Rename(path, path+".d") },
		"too large for another day": func(path string) error { return os.Rename(path, path+".later") },
	}

	for name, f := range make {
		if err := f(h.in(name + ".csv")); err != nil {
			t.Fatal(err)
		}
	}

	h.start()
	eventually(t, "all are told", func() bool { return h.ready.Load() && h.state().ProblemNames == len(make) })
	h.end()

	for name := range make {
		f := mend[name]
		if f == nil {
			f = os.Remove
		}

		if err := f(h.in(name + ".csv")); err != nil {
			t.Fatal(err)
		}
	}

	h.start()

	for _, name := range []string{"directory becomes a file.csv", "link becomes its file.csv", "too large made smaller.csv"} {
		eventually(t, name, func() bool { return there(h.done(name)) })
	}

	h.arrived()
	var s control.IngestState
	eventually(t, "nothing is to be read", func() bool {
		s = h.state()
		return s.Unread == 0
	})

	if s.ProblemNames != 0 || len(s.Problems) != 0 || s.BlockedFiles != 0 || s.Waiting != 0 {
		t.Errorf("state %+v", s)
	}
}
