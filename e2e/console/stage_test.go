//go:build linux

package console_test

// The stage: two feeds, 412 workers, mass changes that are held, and AtHoc over TLS, so that everything can be well;
// and the states that the stage goes through, one after the other.

import (
	"encoding/pem"
	"fmt"
	"maps"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/harness"
	"bobosync/e2e/workload"
	"bobosync/shared/boborow"
	"bobosync/shared/topology"
)

// crew is the number of workers on the stage.
const crew = 412

func employee(i int) string { return fmt.Sprintf("%05d", 40000+i) }

func login(i int) string { return fmt.Sprintf("worker%05d@example.org", 40000+i) }

// theatre starts the stage, with further settings.
func theatre(t *testing.T, workers int, settings map[string]string) *console {
	t.Helper()
	dir := room(t)
	athoc, known := "", make(chan struct{})
	tls := httptest.NewTLSServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		<-known
		r.SetURL(&url.URL{Scheme: "http", Host: athoc})
		r.Out.Host = r.In.Host
	}})
	t.Cleanup(tls.Close)

	authority := filepath.Join(dir, "authority.pem")
	require.NoError(t, os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}), 0o600))

	var feeds []string
	for _, name := range []string{"north", "south"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "in", name), 0o700))
		feeds = append(feeds, name+"="+filepath.Join(dir, "in", name))
	}

	all := map[string]string{
		"ATHOC_SERVER_URL": tls.URL, "SSL_CERT_PATH": authority, "ATHOC_ALLOW_HTTP": "false", "BATCH_SIZE": "500",
		"ATHOC_TIMEOUT": "30s", "CLEANUP_INTERVAL": "5m", "CSV_DIRECTORY": "", "FEEDS": strings.Join(feeds, ","), "GUARD": "off", "GUARD_WINDOW": "1m",
	}
	maps.Copy(all, settings)

	var plan workload.Plan
	for i := range workers {
		plan.Workers = append(plan.Workers, workload.Worker{Employee: employee(i), Login: login(i)})
	}

	reveal := sync.OnceFunc(func() { close(known) })
	defer reveal() // otherwise, if the stage did not start, the proxy would keep its callers waiting

	c := stage(t, dir, plan, all)
	athoc = c.AtHocAddress()

	reveal()
	c.answered(t)

	return c
}

// answered waits until every service answers, so that an order can be given: a service that has just been started
// does not answer yet.
func (c *console) answered(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		said, _ := c.Operate(t.Context(), "status", "--json") // the exit status is the verdict
		return strings.Contains(said, `"findings"`) && !strings.Contains(said, `"cause": "no_`)
	}, within, 100*time.Millisecond, "every service answers")
}

// guard makes mass changes be held from now on. Before, everybody comes on duty at once, which must not be held.
func (c *console) guard(t *testing.T) {
	t.Helper()
	require.NoError(t, c.Process(harness.Resolver).Stop())
	_, err := c.AddSecond(harness.Resolver, "GUARD=hold")
	require.NoError(t, err)
	c.answered(t)
}

// drop puts a file into a feed's directory.
func (c *console) drop(t *testing.T, feed, name string, rows ...string) {
	t.Helper()

	writing := c.Path("outside", name)
	require.NoError(t, os.WriteFile(writing, []byte(strings.Join(rows, "\n")+"\n"), 0o600))
	require.NoError(t, os.Rename(writing, c.Path("in", feed, name)))
}

// rows returns rows that book workers on or off, that long ago: those with an index of at least from and less than
// to.
func rows(t *testing.T, on bool, from, to int, ago time.Duration) (all []string) {
	t.Helper()

	zone, err := time.LoadLocation(harness.BoboZone)
	require.NoError(t, err)

	at := time.Now().Add(-ago).In(zone)
	for i := from; i < to; i++ {
		all = append(all, boborow.New(on, employee(i), at).String())
	}

	return all
}

// onDuty counts the users who are on duty in AtHoc.
func (c *console) onDuty(t *testing.T) (n int) {
	t.Helper()
	all, err := c.Sim.Users(t.Context())
	require.NoError(t, err)

	for _, u := range all {
		if u[sim.DefaultDutyAttribute] != "" {
			n++
		}
	}

	return n
}

func (c *console) operate(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.Operate(t.Context(), args...)
	require.NoError(t, err, out)
	return out
}

// called returns a file's name as it would have been that long ago.
func called(feed string, ago time.Duration) string {
	return feed + "-" + time.Now().Add(-ago).UTC().Format("1504") + ".csv"
}

// state is a state of the stage: how to get there, what the first page then shows, and the pages that show the state
// best.
type state struct {
	name  string
	begin func(t *testing.T, c *console)
	shows string // a script that reports whether the state has been reached
	pages []string
	// pictures are the names of the pictures for the README, by page.
	pictures map[string]string
}

const (
	verdictIs = `document.querySelector("[data-verdict]").dataset.verdict === %q`
	mentions  = `document.body.innerText.includes(%q)`
)

// states are played in this order; each continues from the one before.
func states() []state {
	worker := "/worker?q=" + employee(3)

	return []state{
		{
			name: "first start", begin: func(*testing.T, *console) {}, shows: `!(` + fmt.Sprintf(mentions, "does not answer") + `) && ` + fmt.Sprintf(mentions, "of 0 known workers"),
			pages: []string{"/", "/files", "/decisions", "/feeds", "/mapping", "/replay"},
		},
		{name: "well", begin: allWell, shows: fmt.Sprintf(verdictIs, "OK") + ` && ` + fmt.Sprintf(mentions, "of 412 known workers") + ` && ` + fmt.Sprintf(mentions, "\n0 workers\n"), pictures: map[string]string{"/": "now-well"}},
		{
			name: "outage", begin: outage, shows: fmt.Sprintf(verdictIs, "PROBLEM") + ` && ` + fmt.Sprintf(mentions, "37 workers"),
			pages: []string{"/", "/files", "/system", "/wall"}, pictures: map[string]string{"/": "now-outage"},
		},
		{
			name: "held", begin: massFlip, shows: fmt.Sprintf(mentions, "HELD: a mass change of 180"),
			pages: []string{"/", "/decisions", worker, worker + "&at=1s", worker + "&bookings=1"}, pictures: map[string]string{"/decisions": "decision-held", worker: "worker-line"},
		},
		{
			name: "to repair", begin: toRepair, shows: fmt.Sprintf(mentions, "dead letter") + ` && ` + fmt.Sprintf(mentions, "mapping:"),
			pages: []string{"/", "/dead", "/orders/drop?all=1", "/mapping", "/reconcile", "/files", "/replay", "/audit", "/journal"},
		},
		{
			name: "paused", begin: func(t *testing.T, c *console) {
				c.operate(t, "pause", "--for", "1h", "--reason", "AtHoc is upgraded")
				c.drop(t, "south", called("south", 0), rows(t, false, 300, 310, time.Minute)...)
			}, shows: fmt.Sprintf(mentions, "PAUSED until"), pages: []string{"/", "/orders/resume", "/report", "/wall"},
		},
		{
			name: "broker away", begin: func(t *testing.T, c *console) { require.NoError(t, c.Process(harness.Broker).Kill()) },
			shows: fmt.Sprintf(mentions, "NOT LIVE: the broker"), pages: []string{"/", "/files", "/wall", "/worker", "/orders/pause", "/help"},
		},
	}
}

// allWell lets both feeds bring what is usual, and waits until AtHoc has it.
func allWell(t *testing.T, c *console) {
	c.drop(t, "north", called("north", 3*time.Hour), rows(t, true, 0, 230, 3*time.Hour)...)
	c.drop(t, "south", called("south", 170*time.Minute), rows(t, true, 230, crew, 170*time.Minute)...)
	require.Eventually(t, func() bool { return c.onDuty(t) == crew }, within, 100*time.Millisecond)
	c.guard(t)
	c.drop(t, "north", called("north", 20*time.Minute), rows(t, false, 0, 16, 20*time.Minute)...)
	require.Eventually(t, func() bool { return c.onDuty(t) == crew-16 }, within, 100*time.Millisecond)
}

// outage makes AtHoc answer with errors only while workers book on.
func outage(t *testing.T, c *console) {
	_, err := c.Sim.Fault(t.Context(), sim.Fault{Kind: sim.FaultStatus, Status: 503})
	require.NoError(t, err)
	c.drop(t, "north", called("north", 8*time.Minute), rows(t, true, 0, 37, 8*time.Minute)...)
}

// massFlip ends the outage, and books off many workers at once who have not left.
func massFlip(t *testing.T, c *console) {
	require.NoError(t, c.Sim.Calm(t.Context()))
	require.Eventually(t, func() bool { return c.onDuty(t) == crew }, within, 100*time.Millisecond)
	c.drop(t, "north", called("north", 2*time.Minute), rows(t, false, 50, 230, 4*time.Minute)...)
}

// toRepair leaves something to do everywhere: a file that is not a CSV file, rows that cannot be used, a message that
// is not valid, users who differ, and half of AtHoc's users gone.
func toRepair(t *testing.T, c *console) {
	c.drop(t, "south", strings.ReplaceAll(hostile, "/", "_"), "no,header", "\x00")

	spoilt := rows(t, true, 240, 250, 3*time.Minute)
	for i := range 4 {
		spoilt[i] = strings.Replace(spoilt[i], ",P,", ",", 1)
	}

	c.drop(t, "south", called("south", time.Minute), spoilt...)
	js, err := c.Broker()
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "bobo.entries."+strings.Repeat("0", 64), []byte("no JSON"))
	require.NoError(t, err)

	var forgotten, gone []string
	for i := range 7 {
		forgotten = append(forgotten, login(400+i))
	}

	require.NoError(t, c.Sim.Forget(t.Context(), forgotten...))
	c.operate(t, "reconcile")
	c.operate(t, "replay", "--worker", employee(300)+","+employee(301))

	for i := range crew / 2 {
		gone = append(gone, login(i))
	}

	require.NoError(t, c.Sim.Remove(t.Context(), gone...))
	_, _ = c.Operate(t.Context(), "mapping", "refresh") // it says that the mapping is held back
	require.Eventually(t, func() bool {
		info, err := js.Stream(t.Context(), topology.StreamDead)
		return err == nil && info.CachedInfo().State.Msgs > 0
	}, within, 100*time.Millisecond)
}
