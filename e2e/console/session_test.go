//go:build linux

package console_test

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// TestASessionsEndIsSaid: two minutes before, and who goes on by the button or the key loses nothing that he has typed. The console's answers
// are told 28 minutes too late; its sessions are as they are.
func TestASessionsEndIsSaid(t *testing.T) {
	c := start(t)
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
