//go:build linux

// Package console_test checks the console with a real browser, together with the real services, a broker and the
// AtHoc simulator. make test-console installs what the tests need; without that they are skipped.
package console_test

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"bobosync/e2e/harness"
	"bobosync/e2e/workload"
	"bobosync/shared/bustest/freeport"
)

const (
	// browserVariable names the browser, axeVariable the file axe.min.js; make test-console sets both.
	browserVariable = "BOBOSYNC_BROWSER"
	axeVariable     = "BOBOSYNC_AXE"
	// allVariable, set to anything, checks every page in every theme and width.
	allVariable = "BOBOSYNC_CONSOLE_ALL"

	within = time.Minute
	// browserStarts is how often the tests try to start a browser, at most.
	browserStarts = 3
	// password is the password of all users. hash is its argon2id hash, with the lowest possible cost.
	password = "correct horse battery"
	hash     = "$argon2id$v=19$m=8,t=1,p=1$c2l4dGVlbiBieXRlcyAuLg$XwJU3+17Pqn/THxHN5CMCUoKhHGFEM8WYtaNX72L2y8"
	// hostile is a file's name that would run as a script and reverse the direction of the line.
	hostile = "<img src=x onerror=alert(1)>\u202e&amp;\"'.csv"
	// wallToken opens the wall page.
	wallToken = "a token of thirty-two characters"
)

// bin is the directory of the programs.
var bin string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if os.Getenv(browserVariable) == "" {
		return m.Run()
	}

	dir, err := os.MkdirTemp("", "bobosync-console-")
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

// console is a console with all services around it.
type console struct {
	*harness.Stack
	process *harness.Process
	addr    string
	front   *harness.Proxy // between the browser and the console
}

func (c *console) base() string { return "http://" + c.front.Addr() }

// users are the users who may log in, all with the same password.
const users = "victor viewer " + hash + "\nolga operator " + hash + "\nanna approver " + hash + "\n"

// stage starts everything with these settings, without any files yet.
func stage(t *testing.T, dir string, plan workload.Plan, settings map[string]string) *console {
	t.Helper()
	stack, err := harness.Start(t.Context(), harness.Config{Dir: dir, Bin: bin, Publishers: 1, SyncLazily: true, Plan: plan, Settings: settings})
	t.Cleanup(func() {
		if stack != nil {
			_ = stack.Close()
		}
	})
	require.NoError(t, err)

	c := &console{Stack: stack}
	file := filepath.Join(dir, "users")
	require.NoError(t, os.WriteFile(file, []byte(users), 0o600))

	port, err := freeport.Find()
	require.NoError(t, err)

	c.addr = fmt.Sprintf("127.0.0.1:%d", port)
	c.process, err = stack.AddConsole(map[string]string{
		"CONSOLE_ADDR": c.addr, "CONSOLE_AUTH": "file", "CONSOLE_USERS_FILE": file, "CONSOLE_WALL_TOKEN": wallToken, "ATHOC_TIMEZONE": "Europe/London",
	})
	require.NoError(t, err)
	c.front, err = harness.NewProxy(c.addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.front.Close() })
	require.Eventually(t, func() bool {
		res, err := http.Get(c.base() + "/login")
		if err != nil {
			return false
		}
		defer res.Body.Close()

		return res.StatusCode == http.StatusOK
	}, within, 100*time.Millisecond)

	return c
}

// room returns a directory for a stack, which is kept if the test fails.
func room(t *testing.T) string {
	t.Helper()

	if os.Getenv(browserVariable) == "" {
		t.Skip("make test-console runs it")
	}

	dir, err := os.MkdirTemp("", "bobosync-console-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if !t.Failed() {
			_ = os.RemoveAll(dir)
		}
	})

	return dir
}

// start starts everything, with a file that failed and some that did not.
func start(t *testing.T) *console {
	t.Helper()
	dir := room(t)
	zone, err := time.LoadLocation(harness.BoboZone)
	require.NoError(t, err)

	plan := workload.New(workload.Options{Seed: 7, Now: time.Now(), Zone: zone, Workers: 12, Files: 6, Span: time.Second})
	c := stage(t, dir, plan, nil)
	require.NoError(t, c.Ready(within))
	require.NoError(t, c.RemoveUsers())
	require.NoError(t, os.WriteFile(c.Path("in", strings.ReplaceAll(hostile, "/", "_")), []byte("no,header\n\x00"), 0o600))
	require.NoError(t, c.DropAll(t.Context(), plan.Files))

	return c
}

// browser is a window of the browser.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu     sync.Mutex
	faults []string
}

// open opens a window that records whatever a page does that it must not: errors, violations of the content policy,
// requests to other hosts.
func open(t *testing.T, base string) *browser {
	t.Helper()
	b := &browser{t: t, base: base}
	b.start()
	require.NoError(t, chromedp.Do(b.ctx, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		for _, enable := range []cdp.Command[cdp.Empty, cdp.Empty]{log.Enable, runtime.Enable} {
			if _, err := cdp.Call(ctx, tab, enable, cdp.Empty{}); err != nil {
				return err
			}
		}

		_, err := cdp.Call(ctx, tab, network.Enable, network.EnableParams{})

		return err
	})))

	return b
}

// start starts the browser. Chromium was once seen to end with a segmentation fault before it had a window, which
// says nothing about the console. So start tries again, and logs each failure.
func (b *browser) start() {
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(os.Getenv(browserVariable)), chromedp.NoSandbox)
	for try := 1; ; try++ {
		allocated, cancel := chromedp.NewExecAllocator(b.t.Context(), options...)
		b.t.Cleanup(cancel)
		ctx, cancel := chromedp.NewContext(allocated)
		b.t.Cleanup(cancel)

		err := chromedp.Listen(ctx, b.hear)
		if err == nil {
			b.ctx = ctx
			return
		}

		require.Less(b.t, try, browserStarts, "the browser does not start: %v", err)
		b.t.Logf("start %d of the browser failed: %v", try, err)
	}
}

func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()

	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			b.faults = append(b.faults, fmt.Sprintf("%s: %s", e.Entry.Source, e.Entry.Text))
		}
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			var words []string
			for _, arg := range e.Args {
				words = append(words, cmp.Or(arg.Description, string(arg.Value)))
			}

			// Nobody needs what arrives while the page is being left.
			if said := strings.Join(words, " "); !strings.Contains(said, "The provided callback is no longer runnable") {
				b.faults = append(b.faults, "console.error: "+said)
			}
		}
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, b.base+"/") && !strings.HasPrefix(u, "data:") {
			b.faults = append(b.faults, "a request to "+u)
		}
	case *page.EventJavascriptDialogOpening:
		b.faults = append(b.faults, "a dialog: "+e.Message)
	}
}

// clean fails the test if a page has done anything that it must not.
func (b *browser) clean() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()

	require.Empty(b.t, b.faults)
}

func (b *browser) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()

	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()

	require.NoError(b.t, chromedp.Do(ctx, actions...))
}

// get returns what an action finds.
func get[T any](b *browser, action chromedp.Action[T]) T {
	b.t.Helper()

	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()

	found, err := chromedp.Run(ctx, action)
	require.NoError(b.t, err)

	return found
}

// eval returns the result of a script that the test runs in the page.
func eval[T any](b *browser, script string) T {
	b.t.Helper()
	return get(b, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
}

// holds reports whether a script's condition holds. The page may be left for another one at that moment.
func (b *browser) holds(script string) bool {
	ctx, cancel := context.WithTimeout(b.ctx, within)
	defer cancel()

	held, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script, chromedp.EvalAwaitPromise))

	return err == nil && held
}

// until loads a page again and again until a script reports that it shows what it should.
func (b *browser) until(path, script string) {
	b.t.Helper()

	for began := time.Now(); ; {
		b.run(chromedp.Navigate(b.base+path), chromedp.WaitReady(chromedp.CSS("h1")))

		if eval[bool](b, script) {
			return
		}

		if time.Since(began) > 2*within {
			require.Fail(b.t, "the page does not show it", "%s: %s; it says\n%s", path, script, eval[string](b, `document.body.innerText`))
		}
	}
}

// logIn logs in through the login page, as people do.
func (b *browser) logIn(name string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.base+"/login"), chromedp.SendKeys(chromedp.ID("name"), name), chromedp.SendKeys(chromedp.ID("password"), password+"\r"),
		chromedp.WaitVisible(chromedp.CSS(`[data-verdict]`)))
}

// look is a theme and a width in which a page is checked.
type look struct {
	theme string
	width int64
}

// fewLooks are looks that together cover each theme and each width.
var fewLooks = []look{{"light", 1280}, {"dark", 390}, {"night", 320}}

// all reports whether everything should be tried, and not just what fits into minutes.
func all() bool { return os.Getenv(allVariable) != "" }

// allLooks returns every theme in every width.
func allLooks() (all []look) {
	for _, theme := range []string{"light", "dark", "night"} {
		for _, width := range []int64{1280, 390, 320} {
			all = append(all, look{theme, width})
		}
	}

	return all
}

// as makes the pages that are loaded from now on look like l: through the browser's cookie, as if somebody had chosen
// the theme.
func (b *browser) as(l look) {
	b.t.Helper()
	b.run(chromedp.EmulateViewport(l.width, 800), chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, network.SetCookie, network.SetCookieParams{Name: "theme", Value: l.theme, URL: b.base})
		return err
	}))
}

// turn makes the page that is shown look like l.
func (b *browser) turn(l look) {
	b.t.Helper()
	b.run(chromedp.EmulateViewport(l.width, 800))
	require.True(b.t, eval[bool](b, fmt.Sprintf(`(document.documentElement.dataset.theme = %q,
		document.querySelector("meta[name=color-scheme]").content = %q, true)`, l.theme, map[bool]string{true: "light", false: "dark"}[l.theme == "light"])))
}

// violation is a violation that axe reports.
type violation struct {
	ID, Help string
	Nodes    []struct {
		HTML           string
		FailureSummary string
	}
}

// axe returns the violations of WCAG 2.2 AA that axe finds on the page that is shown.
func (b *browser) axe() []violation {
	b.t.Helper()

	if !eval[bool](b, `typeof axe === "object"`) {
		source, err := os.ReadFile(os.Getenv(axeVariable))
		require.NoError(b.t, err)
		b.run(chromedp.Evaluate[chromedp.Void](string(source)))
	}

	result := eval[string](b, `axe.run(document,{runOnly:["wcag2a","wcag2aa","wcag21a","wcag21aa","wcag22aa"]}).then(r=>JSON.stringify(r.violations))`)
	var found []violation
	require.NoError(b.t, json.Unmarshal([]byte(result), &found))

	return found
}

// links returns the console's own pages that the page that is shown links to.
func (b *browser) links() []string {
	b.t.Helper()
	return eval[[]string](b, `[...document.links].filter(a=>a.origin==location.origin).map(a=>a.pathname+a.search)`)
}
