//go:build linux

package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// hand is a way to use a page: it follows a link, types into a field, and presses a button, all by the words on them or beside them.
type hand struct {
	follow, press func(words string)
	write         func(field, text string)
}

// mouse clicks.
func mouse(b *browser) hand {
	click := func(element string) func(string) {
		return func(words string) {
			b.run(chromedp.Click(chromedp.Search(fmt.Sprintf(`//main//%s[normalize-space()=%q]`, element, words))))
		}
	}
	return hand{follow: click("a"), press: click("button"), write: func(field, text string) {
		b.run(chromedp.SendKeys(chromedp.CSS(fmt.Sprintf(`form.order [name=%q]`, field)), text))
	}}
}

// keyboard goes with Tab to where it wants to be.
func keyboard(b *browser) hand {
	tabTo := func(test string) {
		for range 200 {
			b.run(chromedp.KeyEvent(kb.Tab))
			if eval[bool](b, `(e => e && e.closest("main") != null && `+test+`)(document.activeElement)`) {
				return
			}
		}
		require.Fail(b.t, "Tab does not lead there", test)
	}
	press := func(words string) {
		tabTo(fmt.Sprintf(`e.textContent.trim() === %q`, words))
		b.run(chromedp.KeyEvent(kb.Enter))
	}
	return hand{follow: press, press: press, write: func(field, text string) {
		tabTo(fmt.Sprintf(`e.name === %q`, field))
		b.run(chromedp.KeyEvent(text))
	}}
}

// withoutScripts has the browser run none.
func withoutScripts(b *browser) hand {
	b.run(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
	return mouse(b)
}

// ordered counts the orders that the audit has of somebody, by endpoint.
func ordered(t *testing.T, c *console, who string) map[string]int {
	t.Helper()
	out, err := c.Operate(t.Context(), "audit", "list", "--most", "1000", "--json")
	require.NoError(t, err, out)
	var orders []struct {
		Endpoint, Outcome string
		Caller            struct{ Said string }
	}
	require.NoError(t, json.Unmarshal([]byte(out), &orders))
	times := map[string]int{}
	for _, o := range orders {
		if strings.HasPrefix(o.Caller.Said, who+" (console") && o.Outcome == "ok" {
			times[o.Endpoint]++
		}
	}
	return times
}

// TestOrdersThreeWays: with the mouse, with the keyboard alone, and without scripts. What came of them is read from the services and the
// audit.
func TestOrdersThreeWays(t *testing.T) {
	c := start(t)
	paused := func() bool {
		out, err := c.Operate(t.Context(), "status")
		require.NotEmpty(t, out, "%v", err) // a pause is no exit status of 0
		return strings.Contains(out, "PAUSED until")
	}
	given := 0
	for _, way := range []struct {
		name string
		hand func(*browser) hand
	}{{"mouse", mouse}, {"keyboard", keyboard}, {"without scripts", withoutScripts}} {
		b := open(t, c.base())
		b.logIn("anna")
		h := way.hand(b)
		at := func(path string) { b.run(chromedp.Navigate(b.base+path), chromedp.WaitReady(chromedp.CSS("h1"))) }
		done := func() {
			b.run(chromedp.WaitVisible(chromedp.Search(`//h1[.="What was ordered"]`)))
			require.Contains(t, eval[string](b, `document.body.innerText`), "the service has done it", way.name)
			if way.name == "mouse" {
				for _, v := range b.axe() {
					require.Empty(t, v.Nodes, "%s: %s", v.ID, v.Help)
				}
			}
		}

		at("/")
		h.follow("Pause sending to AtHoc")
		b.run(chromedp.WaitVisible(chromedp.CSS("form.order")))
		h.write("reason", "AtHoc is upgraded")
		h.press("Pause")
		done()
		require.True(t, paused(), way.name)

		at("/")
		h.follow("End the pause")
		b.run(chromedp.WaitVisible(chromedp.CSS("form.order")))
		h.write("reason", "it is done")
		h.press("End the pause")
		done()
		require.False(t, paused(), way.name)

		at("/mapping")
		h.follow("Refresh")
		b.run(chromedp.WaitVisible(chromedp.CSS("form.order")))
		h.press("Refresh")
		done()
		given++
		times := ordered(t, c, "anna")
		for _, endpoint := range []string{"pause", "resume", "mapping-refresh"} {
			require.Equal(t, given, times[endpoint], "%s, %s", endpoint, way.name)
		}
		b.clean()
	}
}
