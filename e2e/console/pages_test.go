//go:build linux

package console_test

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// picturesVariable names a directory for pictures of all pages; make console-pictures sets it.
const picturesVariable = "BOBOSYNC_PICTURES"

// pages returns the addresses that can be reached from the first page, one of each kind.
func pages(b *browser) (all []string) {
	kind := func(path string) string {
		parts := strings.Split(path, "/")
		if len(parts) > 2 && parts[1] != "help" {
			parts[2] = "*"
		}
		return strings.Join(parts, "/")
	}
	seen, todo := map[string]bool{}, []string{"/"}
	for len(todo) > 0 {
		path := todo[0]
		todo = todo[1:]
		machine := strings.HasSuffix(path, ".csv") || strings.HasSuffix(path, ".json") || strings.HasPrefix(path, "/assets/")
		if seen[kind(path)] || machine {
			continue
		}
		seen[kind(path)] = true
		all = append(all, path)
		b.run(chromedp.Navigate(b.base + path))
		todo = append(todo, b.links()...)
	}
	return all
}

// TestPages: each page that the console leads to, as its states are: axe finds nothing, nothing is wider than the screen, and no page runs,
// loads or logs what it must not.
func TestPages(t *testing.T) {
	c := start(t)
	b := open(t, c.base())
	inspect(t, b, "nobody", []string{"/login"})
	b.logIn("anna")
	paths := append(pages(b), "/wall", "/nothing-here")
	require.Greater(t, len(paths), 5, "%v", paths)
	inspect(t, b, "well", paths)

	b.clean()
}

// inspect looks at pages in a state.
func inspect(t *testing.T, b *browser, state string, paths []string) {
	t.Helper()
	for i, l := range looks() {
		b.as(l)
		for _, path := range paths {
			if i > 0 && os.Getenv(allVariable) == "" && strings.HasPrefix(path, "/help/") {
				continue
			}
			about := fmt.Sprintf("%s, %s, %s at %d", path, state, l.theme, l.width)
			b.run(chromedp.Navigate(b.base+path), chromedp.WaitReady(chromedp.CSS("h1")))
			for _, v := range b.axe() {
				for _, n := range v.Nodes {
					t.Errorf("%s: %s (%s): %s\n%s", about, v.ID, v.Help, n.FailureSummary, n.HTML)
				}
			}
			if wide := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
				t.Errorf("%s: it is %d px wider than the screen", about, wide)
			}
			picture(t, b, state, path, l)
		}
	}
}

// picture keeps a picture of the page that is shown.
func picture(t *testing.T, b *browser, state, path string, l look) {
	t.Helper()
	dir := os.Getenv(picturesVariable)
	if dir == "" {
		return
	}
	data := get(b, chromedp.FullScreenshot(100))
	name := fmt.Sprintf("%s-%s-%s-%d.png", cmp.Or(strings.Trim(strings.ReplaceAll(path, "/", "_"), "_"), "now"), strings.ReplaceAll(state, " ", "-"), l.theme, l.width)
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), data, 0o644))
}

// says is whether a page says that it does not tell of the present: by itself, or since the console tells it so.
const says = `document.body.innerText.includes("NOT LIVE")`

// TestNotLive: whatever stops the page from hearing of the present, it says so in time, and is right again without being loaded again.
func TestNotLive(t *testing.T) {
	c := start(t)
	for about, fault := range map[string]struct{ begin, end func() error }{
		"the console is frozen":       {c.process.Pause, c.process.Resume},
		"a proxy keeps all to itself": {func() error { c.front.Silence(true); return nil }, func() error { c.front.Silence(false); return nil }},
	} {
		t.Run(about, func(t *testing.T) {
			b := open(t, c.base())
			b.logIn("anna")
			b.run(chromedp.WaitVisible(chromedp.ID("pause"))) // a heartbeat was heard
			require.True(t, eval[bool](b, `window.same = true`))
			began := time.Now()
			require.NoError(t, fault.begin())
			await(t, b, says)
			t.Logf("it says so after %s", time.Since(began).Round(100*time.Millisecond))
			require.NoError(t, fault.end())
			await(t, b, `window.same && !(`+says+`)`)
		})
	}
}

func await(t *testing.T, b *browser, script string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return eval[bool](b, script)
	}, within, 100*time.Millisecond, script)
}

// TestHostileNames: what a file is called is shown, and does nothing.
func TestHostileNames(t *testing.T) {
	c := start(t)
	b := open(t, c.base())
	b.logIn("olga")
	require.Eventually(t, func() bool {
		b.run(chromedp.Navigate(c.base()+"/files"), chromedp.WaitReady(chromedp.CSS("h1")))
		return strings.Contains(eval[string](b, `document.body.innerText`), "<img src=x onerror=alert(1)>")
	}, within, 500*time.Millisecond)
	require.Zero(t, eval[int](b, `document.images.length`))
	b.clean()
}
