//go:build unix

package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/e2e/harness"
	"bobosync/e2e/workload"
	"bobosync/shared/boborow"
	"bobosync/shared/bustest/freeport"
	consolelogin "bobosync/shared/login"
	"bobosync/shared/verdict"
)

var (
	// allVerdicts plays every scene. Without it only a few are played, which cover each way to a verdict.
	allVerdicts = flag.Bool("all-verdicts", false, "play every fault that has a verdict, not a few of them")
	// updateRunbook writes the results of the scenes into the runbook.
	updateRunbook = flag.Bool("update-runbook", false, "write the table of faults into docs/runbook.md")
)

const (
	// namedWithin is how long a fault may last before status names it.
	namedWithin = 2 * time.Minute
	// pollInterval is how often status is asked for.
	pollInterval = time.Second
	runbook      = "../docs/runbook.md"
)

// scene is a fault, and what status has to say about it.
type scene struct {
	// fault is the fault's name in the runbook's table.
	fault string
	// soak are the faults of the soak that the scene represents. The first one is played if play is nil.
	soak []string
	// cause and level are those of the finding that status must show. Without a cause, the pipeline must go on by
	// itself: status must say OK once AtHoc shows what was booked after the fault began.
	cause string
	level verdict.Level
	// short is for the scenes that are always played.
	short bool
	// root is for scenes that need a small file system.
	root     bool
	allInOne bool
	// busy books many workers on once the fault has begun: with one worker alone, nobody could tell whether AtHoc is
	// to blame.
	busy bool
	// cold does not wait until the pipeline works; quiet books nothing meanwhile.
	cold, quiet bool
	settings    map[string]string
	flags       []string // of bobosync status
	prepare     func(t *testing.T, dir string, settings map[string]string)
	play        func(t *testing.T, s *harness.Stack)
}

// judged is what bobosync status --json says.
type judged struct {
	verdict.Verdict
	exit int
}

func (j judged) find(cause string, level verdict.Level) (verdict.Finding, bool) {
	at := slices.IndexFunc(j.Findings, func(f verdict.Finding) bool { return f.Cause == cause && f.Level >= level })
	if at < 0 {
		return verdict.Finding{}, false
	}

	return j.Findings[at], true
}

// ok reports whether all is well, apart from what is so in every scene: the simulator is called without TLS.
func (j judged) ok() bool {
	return !slices.ContainsFunc(j.Findings, func(f verdict.Finding) bool { return f.Cause != verdict.CauseInTheClear })
}

func (j judged) String() string {
	words := []string{fmt.Sprintf("exit %d: %s", j.exit, j.Verdict)}
	for _, f := range j.Findings {
		words = append(words, fmt.Sprintf("%v %s: %s", f.Level, f.Cause, f.Text))
	}

	return strings.Join(words, "\n  ")
}

// status asks for the verdict, as a script does.
func status(t *testing.T, s *harness.Stack, flags []string) judged {
	t.Helper()
	j, err := askStatus(t.Context(), s, flags...)
	require.NoError(t, err)
	return j
}

// askStatus is status for callers that must not end the test.
func askStatus(ctx context.Context, s *harness.Stack, flags ...string) (j judged, err error) {
	out, err := s.Operate(ctx, append([]string{"status", "--json"}, flags...)...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		j.exit = exit.ExitCode()
	} else if err != nil {
		return j, err
	}

	if err := json.Unmarshal([]byte(out), &j); err != nil {
		return j, fmt.Errorf("read what status says: %w: %s", err, out)
	}

	if int(j.Level) != j.exit {
		return j, fmt.Errorf("the exit status is %d, and not the level: %s", j.exit, out)
	}

	return j, nil
}

// TestVerdicts plays each fault against the real programs. It checks that status names the fault within two minutes,
// with what to do, and so does the console's first page; or that the pipeline goes on by itself, and status says OK
// once it does. The results are in the runbook.
func TestVerdicts(t *testing.T) {
	if !*allVerdicts {
		long(t)
		t.Parallel()
	}

	var mu sync.Mutex
	rows := map[string]string{}
	t.Run("scenes", func(t *testing.T) {
		for _, sc := range scenes() {
			if !sc.short && !*allVerdicts {
				continue
			}

			t.Run(sc.fault, func(t *testing.T) {
				t.Parallel()

				if sc.root && os.Getuid() != 0 {
					t.Skip("skipped: only root can mount a small file system to fill it")
				}

				row := sc.show(t)

				mu.Lock()
				defer mu.Unlock()

				rows[sc.fault] = row
			})
		}
	})

	if t.Failed() {
		return
	}

	before := tableOfFaults(t)
	if *updateRunbook {
		writeTable(t, before, rows)
		return
	}

	for fault, row := range rows {
		require.Equal(t, before[fault], row, "the runbook's table is generated: make test-verdicts VERDICTS=-update-runbook")
	}
}

// show plays the scene and returns its row.
func (sc scene) show(t *testing.T) string {
	settings := map[string]string{"LATE_AFTER": "20s"}
	maps.Copy(settings, sc.settings)

	cfg := harness.Config{Dir: workDir(t), Bin: bin, Plan: staff(staffed), AllInOne: sc.allInOne, Settings: settings, SyncLazily: true}
	if sc.prepare != nil {
		sc.prepare(t, cfg.Dir, settings)
	}

	s, err := harness.Start(t.Context(), cfg)
	t.Cleanup(func() {
		if s != nil {
			_ = s.Close() // a process that was frozen need not end well
		}
	})
	require.NoError(t, err)

	page := func() string { return "" }
	if sc.inConsole() {
		page = addConsole(t, s)
	}

	if !sc.cold {
		require.NoError(t, s.Ready(readyWithin))
		require.NoError(t, s.Idle(idleWithin))

		before := status(t, s, nil)
		if sc.cause != "" {
			_, already := before.find(sc.cause, sc.level)
			require.False(t, already, "before the fault: %s", before)
		}
	}

	switch {
	case sc.play != nil:
		sc.play(t, s)
	case len(sc.soak) > 0:
		over, err := s.Begin(t.Context(), sc.soak[0], 2*namedWithin)
		require.NoError(t, err)

		defer runtime.KeepAlive(over) // otherwise a file that it holds would be closed, and its lease would be gone
	}

	if sc.busy {
		drop(t, s, "busy.csv", shift(staffed, true, 90)...)
	}

	found := sc.await(t, s)
	if sc.cause == "" {
		return fmt.Sprintf("| %s | goes on by itself | |", sc.fault)
	}

	if sc.inConsole() {
		require.Eventually(t, func() bool { return strings.Contains(page(), `data-cause="`+sc.cause+`"`) }, namedWithin/2, pollInterval, "the console's first page says it, too")
	}

	return fmt.Sprintf("| %s | %v `%s` | %s |", sc.fault, sc.level, sc.cause, steady(found.Do))
}

// inConsole reports whether the console must say it as well. The console asks for nothing beyond what it was started
// with, and a console inside a program that was killed says nothing.
func (sc scene) inConsole() bool { return len(sc.flags) == 0 && !sc.allInOne && sc.cause != "" }

// addConsole starts a console, and returns a function that returns its first page as an operator sees it, or "" if it
// cannot be reached.
func addConsole(t *testing.T, s *harness.Stack) (page func() string) {
	t.Helper()

	port, err := freeport.Find()
	require.NoError(t, err)
	const name, password = "olga", "correct horse battery"
	hash, err := consolelogin.Hash(password)
	require.NoError(t, err)

	users := s.Path("console-users")
	require.NoError(t, os.WriteFile(users, []byte(consolelogin.Line(name, "operator", hash)+"\n"), 0o600))

	addr := fmt.Sprintf("127.0.0.1:%d", port)
	_, err = s.AddConsole(map[string]string{"CONSOLE_ADDR": addr, "CONSOLE_AUTH": "file", "CONSOLE_USERS_FILE": users})
	require.NoError(t, err)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)

	client := http.Client{Jar: jar, Timeout: 10 * time.Second}

	return func() string {
		res, err := client.Get("http://" + addr + "/")
		if err == nil && res.Request.URL.Path != "/" { // nobody has logged in yet
			_ = res.Body.Close()
			res, err = client.PostForm("http://"+addr+"/login", url.Values{"name": {name}, "password": {password}})
		}

		if err != nil {
			return ""
		}

		defer res.Body.Close()

		body, err := io.ReadAll(res.Body)
		if err != nil {
			return ""
		}

		return string(body)
	}
}

// await asks for the status until it says what it must.
func (sc scene) await(t *testing.T, s *harness.Stack) (found verdict.Finding) {
	began := time.Now()
	var shown func() (bool, error) // reports whether AtHoc shows the first booking since then
	var last judged
	for ; time.Since(began) < namedWithin; time.Sleep(pollInterval) {
		if !sc.quiet {
			next, err := s.Book()
			require.NoError(t, err)

			if shown == nil {
				shown = next
			}
		}

		last = status(t, s, sc.flags)
		if sc.cause != "" {
			if found, ok := last.find(sc.cause, sc.level); ok {
				t.Logf("%s after %s: %s", sc.fault, time.Since(began).Round(time.Second), last)
				return found
			}

			continue
		}

		if is, err := shown(); err == nil && is && last.ok() {
			t.Logf("%s: OK after %s", sc.fault, time.Since(began).Round(time.Second))
			return found
		}
	}

	require.Fail(t, "not within two minutes", "%s; status says\n  %s", cmp.Or(sc.cause, "OK"), last)

	return found
}

// steady replaces the parts of a remedy that differ each time.
func steady(do string) string {
	for form, stands := range map[string]string{
		`\b(approve|show) [0-9a-f]{6,}\b`:                "$1 ID",
		`\b(off|on|stale)-\d{8}-\d{6}\b`:                 "$1-ID",
		`\d{4}-\d\d-\d\d \d\d:\d\d(:\d\d)?`:              "…",
		`\b[A-Z][a-z]+day,? \d+ \w+,? \d\d:\d\d\b`:       "…",
		`\b(today|yesterday|tomorrow),? (at )?\d\d:\d\d`: "…",
		`/tmp/[^ ,;]+`: "…",
	} {
		do = regexp.MustCompile(form).ReplaceAllString(do, stands)
	}

	return strings.ReplaceAll(do, "|", `\|`)
}

const (
	tableBegins = "<!-- generated by make test-verdicts -->\n| fault | status says | what to do |\n| --- | --- | --- |\n"
	tableEnds   = "<!-- end -->"
)

// tableOfFaults returns the rows of the runbook's table by fault.
func tableOfFaults(t *testing.T) map[string]string {
	t.Helper()

	page, err := os.ReadFile(runbook)
	require.NoError(t, err)

	_, after, found := strings.Cut(string(page), tableBegins)
	require.True(t, found, "the runbook has a table of faults")
	table, _, found := strings.Cut(after, tableEnds)
	require.True(t, found)

	rows := map[string]string{}
	for row := range strings.Lines(table) {
		row = strings.TrimSpace(row)
		fault, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
		require.NotContains(t, rows, fault, "a fault has one row")
		rows[fault] = row
	}

	return rows
}

// writeTable writes the rows into the runbook, in the order of the scenes. A scene that was not played keeps its row.
func writeTable(t *testing.T, rows, played map[string]string) {
	t.Helper()

	page, err := os.ReadFile(runbook)
	require.NoError(t, err)

	var table strings.Builder
	for _, sc := range scenes() {
		if row := cmp.Or(played[sc.fault], rows[sc.fault]); row != "" {
			table.WriteString(row + "\n")
		}
	}

	before, after, _ := strings.Cut(string(page), tableBegins)
	_, after, _ = strings.Cut(after, tableEnds)
	require.NoError(t, os.WriteFile(runbook, []byte(before+tableBegins+table.String()+tableEnds+after), 0o644))
}

// TestTheRunbookHasEveryFault checks that the table has a row for each scene and no others, and that there is a scene
// for each fault of the soak and for each cause that status knows.
func TestTheRunbookHasEveryFault(t *testing.T) {
	t.Parallel()

	rows := tableOfFaults(t)
	soak, causes := map[string]bool{}, map[string]bool{}
	for _, sc := range scenes() {
		what := "goes on by itself"
		if sc.cause != "" {
			what = fmt.Sprintf("%v `%s`", sc.level, sc.cause)
		}

		require.Contains(t, rows[sc.fault], fmt.Sprintf("| %s | %s |", sc.fault, what), "make test-verdicts VERDICTS=-update-runbook")
		delete(rows, sc.fault)

		causes[sc.cause] = true
		for _, name := range sc.soak {
			require.False(t, soak[name], "%s has one scene", name)
			soak[name] = true
		}
	}

	require.Empty(t, rows)

	for _, name := range harness.Kinds() {
		require.True(t, soak[name], "no scene plays %s", name)
	}

	source, err := os.ReadFile("../shared/verdict/causes.go")
	require.NoError(t, err)

	for _, m := range regexp.MustCompile(`(?m)^\tCause\w+ += "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		require.True(t, causes[m[1]], "no scene shows %s", m[1])
	}
}

// small mounts a small file system below a stack's directory for as long as the test lasts.
func small(t *testing.T, dir string, mebibytes int) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o700))

	end, err := harness.Mount(dir, mebibytes)
	if err != nil {
		t.Skip("skipped: no small file system can be mounted here:", err)
	}

	t.Cleanup(func() { require.NoError(t, end()) })

	return dir
}

// fill leaves no room below a directory.
func fill(t *testing.T, dir string) {
	t.Helper()

	_, err := harness.Fill(dir)
	require.NoError(t, err)
}

// staffed is the number of workers in a scene.
const staffed = 60

// drop puts a file with these rows into the input directory.
func drop(t *testing.T, s *harness.Stack, name string, rows ...string) {
	t.Helper()
	require.NoError(t, s.In.Drop(workload.File{Name: name, Content: []byte(strings.Join(rows, "\n") + "\n")}))
}

// shift returns a row for each of the first n workers, at the given number of minutes ago.
func shift(n int, on bool, minutes int) (rows []string) {
	zone, err := time.LoadLocation(harness.BoboZone)
	if err != nil {
		panic(err)
	}

	at := time.Now().Add(-time.Duration(minutes) * time.Minute).In(zone)
	for i := range n {
		rows = append(rows, boborow.New(on, fmt.Sprintf("%05d", i), at).String())
	}

	return rows
}

// operate runs a command, which must succeed.
func operate(t *testing.T, s *harness.Stack, args ...string) {
	t.Helper()
	_, err := s.Operate(t.Context(), args...)
	require.NoError(t, err)
}

// end kills processes.
func end(t *testing.T, s *harness.Stack, names ...string) {
	t.Helper()

	for _, name := range names {
		require.NoError(t, s.Process(name).Kill())
	}
}

// below returns a path in a stack's input directory.
func below(s *harness.Stack, name string) string { return filepath.Join(s.Path("in"), name) }
