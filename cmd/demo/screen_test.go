package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bobosync/cmd/athocsim/sim"
	"bobosync/services/ingest"
)

func TestRender(t *testing.T) {
	v := view{files: 120, done: 60, waiting: 20, rows: 3500, rowsDone: 2400, oldest: 1200 * time.Millisecond,
		calls: calls{update: 1200, failed: 3, sent: 900, applied: 850}}

	got := strings.Join(render(v, style{bar: asciiBar}, 79), "\n")
	for _, want := range []string{
		"###############=====..........  60 done, 20 waiting, 40 to come",
		"2,400 in confirmed files, 1,100 waiting", "AtHoc   up; 1,200 calls, 3 of them failed", "900 sent, 850 applied",
		"dropped 1.20 s ago",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}

	if strings.Contains(got, "\x1b") {
		t.Error("colours where there are to be none")
	}

	v.down, v.oldest = 2*time.Second, 0

	got = strings.Join(render(v, style{color: true, bar: unicodeBar}, 79), "\n")
	for _, want := range []string{red + "DOWN for 2.00 s" + plainly, "no file waits"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%q", want, got)
		}
	}
}

// TestRenderFits checks that no line is so long that the terminal would break it: the view could not be erased any
// more.
func TestRenderFits(t *testing.T) {
	huge := view{files: 5000, done: 4998, waiting: 1, rows: 1e9, rowsDone: 1e8, oldest: time.Hour, down: time.Hour,
		calls: calls{update: 1e8, failed: 1e8, sent: 1e9, applied: 1e9}}
	for _, v := range []view{huge, {files: 15}, {files: 15, done: 15}, {files: 15, waiting: 15}} {
		lines := len(render(v, style{bar: asciiBar}, 79))
		for width := 1; width < 100; width++ {
			for _, st := range []style{{bar: asciiBar}, {color: true, bar: unicodeBar}} {
				got := render(v, st, width)
				if len(got) != lines {
					t.Fatalf("%d lines at width %d, want %d", len(got), width, lines)
				}

				for _, line := range got {
					checkLine(t, line, width)
				}
			}
		}
	}
}

// checkLine checks a line's width, and that it resets the colours at its end.
func checkLine(t *testing.T, line string, width int) {
	t.Helper()

	bare := line
	for _, code := range []string{bold, dim, red, green, yellow, plainly} {
		bare = strings.ReplaceAll(bare, code, "")
	}

	if n := utf8.RuneCountInString(bare); n > width || strings.Contains(bare, "\x1b") {
		t.Fatalf("%q takes %d columns of %d, or has half a sequence", line, n, width)
	}

	if last := strings.LastIndex(line, "\x1b"); last >= 0 && !strings.HasPrefix(line[last:], plainly) {
		t.Fatalf("%q leaves the terminal in a colour", line)
	}
}

func TestScreenWithoutTerminal(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, true)
	s.event("something that happens, told in more words than fit into the eighty columns of a terminal")
	s.draw(view{files: 15, done: 3})
	s.close()

	if got := out.String(); strings.Contains(got, "\x1b") || strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "terminal\n") {
		t.Errorf("got %q, want the event alone, on one line", got)
	}
}

func TestScreenDrawsInPlace(t *testing.T) {
	var out bytes.Buffer
	s := newScreen(&out, true)
	s.terminal, s.live = true, true
	v := view{files: 15, done: 3}
	lines := len(render(v, s.style, 79))
	s.draw(v)

	before := out.Len()

	s.event("happened")

	if got, want := out.String()[before:], s.erasing(lines); !strings.HasPrefix(got, want) || !strings.Contains(got, "happened\n") {
		t.Errorf("got %q, want the view taken off and the event", got)
	}

	before = out.Len()

	s.close()

	if got := out.String()[before:]; got != showCursor {
		t.Errorf("got %q, want the cursor back and nothing else: there is no view to take off", got)
	}
}

func (*screen) erasing(lines int) string {
	s := screen{drawn: lines}
	return s.erase()
}

func TestSpeaksUnicode(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false}, {map[string]string{"LANG": "en_GB.UTF-8"}, true}, {map[string]string{"LANG": "C.utf8"}, true},
		{map[string]string{"LANG": "en_GB.UTF-8", "LC_ALL": "C"}, false}, {map[string]string{"LC_CTYPE": "UTF-8"}, true},
	} {
		if got := speaksUnicode(func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("%v: got %v", c.env, got)
		}
	}
}

func TestWords(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) is %q", n, got)
		}
	}

	times := make([]time.Duration, 200)
	for i := range times {
		times[i] = time.Duration(i + 1)
	}

	if percentile(times, 50) != 100 || percentile(times, 99) != 198 || percentile(times[:1], 99) != 1 || percentile(times[:3], 50) != 2 {
		t.Error("percentiles are not the nearest rank")
	}
}

func TestTally(t *testing.T) {
	var y tally
	at := func(s int64) int64 { return s * int64(time.Second) }
	y.note(sim.Call{Endpoint: sim.EndpointToken, Status: http.StatusOK, Finished: at(1)})
	y.note(sim.Call{Endpoint: sim.EndpointSearch, Status: http.StatusOK, Finished: at(2), FetchedRecords: 7})

	users := []sim.UserCall{{Applied: true}, {}}
	y.note(sim.Call{Endpoint: sim.EndpointUpdate, Status: http.StatusServiceUnavailable, Finished: at(3), Users: users[1:]})
	y.note(sim.Call{Endpoint: sim.EndpointUpdate, Status: http.StatusServiceUnavailable, Finished: at(4), Users: users[1:]})

	if got := y.get(); got.downSince != time.Unix(3, 0) || !got.last.IsZero() {
		t.Errorf("while it is down: %+v", got)
	}

	y.note(sim.Call{Endpoint: sim.EndpointUpdate, Status: http.StatusOK, Finished: at(5), Users: users})

	want := calls{token: 1, search: 1, update: 3, failed: 2, fetched: 7, sent: 4, applied: 1, first: time.Unix(3, 0), last: time.Unix(5, 0)}
	if got := y.get(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestWatch(t *testing.T) {
	p := directories{t.TempDir()}
	if err := os.Mkdir(p.input(), 0o700); err != nil {
		t.Fatal(err)
	}

	w := newWatch(p, 4)
	for _, name := range []string{"a.csv", "b.csv"} {
		if err := os.WriteFile(filepath.Join(p.input(), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}

		w.dropped(&file{name: name}, count{rows: 5})
	}

	now := time.Now().Add(time.Second)
	look := func() view {
		t.Helper()

		if err := w.look(); err != nil {
			t.Fatal(err)
		}

		return w.view(calls{downSince: now.Add(-time.Second)}, now)
	}
	if v := look(); v.waiting != 2 || v.done != 0 || v.rows != 10 || v.rowsDone != 0 || v.oldest < time.Second || v.down != time.Second {
		t.Errorf("while both wait: %+v", v)
	}

	if err := os.Remove(filepath.Join(p.input(), "a.csv")); err != nil {
		t.Fatal(err)
	}

	if v := look(); v.waiting != 1 || v.done != 1 || v.rowsDone != 5 {
		t.Errorf("when one is confirmed: %+v", v)
	}

	if news := w.news(calls{}); len(news) != 1 || news[0] != "1 of 4 files are confirmed" {
		t.Errorf("news %q", news)
	}

	if news := w.news(calls{}); len(news) != 0 {
		t.Errorf("old news %q", news)
	}
}

func TestReportFindsWhatIsMissing(t *testing.T) {
	d := drop{file: &file{name: "x.csv", text: []byte("abc")}, count: count{rows: 3, rejected: 1}, at: noon}
	const id = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	fresh := func() *report { return &report{outcomes: map[string]int{}, rejected: map[string]int{}} }
	good := &ingest.File{ID: id, Rows: 3, Rejected: 1, Codes: map[ingest.Code]int{1: 2, 32: 1}, Finished: noon.Add(time.Second)}
	r := fresh()
	r.account([]drop{d, d}, map[string]*ingest.File{id: good})

	if !r.right() || r.outcomes["applied"] != 2 || r.rejected["columns"] != 1 || len(r.quick) != 1 || r.quick[0] != time.Second {
		t.Errorf("a file that is all right: %+v", r)
	}

	for name, f := range map[string]*ingest.File{
		"unknown":     {ID: "other"},
		"a row less":  {ID: id, Rows: 2, Rejected: 1, Codes: map[ingest.Code]int{1: 1, 32: 1}},
		"not settled": {ID: id, Rows: 3, Rejected: 1, Codes: map[ingest.Code]int{1: 1, 32: 1}},
		"rejected":    {ID: id, Rows: 3, Rejected: 2, Codes: map[ingest.Code]int{1: 1, 32: 2}},
	} {
		r := fresh()
		r.account([]drop{d}, map[string]*ingest.File{f.ID: f})

		if r.right() || !strings.Contains(strings.Join(r.lines(false), "\n"), "WRONG") {
			t.Errorf("%s: found to be right", name)
		}
	}

	r = fresh()
	r.left = 1
	r.account([]drop{d}, map[string]*ingest.File{id: good})

	if r.right() {
		t.Error("a file that was left: found to be right")
	}
}

func TestReportSplitsTimesByOutage(t *testing.T) {
	r := &report{calls: calls{first: noon, last: noon.Add(4 * time.Second)}}
	at := func(s float64) time.Time { return noon.Add(time.Duration(s * float64(time.Second))) }
	r.time(at(-2), at(-1)) // before
	r.time(at(-1), at(5))  // across its beginning
	r.time(at(1), at(4.5)) // within
	r.time(at(4.1), at(5)) // after

	if len(r.quick) != 2 || len(r.slow) != 2 {
		t.Errorf("quick %v, slow %v", r.quick, r.slow)
	}
}

func TestReportFits(t *testing.T) {
	r := &report{took: time.Minute, dropped: 5000, processed: 4999, setAside: 1, users: 19_999, on: 10_000,
		outcomes: map[string]int{"superseded": 1e6, "applied": 1e5},
		rejected: map[string]int{"columns": 1000, "employee_missing": 900, "contradiction": 800, "future": 700, "transaction_type": 600, "line_too_long": 500},
		calls:    calls{token: 1, search: 20, update: 5000, failed: 40, sent: 1e6, applied: 1e6},
		quick:    []time.Duration{time.Second}, slow: []time.Duration{time.Minute}}
	for _, wrong := range []int{0, 20} {
		for range wrong {
			r.wrong = append(r.wrong, "amelia.hughes@example.org: AtHoc has 17/06/2024 11:00:00, the files say 17/06/2024 11:00:01")
		}

		lines := r.lines(false)
		for _, line := range lines {
			if utf8.RuneCountInString(line) > usualWidth {
				t.Errorf("too wide: %q", line)
			}
		}

		if len(lines) > 45 {
			t.Errorf("%d lines", len(lines))
		}
	}
}

func TestLastLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if got := lastLines(path, 2); got != "" {
		t.Errorf("no file: %q", got)
	}

	if err := os.WriteFile(path, []byte("a\nb\nc\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	if got := lastLines(path, 2); got != "b\nc\n" {
		t.Errorf("got %q", got)
	}
}
