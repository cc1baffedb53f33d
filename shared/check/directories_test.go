package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/config"
)

// filesOnly returns a site of which only the directories are checked.
func filesOnly(t *testing.T) *site {
	t.Helper()
	s := newSite(t, nil)
	s.AtHoc.ServerURL = ""
	return s
}

func TestJudgeSpace(t *testing.T) {
	const gib = 1 << 30
	for name, c := range map[string]struct {
		space Space
		want  Level
	}{
		"plenty":            {Space{Free: 50 * gib, Total: 100 * gib}, OK},
		"below 5 %":         {Space{Free: 4 * gib, Total: 100 * gib}, Warning},
		"just 5 %":          {Space{Free: 5 * gib, Total: 100 * gib}, OK},
		"below 1 GiB":       {Space{Free: gib - 1, Total: 2 * gib}, Warning},
		"below 100 MiB":     {Space{Free: 100<<20 - 1, Total: 200 << 20}, Problem},
		"full":              {Space{Total: gib}, Problem},
		"no files any more": {Space{Free: 50 * gib, Total: 100 * gib, NoFiles: true}, Problem},
	} {
		level, text := judgeSpace(c.space)
		require.Equal(t, c.want, level, "%s: %s", name, text)
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{0: "0 bytes", 1023: "1023 bytes", 1024: "1.0 KiB", 100 << 20: "100.0 MiB", 5 << 30: "5.0 GiB", 3 << 50: "3.0 PiB"} {
		require.Equal(t, want, size(bytes))
	}
}

// TestWhyADirectoryFails covers the failures that a test cannot cause everywhere, because root is permitted everything.
func TestWhyADirectoryFails(t *testing.T) {
	d := directory{variable: "DATA_DIRECTORY", path: "/data", write: true}
	for want, err := range map[string]error{
		"the disk is full":                syscall.ENOSPC,
		"cannot write /data: the disk is": syscall.EDQUOT,
		"its file system is read-only":    syscall.EROFS,
		"no permission":                   fs.ErrPermission,
		"does not exist":                  fs.ErrNotExist,
		"is not a directory":              syscall.ENOTDIR,
		"something else":                  errors.New("something else"),
		"cannot write /data: no such de":  syscall.ENODEV,
	} {
		r := d.failed("write", &fs.PathError{Op: "open", Path: "/data/x", Err: err})[0]
		require.Equal(t, Problem, r.Level)
		require.Contains(t, r.Message, want)
		require.NotEmpty(t, r.Advice)
	}
}

func TestDirectories(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*site)
		level  Level
		check  string
		says   []string
	}{
		"missing input": {func(s *site) { s.Files.CSV = s.path("missing") }, Problem, "CSV_DIRECTORY", []string{"does not exist"}},
		"a missing feed": {func(s *site) {
			s.Files.Feeds = []Feed{{"FEEDS north", s.path("in")}, {"FEEDS south", s.path("missing")}}
		},
			Problem, "FEEDS south", []string{"does not exist"}},
		"made":         {func(s *site) { s.Files.Processed = s.path("not", "yet") }, OK, "PROCESSED_DIRECTORY", []string{"will be made"}},
		"a file":       {func(s *site) { s.Files.Failed = s.file("failed.txt") }, Problem, "FAILED_FILES_DIRECTORY", []string{"is not a directory"}},
		"below a file": {func(s *site) { s.Data.Directory = filepath.Join(s.file("data.txt"), "below") }, Problem, "DATA_DIRECTORY", []string{"is not a directory"}},
		"log":          {func(s *site) { s.Log.Directory = s.file("log.txt") }, Problem, "LOG_DIRECTORY", []string{"is not a directory"}},
		"the same":     {func(s *site) { s.Files.Processed = s.path("in", "..", "in") }, Problem, "moving files", []string{"CSV_DIRECTORY and PROCESSED_DIRECTORY are the same"}},
		"both missing": {func(s *site) { s.Files.Processed, s.Files.Failed = s.path("x"), s.path("x") }, Problem, "moving files", []string{"are the same"}},
		"full": {func(s *site) { s.Space = func(string) (Space, error) { return Space{Free: 1, Total: 1 << 40}, nil } },
			Problem, "DATA_DIRECTORY", []string{"as good as full", "make room"}},
		"well": {func(*site) {}, OK, "moving files", []string{"can be renamed"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := filesOnly(t)
			c.change(s)
			s.verdict().has(c.level, c.check, c.says...)
			require.Empty(t, s.leftBehind())
		})
	}
}

// file makes a file and returns its path.
func (s *site) file(name string) string {
	s.t.Helper()
	require.NoError(s.t, os.WriteFile(s.path(name), nil, 0o600))
	return s.path(name)
}

// leftBehind returns the trial files that the check has not removed.
func (s *site) leftBehind() []string {
	found, err := filepath.Glob(s.path("*", ".bobosync-check-*"))
	require.NoError(s.t, err)
	more, err := filepath.Glob(s.path(".bobosync-check-*"))
	require.NoError(s.t, err)

	return append(found, more...)
}

func TestFilesThatStayNeedNoOtherDirectory(t *testing.T) {
	s := filesOnly(t)
	s.Files = &Files{CSV: s.path("in")}
	v := s.verdict()
	v.has(OK, "CSV_DIRECTORY", "can be read;")

	for _, r := range v.results {
		require.NotEqual(t, "moving files", r.Check)
	}
}

// TestDiskSpaceOfThisMachine: querying the disk space works on the system that the test runs on.
func TestDiskSpaceOfThisMachine(t *testing.T) {
	got, err := diskSpace(t.TempDir())
	require.NoError(t, err)
	require.NotZero(t, got.Total)
	require.LessOrEqual(t, got.Free, got.Total)
	_, err = diskSpace(filepath.Join(t.TempDir(), "missing"))
	require.Error(t, err)
}

func TestSlips(t *testing.T) {
	known := []string{"ATHOC_SERVER_URL", "CLIENT_SECRET", "CSV_DIRECTORY", "LOG_DIRECTORY", "SYNC_HOUR", "PASSWORD", "HTTP_PROXY", "HTTPS_PROXY", "NATS_URL", "SCOPE"}
	for written, meant := range map[string]string{
		"ATHOC_SERVER_ULR": "ATHOC_SERVER_URL", "ATHOC_SERVERURL": "ATHOC_SERVER_URL", "CLIENT_SECRT": "CLIENT_SECRET",
		"LOG_DIR": "LOG_DIRECTORY", "SYNC_HOURS": "SYNC_HOUR", "csv_directory": "CSV_DIRECTORY", "PASSWROD": "PASSWORD",
		"CVS_DIRECTORY_FILE": "", "PATH": "", "NATS_CA": "", "HTTP_PROXY": "", "CLIENT_SECRET_FILE": "", "SLOPE": "SCOPE",
		"CHECK_INTERVAL": "", "TZ": "",
	} {
		results := slips([]string{written}, known)
		if meant == "" {
			require.Empty(t, results, written)
			continue
		}

		require.Len(t, results, 1, written)
		require.Equal(t, Warning, results[0].Level)
		require.Equal(t, written, results[0].Check)
		require.Contains(t, results[0].Message, "is "+meant+" meant?")
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"abc", "xbc", 1}, {"", "abc", 3}, {"kitten", "sitting", 3}} {
		require.Equal(t, c.want, distance(c.a, c.b), "%s %s", c.a, c.b)
		require.Equal(t, c.want, distance(c.b, c.a), "%s %s", c.b, c.a)
	}
}

func TestSettingsFile(t *testing.T) {
	s := filesOnly(t)
	s.Known = []string{"PASSWORD", "CSV_DIRECTORY"}
	require.NoError(t, os.WriteFile(s.EnvFile, []byte("PASSWORD=hunter2\nCVS_DIRECTORY=./in\n"), 0o600))
	require.NoError(t, os.Chmod(s.EnvFile, 0o644)) //nolint:gosec // that is the fault
	s.AtHoc.DisableSSLVerify = true
	s.Getenv = func(name string) string { return map[string]string{"https_proxy": "http://proxy"}[name] }
	s.Findings = fmt.Errorf("ORG_CODE: not set, and there is no default\nBATCH_SIZE: must be from 1 to 5000")
	v := s.verdict()
	v.has(Problem, "ORG_CODE", "not set")
	v.has(Problem, "BATCH_SIZE", "from 1 to 5000")
	v.has(Warning, "CVS_DIRECTORY", "CSV_DIRECTORY meant?")
	v.has(Warning, "settings", "can read the secrets", "chmod 600")
	v.has(Warning, "DISABLE_SSL_VERIFY", "not verified", "SSL_CERT_PATH")
	v.has(Warning, "https_proxy", "only HTTPS_PROXY is read")
	v.has(OK, "CSV_DIRECTORY") // what does not depend on them is still checked

	require.NoError(t, os.Chmod(s.EnvFile, 0o600))

	for _, r := range s.verdict().results {
		require.NotContains(t, r.Message, "can read the secrets")
	}
}

func TestUnreadSettings(t *testing.T) {
	results := Run(t.Context(), Options{Settings: Settings{Findings: errors.New("read the settings: no such file"), Unread: true}})
	require.Len(t, results, 1)
	require.Equal(t, Problem, results[0].Level)
}

func TestVariables(t *testing.T) {
	require.Equal(t, []string{"NATS_MONITOR_URL", "NATS_SYS_CREDS"}, Variables(typeOf[Monitor]()))
	require.Contains(t, Variables(typeOf[struct{ Inner config.Broker }]()), "NATS_URL")
}
