//go:build linux

package console_test

// Each order in the product's own list of orders, given with the mouse, with the keyboard alone, and without scripts.

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/control"
)

// hand is a way to use a page: it presses a link or a button, and types into a field, each named by a selector within
// the page.
type hand struct {
	press func(selector string)
	write func(selector, text string)
}

// mouse clicks.
func mouse(b *browser) hand {
	return hand{
		press: func(selector string) { b.run(chromedp.Click(chromedp.CSS("main " + selector))) },
		write: func(selector, text string) { b.run(chromedp.SendKeys(chromedp.CSS("main "+selector), text)) },
	}
}

// keyboard moves with Tab to the element that it needs.
func keyboard(b *browser) hand {
	tabTo := func(selector string) {
		for range 200 {
			b.run(chromedp.KeyEvent(kb.Tab))

			if eval[bool](b, fmt.Sprintf(`document.activeElement.matches(%q)`, "main "+selector)) {
				return
			}
		}

		require.Fail(b.t, "Tab does not lead there", selector)
	}

	return hand{
		press: func(selector string) { tabTo(selector); b.run(chromedp.KeyEvent(kb.Enter)) },
		write: func(selector, text string) { tabTo(selector); b.run(chromedp.KeyEvent(text)) },
	}
}

// withoutScripts keeps the browser from running scripts, and otherwise uses the page as a mouse does.
func withoutScripts(b *browser) hand {
	b.run(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))

	return mouse(b)
}

// ordered counts somebody's orders in the audit, by endpoint.
func ordered(t *testing.T, c *console, who string) map[string]int {
	t.Helper()
	var orders []struct {
		Endpoint, Outcome string
		Caller            struct{ Said string }
	}
	require.NoError(t, json.Unmarshal([]byte(c.operate(t, "audit", "list", "--most", "1000", "--json")), &orders))

	times := map[string]int{}
	for _, o := range orders {
		if strings.HasPrefix(o.Caller.Said, who+" (console") && o.Outcome == "ok" && o.Endpoint != control.JournalNote {
			times[o.Endpoint]++
		}
	}

	return times
}

// orderCase is how an order is given, from the page on which somebody would begin, and what must come of it.
type orderCase struct {
	// page has the link to the order's form, or the form itself if the order is given by one click.
	page     string
	oneClick bool
	endpoint string
	// parts is how many orders to services it leads to; 0 means one.
	parts int
	// says is what the last page says in the end; empty means that the service has done it.
	says string
	// ask returns what to type into the form that precedes the order's own.
	ask func(i int) string
	// before prepares what the order is about, when it is given for the i-th time.
	before func(t *testing.T, c *console, i int)
	done   func(t *testing.T, c *console, i int) bool
}

// orderCases returns the cases of all orders that the console has.
func orderCases() map[string]orderCase {
	cases := aboutSending()
	for _, more := range []map[string]orderCase{aboutLetters(), aboutAtHoc(), aboutMassChanges(), aboutMapping(), aboutServices()} {
		maps.Copy(cases, more)
	}

	return cases
}

// tells reports whether a command's output contains these words.
func tells(t *testing.T, c *console, words string, command ...string) bool {
	t.Helper()
	out, err := c.Operate(t.Context(), command...)
	require.NotEmpty(t, out, "%v", err) // if the status is not OK, neither is the exit status
	return strings.Contains(out, words)
}

func aboutSending() map[string]orderCase {
	paused := func(t *testing.T, c *console, _ int) bool { return tells(t, c, "PAUSED until", "status") }
	pause := func(t *testing.T, c *console, _ int) { c.operate(t, "pause", "--for", "1h", "--reason", "a test") }
	feed := []string{"north", "south", "north"}

	return map[string]orderCase{
		"pause": {page: "/", endpoint: control.Pause, done: paused, before: func(t *testing.T, c *console, _ int) {
			_, _ = c.Operate(t.Context(), "resume") // there may be no pause
		}},
		"resume": {page: "/", endpoint: control.Resume, before: pause, done: func(t *testing.T, c *console, i int) bool { return !paused(t, c, i) }},
		"mute": {
			page: "/feeds", endpoint: control.MuteFeed,
			before: func(t *testing.T, c *console, i int) {
				for _, other := range []string{"north", "south"} {
					_, _ = c.Operate(t.Context(), "feeds", "mute", other, "--for", "0", "--reason", "a test") // it may not be muted
				}

				if feed[i] == "south" {
					c.operate(t, "feeds", "mute", "north", "--for", "1h", "--reason", "a test") // so that its link is the first one
				}
			},
			done: func(t *testing.T, c *console, i int) bool {
				return tells(t, c, feed[i]+" is muted until", "feeds", "list")
			},
		},
		"replay-stop": {
			page: "/replay", endpoint: control.StopReplay,
			before: func(t *testing.T, c *console, i int) { pause(t, c, i); c.operate(t, "replay", "--all") },
			done: func(t *testing.T, c *console, _ int) bool {
				c.operate(t, "resume")
				return tells(t, c, `"stopped": true`, "replay", "list", "--json")
			},
		},
	}
}

func aboutLetters() map[string]orderCase {
	letters := func(t *testing.T, c *console) string { return c.operate(t, "dead", "list", "--json") }
	id := regexp.MustCompile(`"id": (\d+)`)
	var first string
	next := whoDies
	// letter makes AtHoc reject a worker's value, so that the update becomes a dead letter.
	letter := func(t *testing.T, c *console, _ int) {
		next++
		_, err := c.Sim.Fault(t.Context(), sim.Fault{Kind: sim.FaultUserError, Users: []string{login(next)}, Detail: sim.DefaultDutyAttribute + " is not valid"})
		require.NoError(t, err)
		require.NoError(t, c.Sim.Forget(t.Context(), login(next)))
		c.drop(t, "south", fmt.Sprintf("on-%d.csv", next), rows(t, true, next, next+1, time.Minute)...)
		require.Eventually(t, func() bool { return id.MatchString(letters(t, c)) }, within, 200*time.Millisecond)
		first = id.FindStringSubmatch(letters(t, c))[1]
		require.NoError(t, c.Sim.Calm(t.Context()))
	}
	gone := func(t *testing.T, c *console) bool { return !strings.Contains(letters(t, c), `"id": `+first+`,`) }

	return map[string]orderCase{
		"requeue": {page: "/dead", endpoint: control.DeadRequeue, before: letter, done: func(t *testing.T, c *console, _ int) bool {
			return gone(t, c) && c.shown(t, next)
		}},
		"drop": {page: "/dead", endpoint: control.DeadDrop, before: letter, done: func(t *testing.T, c *console, _ int) bool {
			return gone(t, c) && !c.shown(t, next)
		}},
	}
}

// shown reports whether AtHoc shows a worker as on duty.
func (c *console) shown(t *testing.T, worker int) bool {
	t.Helper()
	value, err := c.Sim.Value(t.Context(), login(worker), sim.DefaultDutyAttribute)
	require.NoError(t, err)
	return value != ""
}

// The workers on the stage for orders: each order has its own, so that no order depends on another.
const (
	everybody   = 2500 // more than are published at once, so that a replay can be stopped during a pause
	whoReplays  = 100
	whoDiffers  = 200
	whoDies     = 250
	whoGoes     = 300 // and those after this one
	goAtOnce    = 30
	whoIsErased = 2400
)

func aboutAtHoc() map[string]orderCase {
	lost := func(t *testing.T, c *console, worker int) {
		require.NoError(t, c.Sim.Forget(t.Context(), login(worker)))
	}
	compared := func(t *testing.T, c *console) int {
		return strings.Count(c.operate(t, "journal", "--kind", "reconcile", "--json"), `"outcome": "ok"`)
	}
	times := 0

	return map[string]orderCase{
		"replay": {
			page: "/replay", endpoint: control.Replay, ask: func(i int) string { return employee(whoReplays + i) },
			before: func(t *testing.T, c *console, i int) { lost(t, c, whoReplays+i) },
			done:   func(t *testing.T, c *console, i int) bool { return c.shown(t, whoReplays+i) },
		},
		"compare": {
			page: "/reconcile", endpoint: control.Reconcile,
			before: func(t *testing.T, c *console, _ int) { times = compared(t, c) },
			done:   func(t *testing.T, c *console, _ int) bool { return compared(t, c) > times },
		},
		"apply": {
			page: "/reconcile", endpoint: control.Reconcile,
			before: func(t *testing.T, c *console, i int) {
				lost(t, c, whoDiffers+i)
				require.Eventually(t, func() bool { // nothing is reported for users whom AtHoc has only just confirmed
					return strings.Contains(c.operate(t, "reconcile"), login(whoDiffers+i))
				}, within, time.Second)
			},
			done: func(t *testing.T, c *console, i int) bool { return c.shown(t, whoDiffers+i) },
		},
	}
}

func aboutMassChanges() map[string]orderCase {
	next := whoGoes
	var held string
	// flip books so many off at once that they are held.
	flip := func(t *testing.T, c *console, _ int) {
		next += goAtOnce
		c.drop(t, "north", fmt.Sprintf("off-%d.csv", next), rows(t, false, next, next+goAtOnce, time.Minute)...)
		require.Eventually(t, func() bool {
			var list struct{ Held []control.HeldGroup }
			require.NoError(t, json.Unmarshal([]byte(c.operate(t, "held", "list", "--json")), &list))

			if len(list.Held) != 1 || list.Held[0].Users != goAtOnce {
				return false
			}

			held = list.Held[0].ID

			return true
		}, within, 200*time.Millisecond)
	}
	off := func(t *testing.T, c *console, _ int) bool { return !c.shown(t, next) && !c.shown(t, next+goAtOnce-1) }

	return map[string]orderCase{
		"approve": {page: "/decisions", endpoint: control.HeldDecide, before: flip, done: off},
		"reject": {page: "/decisions", endpoint: control.HeldDecide, before: flip, done: func(t *testing.T, c *console, _ int) bool {
			_, err := os.Stat(c.Path("failed", fmt.Sprintf("off-%d.csv", next)))
			return err == nil && c.shown(t, next)
		}},
		"take-in": {page: "/decisions", endpoint: control.HeldRequeue, done: off, before: func(t *testing.T, c *console, i int) {
			flip(t, c, i)
			c.operate(t, "held", "reject", held, "--reason", "a test")
		}},
	}
}

func aboutMapping() map[string]orderCase {
	var refreshed string
	when := func(t *testing.T, c *console) string {
		return regexp.MustCompile(`"refreshed": "[^"]*"`).FindString(c.operate(t, "mapping", "show", "--json"))
	}

	return map[string]orderCase{
		"refresh": {
			page: "/mapping", endpoint: control.MappingRefresh, oneClick: true,
			before: func(t *testing.T, c *console, _ int) { refreshed = when(t, c) },
			done:   func(t *testing.T, c *console, _ int) bool { return when(t, c) != refreshed },
		},
		"approve-mapping": {
			page: "/mapping", endpoint: control.MappingApprove,
			before: func(t *testing.T, c *console, i int) {
				require.NoError(t, c.Sim.Remove(t.Context(), login(whoIsErased+i)))
				_, _ = c.Operate(t.Context(), "mapping", "refresh") // it says that the mapping is held back
				require.True(t, tells(t, c, login(whoIsErased+i), "mapping", "list", login(whoIsErased+i)))
			},
			done: func(t *testing.T, c *console, i int) bool {
				return !tells(t, c, `"`+employee(whoIsErased+i)+`"`, "mapping", "list", "--json")
			},
		},
	}
}

func aboutServices() map[string]orderCase {
	return map[string]orderCase{
		"check": {
			page: "/system", endpoint: control.Check, oneClick: true, parts: 4, says: " ok, ",
			done: func(t *testing.T, c *console, _ int) bool {
				return tells(t, c, "check by the running services", "journal")
			},
		},
	}
}

// orderNames returns the names of all orders of the console, in the console's own order.
func orderNames(t *testing.T) (names []string) {
	t.Helper()

	source, err := os.ReadFile("../../services/console/internal/web/plans.go")
	require.NoError(t, err)

	_, list, found := strings.Cut(string(source), "var orders = []order{\n")
	require.True(t, found)

	list, _, _ = strings.Cut(list, "\n}\n")
	for _, m := range regexp.MustCompile(`(?m)^\t\{"([a-z-]+)", `).FindAllStringSubmatch(list, -1) {
		names = append(names, m[1])
	}

	require.Len(t, names, strings.Count(list, "\n")+1, list)

	return names
}

// TestOrdersThreeWays gives every order of the console with the mouse, with the keyboard alone, and without scripts.
// Without CONSOLE_ALL it does what takes a few minutes: three orders in each way, and every other order in one way.
// It reads what came of them from the services and from the audit.
func TestOrdersThreeWays(t *testing.T) {
	c := theatre(t, everybody, map[string]string{"GUARD_OFF_PERCENT": "1", "MAPPING_MAX_REMOVAL_PERCENT": "0"})
	c.drop(t, "north", "on.csv", rows(t, true, 0, everybody, time.Hour)...)
	require.Eventually(t, func() bool { return c.onDuty(t) == everybody }, 2*within, 200*time.Millisecond)
	c.guard(t)

	ways := []struct {
		name string
		hand func(*browser) hand
	}{{"mouse", mouse}, {"keyboard", keyboard}, {"without scripts", withoutScripts}}
	var browsers []*browser
	var hands []hand
	for _, way := range ways {
		b := open(t, c.base())
		b.logIn("anna")
		browsers, hands = append(browsers, b), append(hands, way.hand(b))
	}

	outer, cases, given := t, orderCases(), map[string]int{}
	for n, name := range orderNames(t) {
		order, known := cases[name]
		require.True(t, known, "%s: say in orderCases how it is given", name)
		delete(cases, name)

		for i, way := range ways {
			if !all() && name != "pause" && name != "resume" && name != "refresh" && i != n%len(ways) {
				continue
			}

			t.Run(name+"/"+way.name, func(t *testing.T) {
				browsers[i].t = t
				defer func() { browsers[i].t = outer }()

				order.give(t, c, name, browsers[i], hands[i], i)
				given[order.endpoint] += max(1, order.parts)
			})
		}
	}

	require.Empty(t, cases)
	require.Equal(t, given, ordered(t, c, "anna"))

	for _, b := range browsers {
		b.clean()
	}
}

// give prepares what the order is about, gives it, and waits for what must come of it.
func (o orderCase) give(t *testing.T, c *console, name string, b *browser, h hand, i int) {
	t.Helper()

	if o.before != nil {
		o.before(t, c, i)
	}

	if o.oneClick {
		b.until(o.page, fmt.Sprintf(`document.querySelector(%q) !== null`, `form.order[action="/orders/`+name+`"]`))
	} else {
		o.open(b, h, name)
	}

	if o.ask != nil {
		h.write(`form.ask [name="which"]`, o.ask(i))
		h.press(`form.ask button`)
	}

	b.run(chromedp.WaitReady(chromedp.CSS("form.order")))

	for _, field := range eval[[]string](b, `[...document.querySelectorAll("form.order [required]")].map(e => e.name)`) {
		text := "a test"
		if field == "number" {
			text = eval[string](b, `document.querySelector('form.order [name="size"]').value`)
		}

		h.write(fmt.Sprintf(`form.order [name=%q]`, field), text)
	}

	b.pressUntil(func() {}, h, `form.order button`, `document.querySelector("h1")?.textContent === "What was ordered"`)
	b.until(eval[string](b, `location.pathname`), fmt.Sprintf(mentions, cmp.Or(o.says, "the service has done it")))

	if i == 0 {
		for _, v := range b.axe() {
			require.Empty(t, v.Nodes, "%s: %s", v.ID, v.Help)
		}
	}

	require.Eventually(t, func() bool { return o.done(t, c, i) }, 2*within, 500*time.Millisecond, "what has to come of it")
}

// open follows the page's link to the order's form.
func (o orderCase) open(b *browser, h hand, name string) {
	b.t.Helper()

	link := fmt.Sprintf(`a[href^="/orders/%s"]`, name)
	if name == "replay" || name == "approve" {
		link = fmt.Sprintf(`a[href="/orders/%s"], main a[href^="/orders/%s?"]`, name, name) // not the link to replay-stop
	}

	form := `form[action="/orders/` + name + `"]`
	there := func() { b.until(o.page, fmt.Sprintf(`document.querySelector(%q) !== null`, "main "+link)) }
	b.pressUntil(there, h, link, fmt.Sprintf(`document.querySelector(%q) !== null`, form))
}

// pressUntil calls where, which goes to a link or a button, and presses it, until something holds. A page that keeps
// itself up to date may move the element away from under the mouse: then pressUntil presses it again, as people do.
// An order's form counts only once.
func (b *browser) pressUntil(where func(), h hand, selector, holds string) {
	b.t.Helper()

	for began, there := time.Now(), false; !there; {
		require.Less(b.t, time.Since(began), 2*within, "%s does not lead to where %s", selector, holds)
		where()
		h.press(selector)

		for pressed := time.Now(); !there && time.Since(pressed) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
			there = b.holds(holds)
		}
	}
}
