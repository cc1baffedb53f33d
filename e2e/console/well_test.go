//go:build linux

package console_test

// What is tried while everything works, one after the other on the same stage.

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// TestWhileAllGoesOn runs the tests that need no other state.
func TestWhileAllGoesOn(t *testing.T) {
	c := start(t)
	t.Run("HostileNames", func(t *testing.T) { hostileNames(t, c) })
	t.Run("ASessionsEndIsSaid", func(t *testing.T) { aSessionsEndIsSaid(t, c) })
	t.Run("AStreamThatNeverOpened", func(t *testing.T) { neverOpened(t, c) })
	t.Run("Print", func(t *testing.T) { printed(t, c) })
	t.Run("Wall", func(t *testing.T) { wall(t, c) })
}

// hostileNames checks that a file's name is shown and does nothing.
func hostileNames(t *testing.T, c *console) {
	b := open(t, c.base())
	b.logIn("olga")
	require.Eventually(t, func() bool {
		b.run(chromedp.Navigate(c.base()+"/files"), chromedp.WaitReady(chromedp.CSS("h1")))
		return strings.Contains(eval[string](b, `document.body.innerText`), "<img src=x onerror=alert(1)>")
	}, within, 500*time.Millisecond)
	require.Zero(t, eval[int](b, `document.images.length`))
	b.clean()
}

// printed checks that a printed report has its words, says who made it and when, and what is open, and shows nothing
// that can only be clicked.
func printed(t *testing.T, c *console) {
	b := open(t, c.base())
	b.logIn("olga")
	b.run(chromedp.Navigate(c.base()+"/report?from=12h"), chromedp.WaitReady(chromedp.CSS("h1")))

	file := filepath.Join(t.TempDir(), "report.pdf")
	require.NoError(t, os.WriteFile(file, get(b, chromedp.PrintToPDF()), 0o600))
	out, err := exec.CommandContext(t.Context(), "pdftotext", "-layout", file, "-").Output()
	require.NoError(t, err, "make console-tools installs pdftotext")

	paper := string(out)
	for _, says := range []string{"Report", "made for olga", "Europe/London", "Not well", "Files that failed", "not a text: NUL at byte", "Open now", "BOBO Sync"} {
		require.Contains(t, paper, says)
	}

	for _, not := range []string{"Log out", "Filter", "Night shift", "Decisions and orders .csv", "Skip to the page", "Pause updates", "\u202e"} {
		require.NotContains(t, paper, not)
	}

	b.clean()
}

// wall checks that whoever has the token sees the verdict and the figures as large as the screen, without names and
// without anything to click, and that the page becomes live again after the console was away.
func wall(t *testing.T, c *console) {
	b := open(t, c.base())
	b.as(look{"dark", 1280})
	b.run(chromedp.Navigate(c.base()+"/wall?token="+strings.ReplaceAll(wallToken, " ", "+")), chromedp.WaitVisible(chromedp.CSS("[data-verdict]")))
	await(t, b, `document.getElementById("state").textContent === "live"`)
	require.Equal(t, 0, eval[int](b, `[...document.querySelectorAll("a:not(.skip), button, input, nav")].filter(e => e.checkVisibility()).length`))
	require.Greater(t, eval[float64](b, `parseFloat(getComputedStyle(document.querySelector(".verdict")).fontSize)`), 60.0)
	words := eval[string](b, `document.body.innerText`)
	require.Contains(t, words, "AtHoc is complete up to")
	require.NotRegexp(t, `olga|anna|@`, words)

	for _, v := range b.axe() {
		require.Empty(t, v.Nodes, "%s: %s", v.ID, v.Help)
	}

	b.clean()
	require.NoError(t, c.process.Stop())
	await(t, b, says)
	require.NoError(t, c.process.Start())
	await(t, b, `!(`+says+`)`)
	require.True(t, eval[bool](b, `window.same = true, document.documentElement.dataset.version = "older", true`))
	await(t, b, `!window.same && document.readyState === "complete"`) // it reloads itself after an upgrade
}

// aSessionsEndIsSaid checks that a page announces the end of the session two minutes before, and that whoever goes on
// with the button or the key loses nothing that they have typed. The time in the console's answers is put forward to
// just before that end; its sessions are unchanged.
func aSessionsEndIsSaid(t *testing.T, c *console) {
	b := open(t, c.base())
	b.logIn("olga")
	const late = `(() => { const real = window.fetch; window.went = 0; window.fetch = (to, how) => { if (how.method === "POST") { window.went++; return real(to, how); }
		return real(to, how).then(r => r.json()).then(s => new Response(JSON.stringify({...s, now: new Date(Date.parse(s.idle_ends) - 100000).toISOString()}))); };
		document.dispatchEvent(new Event("visibilitychange")); return true; })()`
	const shown = `!document.getElementById("ends").hidden`

	b.run(chromedp.Navigate(b.base+"/orders/pause"), chromedp.SendKeys(chromedp.CSS(`form.order [name="reason"]`), "half a rea"))
	require.False(t, eval[bool](b, shown))
	require.True(t, eval[bool](b, late))
	await(t, b, shown)
	require.Regexp(t, `Your session ends at .* unless you go on`, eval[string](b, `document.getElementById("ends").innerText`))

	for _, v := range b.axe() {
		require.Empty(t, v.Nodes, "%s: %s", v.ID, v.Help)
	}

	b.run(chromedp.Click(chromedp.CSS("#ends button")))
	await(t, b, `!(`+shown+`) && window.went === 1`)
	require.Equal(t, "half a rea", eval[string](b, `document.querySelector('[name="reason"]').value`))

	b.run(chromedp.Navigate(b.base+"/system"), chromedp.WaitReady(chromedp.CSS("h1")))
	require.True(t, eval[bool](b, late))
	await(t, b, shown)
	b.run(chromedp.KeyEvent("c"))
	await(t, b, `!(`+shown+`) && window.went === 1`)
	b.clean()
}
