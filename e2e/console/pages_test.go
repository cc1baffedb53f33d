//go:build linux

package console_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"bobosync/e2e/harness"
)

// picturesVariable names a directory for pictures of all pages; make console-pictures sets it.
const picturesVariable = "BOBOSYNC_PICTURES"

// TestPages checks each page that the console leads to, in each state of the stage: axe finds nothing, nothing is
// wider than the screen, and no page runs, loads or logs anything that it must not. With CONSOLE_ALL it does so in
// every theme and width. Otherwise it checks all pages in one state, in which all is well, and in the other states
// the pages that show them.
func TestPages(t *testing.T) {
	c := theatre(t, crew, nil)
	b := open(t, c.base())
	inspect(t, b, "nobody", "/login", fewLooks)
	b.logIn("anna")

	for i, st := range states() {
		st.begin(t, c)
		b.until("/", st.shows)

		for path, name := range st.pictures {
			forReadme(t, b, path, name)
		}

		looks, more := []look{fewLooks[i%len(fewLooks)]}, false
		switch {
		case all():
			looks, more = allLooks(), true
		case len(st.pages) == 0:
			looks, more = fewLooks, true
		}

		walk(t, b, st, looks, more)
	}

	b.clean()
}

// walk checks the pages of a state and, if more is set, all other pages that they lead to, one of each kind. The
// manual is the same in each state.
func walk(t *testing.T, b *browser, st state, looks []look, more bool) {
	t.Helper()

	kind := func(path string) string {
		path, _, _ = strings.Cut(path, "?")
		if parts := strings.Split(path, "/"); len(parts) > 2 && (parts[1] == "files" || parts[1] == "receipt" || parts[1] == "decisions" || parts[1] == "given") {
			parts[2] = "*"
			path = strings.Join(parts, "/")
		}

		return path
	}

	seen, todo := map[string]bool{}, slices.Clone(st.pages)
	if more {
		todo = append(todo, "/", "/wall", "/nothing-here")
	}

	for n := 0; len(todo) > 0; n++ {
		path := todo[0]
		todo = todo[1:]

		machine, manual := strings.HasSuffix(kind(path), ".csv") || strings.HasSuffix(kind(path), ".json"), strings.HasPrefix(path, "/help")
		given := n < len(st.pages)
		if machine || !given && (seen[kind(path)] || manual && len(st.pages) > 0) {
			continue
		}

		seen[kind(path)] = true

		as := looks
		if manual && !all() {
			as = looks[:1]
		}

		if links := inspect(t, b, st.name, path, as); more {
			todo = append(todo, links...)
		}
	}

	require.True(t, !more || len(seen) > 15, "%v", seen)
}

// inspect checks a page, and returns the console's own pages that it leads to.
func inspect(t *testing.T, b *browser, state, path string, looks []look) []string {
	t.Helper()
	b.as(looks[0])
	b.run(chromedp.Navigate(b.base+path), chromedp.WaitReady(chromedp.CSS("h1")))

	for i, l := range looks {
		if i > 0 {
			b.turn(l)
		}

		about := fmt.Sprintf("%s, %s, %s at %d", path, state, l.theme, l.width)
		for _, v := range b.axe() {
			for _, n := range v.Nodes {
				t.Errorf("%s: %s (%s): %s\n%s", about, v.ID, v.Help, n.FailureSummary, n.HTML)
			}
		}

		if wide := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
			t.Errorf("%s: it is %d px wider than the screen", about, wide)
		}

		picture(t, b, strings.Join([]string{named(path), named(state), l.theme, fmt.Sprint(l.width)}, "-"))
	}

	return b.links()
}

// named turns an address into a part of a file's name.
func named(path string) string {
	name := strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(path), "_"), "_")
	return cmp.Or(name[:min(len(name), 40)], "now")
}

// picture saves a picture of the page that is shown.
func picture(t *testing.T, b *browser, name string) {
	t.Helper()

	dir := os.Getenv(picturesVariable)
	if dir == "" {
		return
	}

	data := get(b, chromedp.FullScreenshot(100))

	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".png"), data, 0o644))
}

// forReadme saves a picture for the README.
func forReadme(t *testing.T, b *browser, path, name string) {
	t.Helper()

	if os.Getenv(picturesVariable) == "" {
		return
	}

	b.as(look{"light", 1100})
	b.run(chromedp.Navigate(b.base+path), chromedp.WaitReady(chromedp.CSS("h1")))

	if eval[bool](b, `document.getElementById("live") !== null`) {
		await(t, b, `document.getElementById("state").textContent === "live"`)
	}

	picture(t, b, "readme-"+name)
}

// says is a condition: the page says that it does not show the present, either by itself or because the console said
// so.
const says = `document.body.innerText.includes("NOT LIVE")`

// window opens a page that keeps itself up to date, through a proxy of its own to the console, and waits until it is
// live.
func (c *console) window(t *testing.T, path string) (*browser, *harness.Proxy) {
	t.Helper()

	way, err := harness.NewProxy(c.addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = way.Close() })
	b := open(t, "http://"+way.Addr())
	b.logIn("anna")
	b.run(chromedp.Navigate(b.base + path))
	await(t, b, `document.getElementById("pause") !== null && !document.getElementById("pause").hidden`) // a heartbeat has arrived
	// The page itself records when it says so: that does not depend on how busy this test is.
	require.True(t, eval[bool](b, `(() => {
		new MutationObserver(() => { if (`+says+` && window.began && !window.after) window.after = Date.now() - window.began; })
			.observe(document.body, { childList: true, subtree: true, characterData: true });
		return window.same = true; })()`))

	return b, way
}

// lifecycle makes a tab sleep, or wakes it up.
func lifecycle(b *browser, to page.SetWebLifecycleStateState) func() error {
	return func() error {
		return chromedp.Do(b.ctx, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
			_, err := cdp.Call(ctx, tab, page.SetWebLifecycleState, page.SetWebLifecycleStateParams{State: to})
			return err
		}))
	}
}

// hide tells a page that it is hidden, or that it is visible.
func hide(b *browser, hidden bool) func() error {
	return func() error {
		_, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](fmt.Sprintf(`(Object.defineProperty(document, "hidden", { configurable: true, get: () => %t }),
			Object.defineProperty(document, "visibilityState", { configurable: true, get: () => %q }), document.dispatchEvent(new Event("visibilitychange")))`,
			hidden, map[bool]string{true: "hidden", false: "visible"}[hidden])))
		return err
	}
}

// TestNotLive checks that a page that no longer gets news, for whatever reason, says so within ten seconds, and is
// right again afterwards without being reloaded. Faults that affect a single window are played at the same time.
func TestNotLive(t *testing.T) {
	c := start(t)
	type fault struct {
		b          *browser
		begin, end func() error
		asleep     bool // the page says so as soon as it is awake
	}
	broker := c.Process(harness.Broker)
	silent, way1 := c.window(t, "/")

	cut, way2 := c.window(t, "/decisions")
	hidden, _ := c.window(t, "/decisions")
	sleeping, _ := c.window(t, "/")
	const sleep = 11 * time.Second // at least
	frozen, lost := hidden, cut    // these are live again by then
	for _, faults := range []map[string]fault{
		{
			"a proxy keeps all to itself": {b: silent, begin: func() error { way1.Silence(true); return nil }, end: func() error { way1.Silence(false); return nil }},
			"the stream is cut":           {b: cut, begin: func() error { way2.Refuse(true); way2.Cut(); return nil }, end: func() error { way2.Refuse(false); return nil }},
			"nobody sees the tab":         {b: hidden, begin: hide(hidden, true), end: hide(hidden, false)},
			"the tab sleeps":              {b: sleeping, begin: lifecycle(sleeping, page.SetWebLifecycleStateStateFrozen), end: lifecycle(sleeping, page.SetWebLifecycleStateStateActive), asleep: true},
		},
		{"the console is frozen": {b: frozen, begin: c.process.Pause, end: c.process.Resume}},
		{"the broker is gone": {b: lost, begin: broker.Kill, end: broker.Start}},
		{"the broker is frozen": {b: lost, begin: broker.Pause, end: broker.Resume}},
	} {
		begun := time.Now()

		for about, f := range faults {
			require.True(t, eval[bool](f.b, `!(`+says+`) && window.same && (window.after = 0, window.began = Date.now(), true)`), about)
			require.NoError(t, f.begin(), about)
		}

		for about, f := range faults {
			slept := 0
			if f.asleep {
				time.Sleep(sleep) // nothing shows how long a tab has slept

				slept = int(time.Since(begun).Milliseconds())

				require.NoError(t, f.end(), about)
			}

			await(t, f.b, `window.after > 0`)
			after := eval[int](f.b, `window.after`) - slept
			t.Logf("%s: NOT LIVE after %d ms awake", about, after)
			require.LessOrEqual(t, after, 10_000, about)
		}

		for about, f := range faults {
			require.NoError(t, f.end(), about)
			await(t, f.b, `window.same && !(`+says+`) /* `+about+` */`)
		}
	}
}

// neverOpened checks that a page whose stream cannot be opened says so, and opens one as soon as that is possible.
func neverOpened(t *testing.T, c *console) {
	b := open(t, c.base())
	b.logIn("anna")
	b.run(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `
			const real = window.fetch;
			window.fetch = (to, how) => String(to).includes("/live") && !window.opened ? Promise.reject(new TypeError("refused")) : real(to, how);`})
		return err
	}), chromedp.Navigate(b.base+"/"))
	await(t, b, says)
	require.True(t, eval[bool](b, `window.opened = true`))
	await(t, b, `window.opened && !(`+says+`)`)
}

func await(t *testing.T, b *browser, script string) {
	t.Helper()

	for began := time.Now(); !b.holds(script); time.Sleep(100 * time.Millisecond) {
		if time.Since(began) > within {
			require.Fail(t, "the page does not come to it", "%s; it says\n%s", script, eval[string](b, `document.title + "\n" + document.body.innerText`))
		}
	}
}
