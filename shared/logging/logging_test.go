package logging

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
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
	d, err := openDaily(dir, "x")
	require.NoError(t, err)
	d.now = func() time.Time { return now }
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
