package check

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/config"
)

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

// runSteps runs the given steps instead of the real ones.
func runSteps(t *testing.T, timeout time.Duration, steps ...step) []Result {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()

	return collect(ctx, timeout, steps, start(ctx, &facts{}, steps))
}

func always(results []Result) func(context.Context, *facts) []Result {
	return func(context.Context, *facts) []Result { return results }
}

func TestWhatIsTried(t *testing.T) {
	results := runSteps(t, time.Minute,
		step{name: "a", run: always(good("well"))},
		step{name: "b", needs: []string{"a"}, run: always(warn("do", "so so"))},
		step{name: "c", needs: []string{"b"}, run: always(bad("do", "broken"))},
		step{name: "d", needs: []string{"c"}, run: always(good("not reached"))},
		step{name: "e", needs: []string{"a", "d"}, run: always(good("not reached"))},
		step{name: "f", after: []string{"c"}, run: always(named("g", skipped("by intention")))},
		step{name: "h", needs: []string{"f"}, run: always(good("not reached"))},
		step{name: "i", needs: []string{"unknown"}, run: always(good("a task that is not there is no ground"))},
	)
	var got []string
	for _, r := range results {
		got = append(got, r.Check+" "+string(r.Level)+" "+r.Message)
	}

	require.Equal(t, []string{
		"a ok well", "b warning so so", "c problem broken", "d skipped not tried: c has a problem", "e skipped not tried: c has a problem",
		"g skipped by intention", "i ok a task that is not there is no ground",
	}, got)
	require.Equal(t, 2, Status(results))
	require.Equal(t, 1, Status(results[:2]))
	require.Equal(t, 0, Status(append(results[:1], results[3])))
}

// TestATaskThatCannotBeStopped: it is left behind, and the others still report their results.
func TestATaskThatCannotBeStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		began := time.Now()
		results := runSteps(t, 10*time.Second,
			step{name: "share", run: func(context.Context, *facts) []Result { <-release; return nil }},
			step{name: "next", needs: []string{"share"}, run: always(good("not reached"))},
			step{name: "other", run: always(good("well"))},
			step{name: "obedient", run: func(ctx context.Context, _ *facts) []Result { <-ctx.Done(); return bad("do", "late") }},
		)
		require.LessOrEqual(t, time.Since(began), 11*time.Second)
		require.Equal(t, []string{"share", "next", "other", "obedient"}, []string{results[0].Check, results[1].Check, results[2].Check, results[3].Check})
		require.Equal(t, Problem, results[0].Level)
		require.Contains(t, results[0].Message, "hangs")
		require.Equal(t, "not tried: share hangs", results[1].Message)
		require.Equal(t, OK, results[2].Level)
		require.Equal(t, "late", results[3].Message)
		close(release)
	})
}

func TestPrint(t *testing.T) {
	results := []Result{
		{Check: "one", Level: OK, Message: "well"}, {Check: "longer", Level: Warning, Message: "so so", Advice: "do this"},
		{Check: "x", Level: Problem, Message: "bad", Advice: "do that"}, {Check: "y", Level: Skipped, Message: "not tried: x has a problem"},
	}

	var b strings.Builder
	require.NoError(t, Print(&b, results, false))
	require.Equal(t, `ok       one     well
warning  longer  so so
                 → do this
problem  x       bad
                 → do that
skipped  y       not tried: x has a problem

1 ok, 1 warning, 1 problem, 1 not tried
`, b.String())
	b.Reset()
	require.NoError(t, Print(&b, results, true))
	require.Contains(t, b.String(), "\x1b[31mproblem\x1b[0m")
}

// TestForeignNamesAreHarmless: names that others chose cannot disguise the verdict on a terminal.
func TestForeignNamesAreHarmless(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, Print(&b, []Result{{
		Service: "s\x1b[2J", Check: "c\x1b[2J", Level: Problem + "\x1b[2J\n", Message: "by Evil\n\x1b[32mok      all\u202e", Advice: "a\rb",
	}}, false))
	require.Equal(t, 4, strings.Count(b.String(), "\n"))
	require.NotContains(t, b.String(), "\x1b")
	require.NotContains(t, b.String(), "\u202e")
	require.NotContains(t, b.String(), "\r")
}

// TestFilesThatOthersWrite: whoever may write a secret chooses the account that is used.
func TestFilesThatOthersWrite(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing there")
	}

	dir := t.TempDir()
	write := func(name string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, nil, 0o600))
		require.NoError(t, os.Chmod(path, mode))
		return path
	}
	none := func(string) string { return "" }
	require.Empty(t, exposed(write("fine.env", 0o600), map[string]string{"PASSWORD": "x"}, write("fine.nk", 0o640), none))

	for name, got := range map[string][]Result{
		"settings":    exposed(write("a.env", 0o620), nil, "", none),
		"key":         exposed("", nil, write("a.nk", 0o602), none),
		"password":    exposed("", map[string]string{"PASSWORD_FILE": write("password", 0o666)}, "", none),
		"environment": exposed("", nil, "", func(name string) string { return map[string]string{"CLIENT_SECRET_FILE": write("secret", 0o660)}[name] }),
		"mail":        exposed("", map[string]string{"NOTIFY_SMTP_PASSWORD_FILE": write("mail", 0o606)}, "", none),
		"authority":   exposed("", map[string]string{"SSL_CERT_PATH": write("ca.pem", 0o664)}, "", none),
	} {
		require.Len(t, got, 1, name)
		require.Equal(t, Warning, got[0].Level, name)
		require.Contains(t, got[0].Message, "others on this machine can write to "+dir, name)
	}

	for _, vars := range []map[string]string{
		{"NATS_URL": "nats://ingest:s3cret@broker:4222"}, {"NATS_URL": "nats://a:4222, token@b:4222"}, {"HTTPS_PROXY": "http://user:s3cret@proxy:3128"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://key@collector"}, {"NATS_MONITOR_URL": "http://u:p@broker:8222"},
	} {
		got := exposed(write("c.env", 0o644), vars, "", none)
		require.Len(t, got, 1, vars)
		require.Contains(t, got[0].Message, "can read the secrets")
	}

	require.Empty(t, exposed(write("d.env", 0o644), map[string]string{"NATS_URL": "nats://broker:4222", "HTTPS_PROXY": "http://proxy:3128"}, "", none))
	require.Len(t, exposed(write("b.env", 0o646), map[string]string{"PASSWORD": "x"}, "", none), 2, "readable as well")

	own := write("own", 0o600)

	require.NoError(t, os.Chmod(dir, 0o777))

	got := exposed("", map[string]string{"PASSWORD_FILE": own}, "", none)
	require.Len(t, got, 1)
	require.Contains(t, got[0].Message, "and so replace "+own)
	require.NoError(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	require.Empty(t, exposed("", map[string]string{"PASSWORD_FILE": own}, "", none), "as in /tmp")
}

func TestJudgeClock(t *testing.T) {
	for ahead, want := range map[time.Duration]Level{
		0: OK, 5 * time.Second: OK, 6 * time.Second: Warning, -6 * time.Second: Warning, time.Minute: Warning, 61 * time.Second: Problem, -2 * time.Hour: Problem,
	} {
		require.Equal(t, want, judgeClock(ahead)[0].Level, ahead)
	}
}

func TestApartBy(t *testing.T) {
	at := time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	second := time.Second
	for _, c := range []struct {
		asked, answered time.Duration
		want            time.Duration
	}{
		{0, second, 0}, {second / 2, second, 0}, {-5 * second, 0, 0}, {-10 * second, -9 * second, 9 * second}, {11 * second, 12 * second, -10 * second},
	} {
		require.Equal(t, c.want, apartBy(at, at.Add(c.asked), at.Add(c.answered)), "%v", c)
	}
}

func TestJudgeDuty(t *testing.T) {
	now := time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	london, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)

	for name, c := range map[string]struct {
		values []string
		loc    *time.Location
		want   Level
	}{
		"none":            {nil, time.UTC, OK},
		"past":            {[]string{"17/06/2024 11:59:00", "16/06/2024 10:00:00"}, time.UTC, OK},
		"a little ahead":  {[]string{"17/06/2024 12:14:00"}, time.UTC, OK},
		"an hour ahead":   {[]string{"17/06/2024 13:00:00"}, time.UTC, Warning},
		"right in London": {[]string{"17/06/2024 13:00:00"}, london, OK},
		"no date":         {[]string{"17/06/2024 11:59:00", "12345"}, time.UTC, Problem},
		"American date":   {[]string{"06/17/2024 11:59:00"}, time.UTC, Problem},
	} {
		require.Equal(t, c.want, judgeDuty("f", c.values, len(c.values), c.loc, now)[0].Level, name)
	}
}

func TestJudgeRight(t *testing.T) {
	for outcome, want := range map[athoc.Outcome]Level{
		athoc.UnknownUser: OK, athoc.Invalid: Problem, athoc.Applied: Problem, athoc.ForbiddenUser: Warning, athoc.Transient: Warning,
	} {
		r := judgeRight(athoc.Result{Outcome: outcome, Detail: "some words"}, "f")[0]
		require.Equal(t, want, r.Level, outcome)

		if want != OK {
			require.NotEmpty(t, r.Advice)
		}
	}
}

func TestJudgeCollar(t *testing.T) {
	require.Equal(t, Problem, judgeCollar("f", 0, 10)[0].Level)
	require.Equal(t, Warning, judgeCollar("f", 4, 10)[0].Level)
	require.Equal(t, OK, judgeCollar("f", 5, 10)[0].Level)
}

func TestJudgeCall(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want Level
		says string
	}{
		"no call":        {errors.New("odd"), Problem, "odd"},
		"deadline":       {&athoc.CallError{Kind: athoc.Outage, Op: athoc.OpToken, Err: context.DeadlineExceeded}, Problem, "AtHoc hangs"},
		"cancelled":      {&athoc.CallError{Kind: athoc.Canceled, Op: athoc.OpToken}, Problem, "AtHoc hangs"},
		"redirect":       {&athoc.CallError{Kind: athoc.NotFound, Status: 302, Detail: "the server redirects to https://x"}, Problem, "redirects"},
		"proxy login":    {&athoc.CallError{Kind: athoc.NotFound, Status: 407}, Problem, "not AtHoc"},
		"throttled":      {&athoc.CallError{Kind: athoc.Throttled, Status: 429}, Warning, "fewer calls"},
		"reset":          {&athoc.CallError{Kind: athoc.Outage, Detail: "connection reset"}, Problem, "connection reset"},
		"token again":    {unasked(errAskedOnce), Problem, "just given"},
		"search 401":     {&athoc.CallError{Kind: athoc.Unauthorized, Op: athoc.OpSearch, Status: 401}, Problem, "status 401"},
		"update 400":     {&athoc.CallError{Kind: athoc.BadRequest, Op: athoc.OpUpdate, Status: 400, Detail: "the server said: no"}, Problem, "it says: no"},
		"unknown client": {&athoc.CallError{Kind: athoc.Unauthorized, Op: athoc.OpToken, Status: 400, Detail: `the server said: {"error":"unauthorized_client"}`}, Problem, "unauthorized_client"},
	} {
		r := judgeCall(c.err)[0]
		require.Equal(t, c.want, r.Level, name)
		require.Contains(t, r.Message, c.says, name)
	}
}

func TestJudgeBreaker(t *testing.T) {
	now := time.Now()
	require.Empty(t, judgeBreaker(breaker.State{}, false, now))
	require.Empty(t, judgeBreaker(breaker.State{Class: breaker.Refused}, true, now))
	require.Contains(t, judgeBreaker(breaker.State{Class: breaker.Refused, Cause: "c"}, false, now)[0].Message, "other settings")
	require.Contains(t, judgeBreaker(breaker.State{Class: breaker.Outage, Cause: "503"}, false, now)[0].Message, "503")
	require.NotEmpty(t, judgeBreaker(breaker.State{Class: breaker.Throttled, Next: now.Add(time.Minute)}, false, now))
	require.Empty(t, judgeBreaker(breaker.State{Class: breaker.Throttled, Next: now.Add(-time.Minute)}, false, now))
}

func TestZones(t *testing.T) {
	summer := time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	london, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)
	require.True(t, isUTC(summer, time.UTC))
	require.False(t, isUTC(summer, london))
	require.False(t, isUTC(summer.AddDate(0, 7, 0), london), "winter in London is no UTC")
	require.Equal(t, "; it is 1h0m0s behind BOBO's", apart(summer, london, time.UTC))
	require.Equal(t, "; it is 1h0m0s ahead of BOBO's", apart(summer, time.UTC, london))
	require.Empty(t, apart(summer.AddDate(0, 7, 0), time.UTC, london))
	require.Contains(t, wall(summer, london), "13:00 (Europe/London, UTC+01:00)")
	require.True(t, contained(func(name string) string { return map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1"}[name] }))
}

// TestLocalInAContainer: nobody has chosen the time zone of a container.
func TestLocalInAContainer(t *testing.T) {
	if !isUTC(time.Now(), time.Local) {
		t.Skip("this machine's own zone is not UTC")
	}

	s := filesOnly(t)
	local := config.InZone(time.Local)
	s.BoboZone = &local
	s.Getenv = func(name string) string { return map[string]string{"container": "podman"}[name] }
	v := s.verdict()
	v.has(Warning, "BOBO_TIMEZONE", "left at local", "Europe/London")
	v.has(OK, "ATHOC_TIMEZONE")
}
