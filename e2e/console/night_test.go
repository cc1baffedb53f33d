//go:build linux

package console_test

// At 03:10 AtHoc shows nobody on duty, and whoever investigates has nothing but the console.

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// How long finding the cause and giving the right order may take.
const (
	foundWithin   = 10 * time.Second
	orderedWithin = 60 * time.Second
)

// night is a reason why a whole crew that has booked on is not on duty in AtHoc.
type night struct {
	name     string
	settings map[string]string
	begin    func(t *testing.T, c *console)
	// seen are the links from the first page to the page that states the cause, and words is how it states it.
	seen  []string
	words string
	// orders are the orders to give then, each as the links that lead to it.
	orders [][]string
}

func nights() []night {
	crewBooks := func(t *testing.T, c *console) { c.drop(t, "north", "crew.csv", rows(t, true, 0, crew, time.Minute)...) }

	return []night{
		{
			name: "a pause was forgotten", words: "PAUSED until", orders: [][]string{{`main a[href^="/orders/resume"]`}},
			begin: func(t *testing.T, c *console) {
				c.operate(t, "pause", "--for", "8h", "--reason", "AtHoc is upgraded")
				crewBooks(t, c)
			},
		},
		{
			name: "a mass change is held", settings: map[string]string{"GUARD": "hold", "GUARD_ON": "hold"}, words: fmt.Sprintf("HELD: a mass change of %d", crew), begin: crewBooks,
			orders: [][]string{{`a[href="/decisions"]`, `main a[href^="/orders/approve?"]`}},
		},
		{
			name: "AtHoc was restored from a backup", seen: []string{`a[href="/dead"]`, `a[href="/reconcile"]`}, words: "AtHoc holds something else than it should",
			orders: [][]string{{`main a[href^="/orders/apply"]`}},
			begin: func(t *testing.T, c *console) {
				crewBooks(t, c)
				require.Eventually(t, func() bool { return c.onDuty(t) == crew }, within, 100*time.Millisecond)
				require.Eventually(t, func() bool { // nothing is reported for users whom AtHoc has only just confirmed
					var all []string
					for i := range crew {
						all = append(all, login(i))
					}

					require.NoError(t, c.Sim.Forget(t.Context(), all...))

					return tells(t, c, login(0), "reconcile") && tells(t, c, login(crew-1), "reconcile")
				}, within, time.Second)
			},
		},
	}
}

// TestNobodyIsOnDuty checks that the cause is stated on the first page or one click away, and that a few more clicks
// give the right order. It prints how many clicks and seconds that takes.
func TestNobodyIsOnDuty(t *testing.T) {
	for _, n := range nights() {
		t.Run(n.name, func(t *testing.T) {
			c := theatre(t, crew, n.settings)
			b := open(t, c.base())
			b.logIn("anna")
			n.begin(t, c)
			require.Eventually(t, func() bool { return b.holds(fmt.Sprintf(mentions, n.words)) || len(n.seen) > 0 }, within, 100*time.Millisecond)
			require.Zero(t, c.onDuty(t))

			began, clicks := time.Now(), 0
			click := func(selector string) {
				clicks++

				b.run(chromedp.Click(chromedp.CSS(selector)))
			}

			b.run(chromedp.Navigate(b.base+"/"), chromedp.WaitReady(chromedp.CSS("h1")))

			for _, link := range n.seen {
				click(link)
			}

			require.Eventually(t, func() bool { return b.holds(fmt.Sprintf(mentions, n.words)) }, foundWithin, 20*time.Millisecond)

			found := time.Since(began)
			require.Less(t, found, foundWithin)

			for _, links := range n.orders {
				for _, link := range links {
					b.run(chromedp.WaitReady(chromedp.CSS(link)))
					click(link)
				}

				b.run(chromedp.WaitReady(chromedp.CSS("form.order")))

				for _, field := range eval[[]string](b, `[...document.querySelectorAll("form.order [required]")].map(e => e.name)`) {
					text := "nobody is on duty in AtHoc"
					if field == "number" {
						text = eval[string](b, `document.querySelector('form.order [name="size"]').value`)
					}

					b.run(chromedp.SendKeys(chromedp.CSS(fmt.Sprintf(`form.order [name=%q]`, field)), text))
				}

				click("form.order button")
				b.run(chromedp.WaitVisible(chromedp.Search(`//h1[.="What was ordered"]`)))
				b.until(eval[string](b, `location.pathname`), fmt.Sprintf(mentions, "the service has done it"))
			}

			ordered := time.Since(began)
			require.Less(t, ordered, orderedWithin)
			require.Eventually(t, func() bool { return c.onDuty(t) == crew }, within, 100*time.Millisecond, "the crew is on duty")
			t.Logf("%s: the cause after %.1f s, the right order after %.1f s, with %d clicks", n.name, found.Seconds(), ordered.Seconds(), clicks)
			b.clean()
		})
	}
}
