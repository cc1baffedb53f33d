//go:build linux

package console_test

// What the console costs, compared with what it may cost; make bench-console prints it. Exceeding a size fails the
// test; times depend on the machine.

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"bobosync/e2e/harness"
)

var (
	// budgets turns on measuring what the console costs.
	budgets      = flag.Bool("budgets", false, "measure what the console costs")
	benchWorkers = flag.Int("bench-workers", 20_000, "`number` of workers to measure with")
	benchFiles   = flag.Int("bench-files", 10_000, "`number` of finished files to measure with")
)

// streamsOpen is the number of viewers measured.
const streamsOpen = 50

// budget is a printed line.
type budget struct{ what, is, may string }

// viewer is somebody who is logged in, but without a browser.
type viewer struct {
	t    *testing.T
	base string
	http *http.Client
}

func newViewer(t *testing.T, base, name string) *viewer {
	t.Helper()

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	v := &viewer{t, base, &http.Client{Jar: jar}}
	res, err := v.http.PostForm(base+"/login", url.Values{"name": {name}, "password": {password}})
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())

	return v
}

// get returns a page and how long it took.
func (v *viewer) get(path string) ([]byte, time.Duration) {
	v.t.Helper()

	began := time.Now()
	res, err := v.http.Get(v.base + path)
	require.NoError(v.t, err)

	defer res.Body.Close()

	body, err := io.ReadAll(res.Body)
	require.NoError(v.t, err)
	require.Equal(v.t, http.StatusOK, res.StatusCode, "%s: %s", path, body)

	return body, time.Since(began)
}

// p95 requests a page again and again, and returns the median and the 95th percentile of the times.
func (v *viewer) p95(path string, times int) string {
	v.t.Helper()

	var took []time.Duration
	for range times {
		_, d := v.get(path)
		took = append(took, d)
	}

	slices.Sort(took)

	return fmt.Sprintf("p50 %s, p95 %s", took[times/2].Round(100*time.Microsecond), took[times*95/100].Round(100*time.Microsecond))
}

func zipped(t *testing.T, data []byte) int {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())

	return b.Len()
}

func kib(n int) string { return fmt.Sprintf("%.1f KiB", float64(n)/1024) }

// TestBudgets measures the console with many workers and files.
func TestBudgets(t *testing.T) {
	if !*budgets {
		t.Skip("make bench-console runs it")
	}

	c := theatre(t, *benchWorkers, map[string]string{"BATCH_SIZE": "1000"})
	c.drop(t, "north", "all.csv", rows(t, true, 0, *benchWorkers, time.Hour)...)

	for i := range *benchFiles {
		c.drop(t, "south", fmt.Sprintf("south-%05d.csv", i), rows(t, true, i%*benchWorkers, i%*benchWorkers+1, 50*time.Minute)...)
	}

	require.Eventually(t, func() bool {
		names, err := os.ReadDir(c.Path("in", "south"))
		return err == nil && len(names) == 0 && c.onDuty(t) == *benchWorkers
	}, 8*time.Minute, time.Second)

	found := processCosts(t, c) // first, while nobody has opened a page yet
	v := newViewer(t, "http://"+c.addr, "anna")
	stop := watch(t, v)
	found = append(found,
		budget{"Now, server time", v.p95("/", 200), "p95 20 ms"},
		budget{"Files, server time", v.p95("/files", 20), "300 ms"},
		budget{"Worker, server time", v.p95("/worker?q="+employee(7), 20), "300 ms"})

	stop()

	found = append(found, sizes(t, v)...)
	found = append(found, screen(t, c)...)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%d workers, %d files\tis\tmay be\n", *benchWorkers, *benchFiles)

	for _, b := range found {
		fmt.Fprintf(w, "%s\t%s\t%s\n", b.what, b.is, b.may)
	}

	require.NoError(t, w.Flush())
}

// sizes returns the sizes of pages, including everything that they load. A size that is too large fails the test.
func sizes(t *testing.T, v *viewer) (found []budget) {
	now, _ := v.get("/")
	files, _ := v.get("/files")
	scripts, styles := 0, 0
	for _, m := range regexp.MustCompile(`/assets/[^"]+\.(js|css)`).FindAllStringSubmatch(string(now), -1) {
		body, _ := v.get(m[0])
		if m[1] == "js" {
			scripts += zipped(t, body)
		} else {
			styles += zipped(t, body)
		}
	}

	for _, s := range []struct {
		what    string
		is, may int
	}{{"scripts, gzipped", scripts, 25 << 10}, {"style, gzipped", styles, 10 << 10}, {"Now, HTML gzipped", zipped(t, now), 12 << 10}, {"Files, 50 rows, HTML gzipped", zipped(t, files), 30 << 10}} {
		require.LessOrEqual(t, s.is, s.may, s.what)
		require.NotZero(t, s.is, s.what)
		found = append(found, budget{s.what, kib(s.is), kib(s.may)})
	}

	return found
}

// watch keeps a page's live stream open.
func watch(t *testing.T, v *viewer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.base+"/live?page=%2F", nil)
	require.NoError(t, err)
	res, err := v.http.Do(req)
	require.NoError(t, err)
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(io.Discard, res.Body) }) // ends with the stream

	return func() {
		cancel()
		reading.Wait()

		_ = res.Body.Close()
	}
}

// processCosts measures how soon the console answers after a start, its memory, and what many viewers cost.
func processCosts(t *testing.T, c *console) (found []budget) {
	require.NoError(t, c.process.Stop())

	began := time.Now()

	require.NoError(t, c.process.Start())
	require.Eventually(t, func() bool {
		res, err := http.Get("http://" + c.addr + "/login")
		if err != nil {
			return false
		}

		return res.Body.Close() == nil
	}, within, 2*time.Millisecond)
	found = append(found, budget{"start until it answers", time.Since(began).Round(time.Millisecond).String(), "300 ms"})
	idle, _ := usage(t, c.process)
	v := newViewer(t, "http://"+c.addr, "anna")
	first := watch(t, v)
	v.get("/")

	before, _ := usage(t, c.process)
	stops := []func(){first}
	for range streamsOpen - 1 {
		stops = append(stops, watch(t, v))
	}

	const measured = 20 * time.Second
	_, cpu := usage(t, c.process)

	time.Sleep(measured) // a share of time needs some time to measure

	after, then := usage(t, c.process)

	for _, stop := range stops {
		stop()
	}

	return append(found,
		budget{"memory, idle", kib(idle), kib(15 << 20)},
		budget{"memory, each further stream", kib((after - before) / (streamsOpen - 1)), kib(50 << 10)},
		budget{fmt.Sprintf("%d viewers", streamsOpen), fmt.Sprintf("%.1f %% of a core", 100*(then-cpu).Seconds()/measured.Seconds()), "3 % of a core"})
}

// usage returns the memory that a process holds, in bytes, and the CPU time that it has used.
func usage(t *testing.T, p *harness.Process) (memory int, cpu time.Duration) {
	t.Helper()

	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid()))
	require.NoError(t, err)

	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	number := func(field int) int {
		n, err := strconv.Atoi(fields[field-3]) // proc(5) counts fields from 1; these begin after the name, with field 3
		require.NoError(t, err)
		return n
	}

	const tick = 10 * time.Millisecond

	return number(24) * os.Getpagesize(), time.Duration(number(14)+number(15)) * tick
}

// conditions are the conditions of a network: the latency in milliseconds, and bytes a second, -1 for no limit.
type conditions struct {
	Offline            bool    `json:"offline"`
	Latency            float64 `json:"latency"`
	DownloadThroughput float64 `json:"downloadThroughput"`
	UploadThroughput   float64 `json:"uploadThroughput"`
}

// emulateNetwork is a browser command that the protocol package lacks.
var emulateNetwork = cdp.Command[conditions, cdp.Empty]{Method: "Network.emulateNetworkConditions"}

// screen measures how soon a browser shows something.
func screen(t *testing.T, c *console) (found []budget) {
	b := open(t, c.base())
	b.logIn("anna")

	paint := func(about, may string, as conditions) {
		b.run(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
			if _, err := cdp.Call(ctx, tab, network.SetCacheDisabled, network.SetCacheDisabledParams{CacheDisabled: true}); err != nil {
				return err
			}

			_, err := cdp.Call(ctx, tab, emulateNetwork, as)

			return err
		}))

		var took []float64
		for range 5 {
			b.run(chromedp.Navigate(b.base + "/"))
			await(t, b, `performance.getEntriesByName("first-contentful-paint").length > 0`)
			took = append(took, eval[float64](b, `performance.getEntriesByName("first-contentful-paint")[0].startTime`))
		}

		slices.Sort(took)
		found = append(found, budget{"first paint, " + about, fmt.Sprintf("median %.0f ms, worst %.0f ms", took[2], took[4]), may})
	}
	paint("loopback", "300 ms", conditions{DownloadThroughput: -1, UploadThroughput: -1})
	paint("4G (9 Mbit/s, 85 ms)", "1 s", conditions{Latency: 85, DownloadThroughput: 9e6 / 8, UploadThroughput: 4e6 / 8})
	b.run(chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulateNetwork, conditions{DownloadThroughput: -1, UploadThroughput: -1})
		return err
	}))

	var changes, orders []time.Duration
	until := func(paused bool) {
		for eval[bool](b, fmt.Sprintf(mentions, "PAUSED until")) != paused {
			time.Sleep(20 * time.Millisecond)
		}
	}
	for range 10 {
		c.operate(t, "pause", "--for", "1h", "--reason", "a test")

		began := time.Now()

		until(true)

		changes = append(changes, time.Since(began))

		c.operate(t, "resume")

		began = time.Now()

		until(false)

		changes = append(changes, time.Since(began))
	}

	for range 5 {
		b.run(chromedp.Navigate(b.base+"/orders/pause"), chromedp.SendKeys(chromedp.CSS(`form.order [name="reason"]`), "a test"))

		began := time.Now()

		b.run(chromedp.Click(chromedp.CSS("form.order button")), chromedp.WaitVisible(chromedp.Search(`//h1[.="What was ordered"]`)))
		await(t, b, fmt.Sprintf(mentions, "the service has done it"))

		orders = append(orders, time.Since(began))
	}

	slices.Sort(changes)
	slices.Sort(orders)

	return append(found,
		budget{"a change until it is on the screen", fmt.Sprintf("p50 %s, p95 %s", changes[10].Round(time.Millisecond), changes[18].Round(time.Millisecond)), "p95 2 s"},
		budget{"an order until its result is on the screen", fmt.Sprintf("median %s, worst %s", orders[2].Round(time.Millisecond), orders[4].Round(time.Millisecond)), "1 s and the service's own time"})
}
