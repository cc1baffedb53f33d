//go:build unix

// Package e2e_test runs the real programs as separate processes against a real broker and the AtHoc simulator, and
// lets the auditor judge. All of it is skipped with -short.
package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/e2e/harness"
	"bobosync/e2e/workload"
)

// bin is the directory of the programs.
var bin string

const (
	readyWithin = 60 * time.Second
	idleWithin  = 90 * time.Second
)

// longTests is set by make test-long, which runs the tests that take minutes, and no others.
var longTests = os.Getenv("BOBOSYNC_LONG") != ""

// sideBySide is how many tests run at the same time: they mostly wait.
const sideBySide = "5"

func TestMain(m *testing.M) {
	flag.Parse()

	if err := flag.Set("test.parallel", sideBySide); err != nil {
		panic(err)
	}

	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() {
		return m.Run()
	}

	dir, err := os.MkdirTemp("", "bobosync-e2e-")
	if err == nil {
		bin = filepath.Join(dir, "bin")
		err = harness.Build(context.Background(), bin)
	}
	defer os.RemoveAll(dir)

	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}

	return m.Run()
}

// slow marks a test that may run in parallel with others.
func slow(t *testing.T) {
	if testing.Short() || longTests {
		t.Skip("it runs the real programs, but not for minutes")
	}

	t.Parallel()
}

// long marks a test that takes minutes, or that measures and must run alone: make test-long runs it.
func long(t *testing.T) {
	if testing.Short() || !longTests {
		t.Skip("make test-long runs it")
	}
}

func plan(seed uint64, files int) workload.Plan {
	zone, err := time.LoadLocation(harness.BoboZone)
	if err != nil {
		panic(err)
	}

	return workload.New(workload.Options{
		Seed: seed, Now: time.Now(), Zone: zone, Lifetime: harness.Lifetime, Files: files, Span: time.Duration(files) * 50 * time.Millisecond,
	})
}

// workDir is like t.TempDir, but the directory is kept if the test fails.
func workDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "bobosync-e2e-"+strings.ReplaceAll(t.Name(), "/", "-")+"-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs and files are in %s", dir)
			return
		}

		require.NoError(t, os.RemoveAll(dir))
	})

	return dir
}

// start starts a stack that is ready to work.
func start(t *testing.T, cfg harness.Config) *harness.Stack {
	return startIn(t, workDir(t), cfg)
}

func startIn(t *testing.T, dir string, cfg harness.Config) *harness.Stack {
	cfg.Dir, cfg.Bin = dir, cmp.Or(cfg.Bin, bin)
	s, err := harness.Start(t.Context(), cfg)
	t.Cleanup(func() {
		if s != nil {
			require.NoError(t, s.Close(), "everything stops gracefully")
		}
	})
	require.NoError(t, err)
	require.NoError(t, s.Ready(readyWithin))
	require.NoError(t, s.RemoveUsers())

	return s
}

// finish waits until everything is done and lets the auditor judge.
func finish(t *testing.T, s *harness.Stack) {
	t.Helper()

	idle := s.Idle(idleWithin)
	report, err := s.Judge()
	require.NoError(t, err)

	for _, f := range report.Findings {
		t.Error(f)
	}

	require.NoError(t, idle)
	require.Positive(t, report.Rows)
	require.Positive(t, report.Sent)
	t.Logf("%d rows, %d of them rejected; %d calls with %d users", report.Rows, report.Rejected, report.Updates, report.Sent)
}

func TestFourServices(t *testing.T) {
	slow(t)

	p := plan(1, 60)
	s := start(t, harness.Config{Publishers: 1, Plan: p})
	require.NoError(t, s.DropAll(t.Context(), p.Files))
	finish(t, s)
}

func TestAllInOne(t *testing.T) {
	slow(t)

	p := plan(2, 60)
	s := start(t, harness.Config{AllInOne: true, Plan: p})
	require.NoError(t, s.DropAll(t.Context(), p.Files))
	finish(t, s)
}

// TestKillEverything kills all services and the broker in the middle of 100 files, twice.
func TestKillEverything(t *testing.T) {
	slow(t)

	for _, allInOne := range []bool{false, true} {
		t.Run(fmt.Sprintf("all in one %t", allInOne), func(t *testing.T) {
			t.Parallel()

			p := plan(3, 100)
			s := start(t, harness.Config{Publishers: 2, AllInOne: allInOne, Plan: p})
			for i, part := range [][]workload.File{p.Files[:40], p.Files[40:70], p.Files[70:]} {
				if i > 0 {
					require.NoError(t, s.KillAll())
					require.NoError(t, s.StartAll())
				}

				require.NoError(t, s.DropAll(t.Context(), rebased(part)))
			}

			finish(t, s)
		})
	}
}

// rebased shifts the files' times so that the first file is dropped at once.
func rebased(files []workload.File) []workload.File {
	files = slices.Clone(files)
	first := files[0].At
	for i := range files {
		files[i].At -= first
	}

	return files
}

// TestLostStores kills everything and deletes stores, when some files are processed, some are on their way, and some
// wait that hold older events of the same workers.
func TestLostStores(t *testing.T) {
	slow(t)

	for name, what := range map[string][]string{
		"broker":     {"jetstream"},
		"ingest":     {"data/ingest.db"},
		"resolver":   {"data/resolver.db"},
		"data":       {"data"},
		"everything": {"data", "jetstream"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			p := plan(4, 60)
			s := start(t, harness.Config{Publishers: 1, Plan: p})
			require.NoError(t, s.DropAll(t.Context(), p.Files[:25]))
			require.NoError(t, s.Idle(idleWithin))
			s.RefuseAtHoc(true)
			require.NoError(t, s.DropAll(t.Context(), rebased(p.Files[25:45])))
			require.NoError(t, s.AwaitBacklog(readyWithin))
			require.NoError(t, s.KillAll())
			require.NoError(t, s.Delete(what...))
			require.NoError(t, s.DropAll(t.Context(), rebased(p.Files[45:])))
			s.RefuseAtHoc(false)
			require.NoError(t, s.StartAll())
			require.NoError(t, s.Ready(readyWithin))
			finish(t, s)
		})
	}
}

// private matches payroll ids and coordinates in the forms that the workload writes.
var private = regexp.MustCompile(`PRL\d{9}|\d+\.\d{8}`)

// TestPrivacy checks that what must stay in the files is not found in any event, log, store or call, and that secrets
// are not found anywhere.
func TestPrivacy(t *testing.T) {
	slow(t)
	var mu sync.Mutex
	var traffic []byte
	p := plan(5, 40)
	s := start(t, harness.Config{Publishers: 2, Plan: p, Tap: func(data []byte) {
		mu.Lock()
		defer mu.Unlock()

		traffic = append(traffic, data...)
	}})
	require.NoError(t, s.DropAll(t.Context(), p.Files))
	finish(t, s)
	events, err := s.Messages()
	require.NoError(t, err)
	require.Contains(t, string(events), "bobo.entries.")

	// The tokens that AtHoc issued are secrets as well. Only the token calls may carry secrets.
	mu.Lock()
	tokens := regexp.MustCompile(`"access_token":\s*"([^"]+)"`).FindAllSubmatch(traffic, -1)
	calls := slices.Clone(traffic)
	mu.Unlock()
	require.NotEmpty(t, tokens)

	secrets := s.Secrets
	for _, m := range tokens {
		secrets = append(secrets, string(m[1]))
	}

	stays := map[string]bool{}
	for _, text := range p.Private {
		stays[text] = true
	}

	look := func(where string, data []byte) {
		for _, found := range private.FindAll(data, -1) {
			if stays[string(found)] {
				t.Errorf("%s holds %s", where, found)
			}
		}
	}
	look("a call to AtHoc", calls)

	search := func(where string, data []byte) {
		look(where, data)

		for i, secret := range secrets {
			if strings.Contains(string(data), secret) {
				t.Errorf("%s holds secret %d", where, i)
			}
		}
	}
	search("an event", events)

	looked := 0
	for _, dir := range []string{"data", "jetstream", "logs"} {
		require.NoError(t, filepath.WalkDir(s.Path(dir), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a running broker creates and removes files
			}

			if err != nil || d.IsDir() {
				return err
			}

			data, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}

			looked++

			search(path, data)

			return err
		}))
	}

	require.Greater(t, looked, 10)
	checkLogs(t, s, p)
}

// checkLogs checks that no log names a worker or a user above level DEBUG.
func checkLogs(t *testing.T, s *harness.Stack, p workload.Plan) {
	paths, err := filepath.Glob(s.Path("logs", "*.log"))
	require.NoError(t, err)

	levels := map[string]int{}
	for _, path := range paths {
		if strings.HasSuffix(path, "harness.log") || strings.HasSuffix(path, "athocsim.log") {
			continue
		}

		data, err := os.ReadFile(path)
		require.NoError(t, err)

		for line := range strings.Lines(string(data)) {
			var record struct{ Level string }
			if json.Unmarshal([]byte(line), &record) != nil {
				continue
			}

			levels[record.Level]++
			if record.Level == "DEBUG" {
				continue
			}

			for _, w := range p.Workers {
				if strings.Contains(line, `"`+w.Employee+`"`) || w.Login != "" && strings.Contains(strings.ToLower(line), strings.ToLower(w.Login)) {
					t.Errorf("%s: a worker is named above DEBUG: %s", path, line)
				}
			}
		}
	}

	require.NotZero(t, levels["INFO"])
	require.NotZero(t, levels["DEBUG"])
}

// TestSoak makes a few runs like those that `make soak` makes in large numbers.
func TestSoak(t *testing.T) {
	slow(t)

	for _, seed := range []uint64{1, 2, 3, 4} {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			r := harness.Run{Seed: seed, Dir: workDir(t), Bin: bin, Publishers: 3, Guard: seed%3 == 0}
			result, err := r.Do(t.Context())
			t.Log(result)

			for _, f := range result.Findings {
				t.Error(f)
			}

			require.NoError(t, err)
		})
	}
}
