package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/config"
)

func TestJSONWhenNobodyWatches(t *testing.T) {
	var out bytes.Buffer
	log, closeLog, err := New(&out, "x", config.Log{Level: "INFO", Format: "auto"})
	require.NoError(t, err)
	log.Debug("not shown")
	log.With("service", "x").Info("shown", "file_name", "a.csv", "password", config.Secret("s3cret"))
	require.NoError(t, closeLog())
	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line))
	require.Equal(t, "shown", line["msg"])
	require.Equal(t, "a.csv", line["file_name"])
	require.NotContains(t, out.String(), "s3cret")
}

func TestTextWithoutColoursWhenAskedForInAFile(t *testing.T) {
	var out bytes.Buffer
	log, _, err := New(&out, "x", config.Log{Level: "debug", Format: "text"})
	require.NoError(t, err)
	log.Debug("shown", "n", 1)
	require.Contains(t, out.String(), "DBG shown n=1")
	require.NotContains(t, out.String(), "\x1b")
}

func TestAFileADay(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	log, closeLog, err := New(&out, "bobosync", config.Log{Level: "INFO", Format: "json", Directory: filepath.Join(dir, "logs")})
	require.NoError(t, err)
	log.WithGroup("g").With("k", "v").Info("both")
	require.NoError(t, closeLog())

	data, err := os.ReadFile(filepath.Join(dir, "logs", "bobosync-"+time.Now().Format(time.DateOnly)+".log"))
	require.NoError(t, err)
	require.Contains(t, string(data), "both")
	require.Contains(t, out.String(), "both")
}

func TestTheFileChangesAtMidnight(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2024, 6, 17, 23, 59, 59, 0, time.Local)
	d, err := openDaily(dailyConfig{directory: dir, program: "x", now: func() time.Time { return now }})
	require.NoError(t, err)

	for range 2 {
		_, err = d.Write([]byte("line\n"))
		require.NoError(t, err)

		now = now.Add(time.Second)
	}

	require.NoError(t, d.Close())

	for _, day := range []string{"2024-06-17", "2024-06-18"} {
		data, err := os.ReadFile(filepath.Join(dir, "x-"+day+".log"))
		require.NoError(t, err)
		require.Equal(t, "line\n", string(data))
	}
}

// TestOldFilesAreDeleted: at the start and at midnight, only those of this program.
func TestOldFilesAreDeleted(t *testing.T) {
	dir := t.TempDir()
	touch := func(names ...string) {
		for _, name := range names {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
		}
	}
	others := []string{
		"xy-2024-06-01.log", "x-y-2024-06-01.log", "x-2024-06-01.log.gz", "x-2024-06-31.log", "x-20240601.log", "x-.log", "-2024-06-01.log",
		"x-2024-06-01", "2024-06-01.log", "x-x-2024-06-01.log",
	}
	touch(others...)
	touch("x-2023-12-31.log", "x-2024-06-13.log", "x-2024-06-14.log", "x-2024-06-15.log", "x-2024-06-20.log")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "x-2024-06-02.log"), 0o755))

	gone := func(name string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return os.IsNotExist(err)
	}

	now := time.Date(2024, 6, 17, 23, 59, 59, 0, time.Local)
	d, err := openDaily(dailyConfig{
		directory: dir, program: "x", purgeDays: 3, now: func() time.Time { return now }, remove: os.Remove,
		onProblem: func(err error) { t.Error(err) },
	})
	require.NoError(t, err)
	require.True(t, gone("x-2023-12-31.log"))
	require.True(t, gone("x-2024-06-13.log"))
	require.False(t, gone("x-2024-06-14.log"))

	now = now.Add(time.Second)
	_, err = d.Write([]byte("line\n"))
	require.NoError(t, err)
	require.NoError(t, d.Close())
	require.True(t, gone("x-2024-06-14.log"))

	for _, name := range append(others, "x-2024-06-15.log", "x-2024-06-17.log", "x-2024-06-18.log", "x-2024-06-20.log", "x-2024-06-02.log") {
		require.False(t, gone(name), name)
	}
}

func TestZeroDaysKeepAllFiles(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x-2001-01-01.log"), nil, 0o600))
	_, closeLog, err := New(&bytes.Buffer{}, "x", config.Log{Level: "INFO", Format: "json", Directory: dir})
	require.NoError(t, err)
	require.NoError(t, closeLog())
	require.FileExists(t, filepath.Join(dir, "x-2001-01-01.log"))
	require.ErrorContains(t, (config.Log{Level: "INFO", Format: "json", PurgeDays: -1}).Validate(), "LOG_PURGE_DAYS")
}

// TestLoggingGoesOnIfOldFilesCannotBeDeleted: the console reports it once, the other files are deleted, and logging
// continues.
func TestLoggingGoesOnIfOldFilesCannotBeDeleted(t *testing.T) {
	dir := t.TempDir()
	for _, day := range []string{"2001-01-01", "2001-01-02"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "x-"+day+".log"), nil, 0o600))
	}

	var console bytes.Buffer
	d, err := openDaily(dailyConfig{
		directory: dir, program: "x", purgeDays: 10, now: time.Now, onProblem: purgeProblem(slog.NewTextHandler(&console, nil)),
		remove: func(path string) error {
			if filepath.Base(path) == "x-2001-01-01.log" {
				return errors.New("somebody has it open")
			}
			return os.Remove(path)
		},
	})
	require.NoError(t, err)

	for range 3 {
		_, err = d.Write([]byte("line\n"))
		require.NoError(t, err)
	}

	require.NoError(t, d.Close())
	require.Equal(t, 1, strings.Count(console.String(), "LOG_PURGE_DAYS"), console.String())
	require.Contains(t, console.String(), "somebody has it open")
	require.FileExists(t, filepath.Join(dir, "x-2001-01-01.log"))
	require.NoFileExists(t, filepath.Join(dir, "x-2001-01-02.log"))
}

// TestTwoProgramsDeleteTheSameFiles: at midnight one of several publishers is first, which is no problem for the
// others.
func TestTwoProgramsDeleteTheSameFiles(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "x-2001-01-01.log"), nil, 0o600))
	d, err := openDaily(dailyConfig{
		directory: dir, program: "x", purgeDays: 10, now: time.Now, onProblem: func(err error) { t.Error(err) },
		remove: func(path string) error {
			require.NoError(t, os.Remove(path)) // as another program would
			return os.Remove(path)
		},
	})
	require.NoError(t, err)
	require.NoError(t, d.Close())
}

func TestLevels(t *testing.T) {
	for name, want := range map[string]slog.Level{"debug": slog.LevelDebug, "WARNING": slog.LevelWarn, "Error": slog.LevelError} {
		got, err := ParseLevel(name)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}

	_, err := ParseLevel("loud")
	require.ErrorContains(t, err, "LOG_LEVEL")
	_, _, err = New(&bytes.Buffer{}, "x", config.Log{Level: "INFO", Format: "json", Directory: "/dev/null/x"})
	require.ErrorContains(t, err, "LOG_DIRECTORY")
}

// TestForeignTextIsHarmless: in a log for people, nothing that others chose controls the terminal or begins a line;
// JSON keeps it, in visible characters.
func TestForeignTextIsHarmless(t *testing.T) {
	const evil = "x\x1b[2J\nERR all is lost\u202e\u200b"
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log, _, err := New(&out, "x", config.Log{Level: "DEBUG", Format: format})
		require.NoError(t, err)
		log.With("with", evil).WithGroup("g").Info(evil, "name", evil, "error", errors.New(evil), "list", []string{evil},
			slog.Group("h", "deep", evil), "password", config.Secret("s3cret"))
		require.Equal(t, 1, strings.Count(out.String(), "\n"), format)
		require.NotContains(t, out.String(), "s3cret")

		for _, r := range []string{"\x1b", "\u202e", "\u200b"} {
			require.NotContains(t, out.String(), r, format)
		}

		if format == "json" {
			var line map[string]any
			require.NoError(t, json.Unmarshal(out.Bytes(), &line))
			require.Equal(t, evil, line["msg"])
			require.Equal(t, evil, line["with"])
		}
	}
}

// TestTheFileIsOpenedAgain: after the file was moved, deleted or replaced, or its directory was, later records are in a
// new file of the same name.
func TestTheFileIsOpenedAgain(t *testing.T) {
	for name, take := range map[string]func(path string) error{
		"moved":            func(path string) error { return os.Rename(path, path+".1") },
		"deleted":          os.Remove,
		"replaced":         func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)) },
		"directory moved":  func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".1") },
		"directory erased": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
		"moved and packed": func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path+".1.gz", nil, 0o600), os.Remove(path+".1"))
		},
		"moved, and an empty one made": func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.WriteFile(path, nil, 0o600))
		},
		"copied and cut": func(path string) error { return os.Truncate(path, 0) },
		"directory exchanged": func(path string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.Rename(dir, dir+".1"), os.Mkdir(dir, 0o700))
		},
		"directory exchanged for a link": func(path string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.Rename(dir, dir+".1"), os.Mkdir(dir+".2", 0o700), os.Symlink(dir+".2", dir))
		},
		"replaced by a link that leads nowhere": func(path string) error {
			return errors.Join(os.Remove(path), os.Symlink(path+".to", path))
		},
		"replaced by one of another name": func(path string) error {
			return errors.Join(os.WriteFile(path+".new", nil, 0o600), os.Rename(path+".new", path))
		},
		"directory and the one above it erased": func(path string) error { return os.RemoveAll(filepath.Dir(filepath.Dir(path))) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "var", "logs")
			now := time.Date(2024, 6, 17, 12, 0, 0, 0, time.Local)
			d, err := openDaily(dailyConfig{directory: dir, program: "x", now: func() time.Time { return now }})
			require.NoError(t, err)

			defer func() { _ = d.Close() }() // the test has read it

			path := filepath.Join(dir, "x-2024-06-17.log")
			_, err = d.Write([]byte("before\n"))
			require.NoError(t, err)
			require.NoError(t, take(path))

			now = now.Add(checkInterval)

			for _, line := range []string{"after\n", "more\n"} {
				_, err = d.Write([]byte(line))
				require.NoError(t, err)
			}

			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, "after\nmore\n", string(data))
		})
	}
}

// TestRecordsGoOnWhileNoFileCanBeMade: the open file receives the records, and a new one is made as soon as that is
// possible.
func TestRecordsGoOnWhileNoFileCanBeMade(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	now := time.Date(2024, 6, 17, 23, 59, 59, 0, time.Local)
	d, err := openDaily(dailyConfig{directory: dir, program: "x", now: func() time.Time { return now }})
	require.NoError(t, err)

	defer func() { _ = d.Close() }() // the test has read it

	require.NoError(t, os.Rename(dir, dir+".1"))
	require.NoError(t, os.WriteFile(dir, nil, 0o600)) // prevents making a directory there

	now = now.Add(checkInterval)
	_, err = d.Write([]byte("meanwhile\n"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(dir))

	now = now.Add(checkInterval)
	_, err = d.Write([]byte("after\n"))
	require.NoError(t, err)

	data, err := os.ReadFile(filepath.Join(dir+".1", "x-2024-06-17.log"))
	require.NoError(t, err)
	require.Equal(t, "meanwhile\n", string(data))
	data, err = os.ReadFile(filepath.Join(dir, "x-2024-06-18.log"))
	require.NoError(t, err)
	require.Equal(t, "after\n", string(data))
}

// TestTheFileComesBack: while something that is not a file is in its place, the previous file continues to receive
// records; then a new one is opened.
func TestTheFileComesBack(t *testing.T) {
	for name, block := range map[string]func(path string) error{
		"a directory":           func(path string) error { return os.Mkdir(path, 0o700) },
		"a link to itself":      func(path string) error { return os.Symlink(path, path) },
		"a link to a directory": func(path string) error { return os.Symlink(filepath.Dir(path), path) },
		"its directory is a file": func(path string) error {
			return errors.Join(os.RemoveAll(filepath.Dir(path)), os.WriteFile(filepath.Dir(path), nil, 0o600))
		},
		"its directory leads away": func(path string) error {
			return errors.Join(os.RemoveAll(filepath.Dir(path)), os.Symlink("nowhere", filepath.Dir(path)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "logs")
			now := time.Date(2024, 6, 17, 12, 0, 0, 0, time.Local)
			d, err := openDaily(dailyConfig{directory: dir, program: "x", now: func() time.Time { return now }})
			require.NoError(t, err)

			defer func() { _ = d.Close() }() // the test has read it

			path := filepath.Join(dir, "x-2024-06-17.log")
			require.NoError(t, errors.Join(os.Remove(path), block(path)))

			now = now.Add(checkInterval)
			_, err = d.Write([]byte("meanwhile\n"))
			require.NoError(t, err)

			if os.Remove(path) != nil { // remove what is in the way: the path, or what replaced the directory
				require.NoError(t, os.Remove(dir))
			}

			now = now.Add(checkInterval)
			_, err = d.Write([]byte("after\n"))
			require.NoError(t, err)
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, "after\n", string(data))
		})
	}
}
