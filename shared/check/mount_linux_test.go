package check

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// mount mounts a small file system of its own at a directory, or skips the test where that is not permitted: it needs
// root's rights, and most containers refuse it. TestJudgeSpace and TestWhyADirectoryFails cover what is decided there.
func mount(t *testing.T, directory string, flags uintptr) {
	t.Helper()

	if err := unix.Mount("tmpfs", directory, "tmpfs", flags, "size=1m"); err != nil {
		t.Skipf("a file system of its own cannot be mounted here: %v", err)
	}

	t.Cleanup(func() { require.NoError(t, unix.Unmount(directory, 0)) })
}

func TestReadOnly(t *testing.T) {
	s := filesOnly(t)
	mount(t, s.path("done"), unix.MS_RDONLY)
	s.verdict().has(Problem, "PROCESSED_DIRECTORY", "read-only")
}

func TestFullDisk(t *testing.T) {
	s := filesOnly(t)
	s.Space = nil // use the real function
	mount(t, s.path("data"), 0)
	v := s.verdict()
	v.has(Problem, "DATA_DIRECTORY", "as good as full", "make room")
	require.Error(t, os.WriteFile(s.path("data", "filler"), bytes.Repeat([]byte{1}, 2<<20), 0o600))
	v = s.verdict()
	v.has(Problem, "DATA_DIRECTORY", "the disk is full")

	left, err := filepath.Glob(s.path("data", ".bobosync-check-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestAnotherFileSystem(t *testing.T) {
	s := filesOnly(t)
	mount(t, s.path("done"), 0)
	v := s.verdict()
	v.has(Warning, "moving files", "CSV_DIRECTORY and PROCESSED_DIRECTORY", "copied")
	require.Empty(t, s.leftBehind())
}

// TestADirectoryThatTakesNoFiles simulates missing permissions, which root never lacks: nobody can make files in /proc.
func TestADirectoryThatTakesNoFiles(t *testing.T) {
	s := filesOnly(t)
	s.Data.Directory = "/proc"
	s.verdict().has(Problem, "DATA_DIRECTORY", "cannot write /proc")
}
