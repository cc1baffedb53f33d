//go:build unix

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/e2e/harness"
	"bobosync/shared/boborow"
)

// TestQuick runs the whole benchmark with the real programs in small sizes.
func TestQuick(t *testing.T) {
	if os.Getenv("BOBOSYNC_LONG") == "" {
		t.Skip("make test-long runs it")
	}

	c := Quick
	c.Dir = t.TempDir()
	c.Bin = filepath.Join(c.Dir, "bin")
	require.NoError(t, harness.Build(t.Context(), c.Bin))
	report, err := Run(t.Context(), c)
	require.NoError(t, err)
	require.Empty(t, report.Problems)

	figures := map[string]Figure{}
	for _, f := range report.Figures {
		key := f.Section + "/" + f.Where + "/" + f.What
		require.NotContains(t, figures, key)
		figures[key] = f
	}

	for _, where := range []string{"all in one", "four services"} {
		for _, section := range []string{"(a) 1 file of 20,000 rows, 500 workers", "(b) 50 files of 20 rows, 500 workers", "(b) 100 files of 10 rows, 500 workers"} {
			require.Positive(t, figures[section+"/"+where+"/rows a second"].Value)
			sent := figures[section+"/"+where+"/users sent, for each worker"].Value
			require.GreaterOrEqual(t, sent, 1.0, "every worker has an event")
		}

		section := "From a file's last byte to AtHoc's answer, 3 files one after another, SETTLE_TIME 1s"
		require.Greater(t, figures[section+"/"+where+"/median"].Value, 1.0, "no file is taken before it has settled")
	}

	left, err := filepath.Glob(filepath.Join(c.Dir, "stack-*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestCancelledRunEndsItsProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs programs")
	}

	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	require.NoError(t, harness.Build(t.Context(), bin))
	ctx, cancel := context.WithCancel(t.Context())
	s, err := startStack(ctx, stackConfig{topology: services, dir: filepath.Join(dir, "stack"), bin: bin, workers: 10})
	running := slices.Clone(s.running)

	cancel()
	require.NoError(t, err)
	require.Len(t, running, 6)
	require.ErrorIs(t, s.awaitGone(ctx, time.Minute, []string{"."}), context.Canceled)
	require.NoError(t, s.stop())

	for _, p := range running {
		require.Error(t, p.died())
	}
}

func TestMissingProgramIsNamed(t *testing.T) {
	s, err := startStack(t.Context(), stackConfig{topology: allInOne, dir: t.TempDir(), bin: t.TempDir(), workers: 1})
	require.ErrorContains(t, err, "start athocsim")
	require.NoError(t, s.stop())
}

func TestProcessThatEndsIsNoticed(t *testing.T) {
	s := &stack{topology: allInOne, dir: t.TempDir()}
	require.NoError(t, os.Mkdir(s.path("logs"), 0o700))
	require.NoError(t, s.start("short-lived", "/bin/sh", nil, "-c", "exit 3"))
	err := s.await(t.Context(), time.Minute, "nothing", func() (bool, error) { return false, nil })
	require.ErrorContains(t, err, "short-lived has ended by itself (exit status 3)")
	require.NoError(t, s.stop())
}

func TestProcessThatEndsBadlyIsAnError(t *testing.T) {
	s := &stack{topology: allInOne, dir: t.TempDir()}
	require.NoError(t, os.Mkdir(s.path("logs"), 0o700))
	require.NoError(t, s.start("failing", "/bin/sh", nil, "-c", "trap 'exit 7' TERM; echo ready; while :; do :; done"))
	require.NoError(t, s.await(t.Context(), time.Minute, "the trap", func() (bool, error) {
		text, err := os.ReadFile(s.path("logs", "failing.log"))
		return bytes.Contains(text, []byte("ready")), err
	}))
	require.ErrorContains(t, s.stop(), "failing ended badly after SIGTERM: exit status 7")
}

// writeRows writes a file of rows given as kind, employee and time.
func writeRows(t *testing.T, rows ...string) string {
	path := filepath.Join(t.TempDir(), "rows.csv")

	text := boborow.Header + "\n"
	for _, r := range rows {
		f := strings.Fields(r)
		text += fmt.Sprintf("%s,%s,PAY,%s,%s,%s,1,0,0,5\n", f[0], f[1], f[2][:8], f[2][8:], f[2])
	}

	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))

	return path
}

func TestWantedEndState(t *testing.T) {
	w := newWant(5)
	require.NoError(t, w.read(writeRows(t,
		"BON 00001 20240617143000", "BOF 00001 20240617142959", // an older event later in the file
		"BOF 00002 20240617143000", "BON 00002 20240617143000", // the same second: the later row
		"BON 00003 20240617143000")))
	require.NoError(t, w.read(writeRows(t, "BOF 00003 20240617143000", "BON 00004 20240617000001", "BOF 00001 20240616235959")))

	right := map[string]string{
		"w00001@example.org": "17/06/2024 14:30:00", "w00002@example.org": "17/06/2024 14:30:00", "w00004@example.org": "17/06/2024 00:00:01",
	}
	require.NoError(t, w.compare(right))

	for what, change := range map[string]func(map[string]string){
		"missing":           func(m map[string]string) { delete(m, "w00004@example.org") },
		"another time":      func(m map[string]string) { m["w00001@example.org"] = "17/06/2024 14:29:59" },
		"on instead of off": func(m map[string]string) { m["w00003@example.org"] = "17/06/2024 14:30:00" },
		"somebody else":     func(m map[string]string) { m["w00005@example.org"] = "17/06/2024 14:30:00" },
	} {
		state := maps.Clone(right)
		change(state)
		require.Error(t, w.compare(state), what)
	}
}

func TestWorkloadSpeaksOfEveryWorkerAndHasNoTiesBetweenFiles(t *testing.T) {
	dir := t.TempDir()
	w := workload{files: 30, rowsPerFile: 20, workers: 100, name: "f", now: time.Now(), rng: newRand()}
	names, err := w.write(dir)
	require.NoError(t, err)
	require.Len(t, names, 30)
	require.True(t, slices.IsSorted(names))

	perWorker, fileOf := map[string]int{}, map[string]string{}
	for _, n := range names {
		rows, err := readCSV(filepath.Join(dir, n))
		require.NoError(t, err)
		require.Equal(t, 21, rows)

		split, err := splitLines(filepath.Join(dir, n))
		require.NoError(t, err)
		require.Equal(t, rows, split)

		text, err := os.ReadFile(filepath.Join(dir, n))
		require.NoError(t, err)

		for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n")[1:] {
			f := strings.Split(line, ",")
			require.Equal(t, f[3]+f[4], f[5])
			at, err := time.Parse(boborow.CreatedLayout, f[5])
			require.NoError(t, err)
			require.WithinRange(t, at, w.now.Add(-span-time.Second), w.now)

			perWorker[f[1]]++

			key := f[1] + " " + f[5]
			if other := fileOf[key]; other != "" {
				require.Equal(t, n, other, "a tie between two files")
			}

			fileOf[key] = n
		}
	}

	require.Len(t, perWorker, 100)

	for employee, n := range perWorker {
		require.Equal(t, 6, n, employee)
	}
}

func TestParseUsage(t *testing.T) {
	stat := []byte("42 (a) b (c) S 1 42 42 0 -1 4194560 5000 0 0 0 250 31 0 0 20 0 9 0 1234 1 1\n")
	status := []byte("Name:\ta\nVmPeak:\t 9999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\nRssAnon:\t    512 kB\nThreads:\t9\n")
	u, err := parseUsage(stat, status)
	require.NoError(t, err)
	require.Equal(t, usage{cpu: 2810 * time.Millisecond, peak: 2 << 20, now: 1 << 20, own: 512 << 10}, u)

	_, err = parseUsage([]byte("42 (a) S 1"), status)
	require.Error(t, err)
	_, err = parseUsage(stat, []byte("Name:\ta\n"))
	require.Error(t, err)
}

func TestPercentile(t *testing.T) {
	var all []time.Duration
	for i := range 100 {
		all = append(all, time.Duration(i+1))
	}

	require.Equal(t, time.Duration(50), percentile(all, 0.5))
	require.Equal(t, time.Duration(99), percentile(all, 0.99))
	require.Equal(t, time.Duration(1), percentile(all[:1], 0.99))
	require.Equal(t, time.Duration(2), percentile(all[:3], 0.5))
}

func TestReport(t *testing.T) {
	b := &bench{Config: Config{Judge: true}}
	b.Machine = []string{"a machine"}
	b.Notes = []string{"a note"}
	b.Problems = []string{"something is wrong"}
	b.add(Figure{Section: "One", Where: "here", What: "speed", Value: 1234567.8}, atLeast(1000, "at least 1,000"))
	b.add(Figure{Section: "One", Where: "there", What: "memory", Value: 12.345, Unit: "MiB"}, atMost(12, "at most 12 MiB"))
	b.add(Figure{Section: "Two", Where: "here", What: "share", Value: 1, Unit: "%"}, below(1, "below 1 %"))
	b.add(Figure{Section: "Two", Where: "here", What: "calls", Value: 20})
	var text, raw bytes.Buffer
	require.NoError(t, b.WriteText(&text))
	require.Equal(t, `a machine

One
  here   speed   1,234,568      at least 1,000  met
  there  memory      12.35 MiB  at most 12 MiB  NOT MET

Two
  here   share           1 %    below 1 %       NOT MET
  here   calls          20

a note
PROBLEM: something is wrong
`, text.String())
	require.NoError(t, b.WriteJSON(&raw))
	var back Report
	require.NoError(t, json.Unmarshal(raw.Bytes(), &back))
	require.Equal(t, b.Report, back)
}

func TestTargetsAreForTheirSizesOnly(t *testing.T) {
	b := &bench{}
	b.add(Figure{Section: "One", Value: 1}, atLeast(1000, "at least 1,000"))
	require.Nil(t, b.Figures[0].Met)
	require.Equal(t, "at least 1,000", b.Figures[0].Target)
}

func TestValidate(t *testing.T) {
	require.NoError(t, Quick.Validate())

	for what, c := range map[string]func(*Config){
		"-rows":          func(c *Config) { c.Rows = 0 },
		"-workers":       func(c *Config) { c.Workers = c.Rows + 1 },
		"-latency-files": func(c *Config) { c.LatencyFiles = c.Workers },
		"-only":          func(c *Config) { c.Parts = []string{"speed"} },
		"-files":         func(c *Config) { c.Files = 40_000 },
	} {
		bad := Quick
		c(&bad)
		require.ErrorContains(t, bad.Validate(), what)
	}
}

func TestLimits(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		rate, err := jetStreamRate(t.Context(), filepath.Join(t.TempDir(), "js"), 2000, tcp)
		require.NoError(t, err)
		require.Positive(t, rate)
	}

	took, err := syncTime(t.TempDir())
	require.NoError(t, err)
	require.Positive(t, took)
	path := filepath.Join(t.TempDir(), "bad.csv")
	require.NoError(t, os.WriteFile(path, []byte("a,b\n"), 0o600))
	_, err = splitLines(path)
	require.ErrorContains(t, err, "line 1 has 2 columns")
}

// TestLimitsAreThoseOfCompose checks that containerLimits agrees with the compose file.
func TestLimitsAreThoseOfCompose(t *testing.T) {
	text, err := os.ReadFile("../../deploy/compose.yaml")
	require.NoError(t, err)

	limits := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^ +mem_limit: (\d+)m$`).FindAllStringSubmatch(string(text), -1) {
		limits[m[1]] = true
	}

	require.Equal(t, map[string]bool{"128": true, "512": true}, limits)

	for name, limit := range containerLimits {
		require.Equal(t, map[bool]float64{true: 512, false: 128}[name == brokerProcess], limit, name)
	}
}
