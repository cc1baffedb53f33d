package ingest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// TestFeedsThatContradict checks that feeds that contradict each other are refused, with their names.
func TestFeedsThatContradict(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct{ csv, feeds, want string }{
		{"", "", "CSV_DIRECTORY: not set"},
		{"", "north", "FEEDS: must be like north=/srv/north"},
		{"", "north=~joe/in", "FEEDS: the directory of north begins with ~ and a user's name"},
		{"", "north=/a,south=$HOME/in", "FEEDS: the directory of south begins with a variable"},
		{"", `north="/a"`, "FEEDS: the directory of north begins with a quote"},
		{"", "north=/a,North=/b", `FEEDS: "North" is no name`},
		{"", "north=/a,default=/b", "FEEDS: no feed can be called default"},
		{"", "north=/a,north=/b", "FEEDS: north is there twice"},
		{"", "north=/a,south=/a/", "FEEDS: north and south have the same directory"},
		{"", "north=/a/b,south=/a", "FEEDS: the directory of north, /a/b, lies within that of south"},
		{"", "north=/a,south=/a/b/c", "FEEDS: the directory of south, /a/b/c, lies within that of north"},
		{"/c", "north=/a,south=/b", "CSV_DIRECTORY: /c is of none of the FEEDS"},
		{"/a", "north=/a,south=/b", ""},
		{"", " north = /a , south=/ab ", ""},
		{"/a", "", ""},
	} {
		cfg := Config{CSVDirectory: tt.csv}

		err := cfg.Feeds.EnvDecode(t.Context(), tt.feeds)
		if err == nil {
			err = cfg.validateInputs()
		} else {
			err = fmt.Errorf("FEEDS: %w", err)
		}

		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%q, %q: %v, want %q", tt.csv, tt.feeds, err, tt.want)
		}
	}

	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := os.Symlink(filepath.Join(dir, "a", "b"), filepath.Join(dir, "link")); err != nil {
		t.Skip(err)
	}

	cfg := Config{Feeds: Feeds{{Feed: "north", Dir: filepath.Join(dir, "a")}, {Feed: "south", Dir: filepath.Join(dir, "link")}}}
	if err := cfg.prepare(); err == nil || !strings.Contains(err.Error(), "lies within that of north") {
		t.Errorf("by a link: %v", err)
	}
}

// TestSeveralFeeds checks that files of the same name from two feeds are kept apart, even after the ledger was lost,
// that a directory that is gone does not hold up another feed, and that nothing waits for a feed that is not
// configured any more.
func TestSeveralFeeds(t *testing.T) {
	h := newHarness(t)
	north, south := h.cfg.CSVDirectory, h.cfg.CSVDirectory+"-south"
	if err := os.Mkdir(south, 0o755); err != nil {
		t.Fatal(err)
	}

	h.cfg.Feeds, h.cfg.CSVDirectory = Feeds{{Feed: "north", Dir: north}, {Feed: "south", Dir: south}}, ""
	r := h.resolve()
	r.setEpoch(t, "m1")

	pending := func(name string) int {
		a, err := control.Ask[control.FilesAnswer](t.Context(), h.conn.NC, topology.Ingest, control.Files, control.FilesRequest{Text: name})
		if err != nil || len(a.Files) != 1 {
			return -1
		}

		return a.Files[0].Pending
	}
	settle := func(text string) {
		acks := &event.Acks{}
		for row := range strings.Count(text, "\n") {
			acks.Answers = append(acks.Answers, event.Answer{File: idFor(text), Version: event.Version{Row: row + 1}, Outcome: event.Applied})
		}

		r.publish(t.Context(), acks)
	}
	first, second, third := rows("n", 3), rows("s", 2), row("b")
	write(t, filepath.Join(north, "a.csv"), first)
	h.start()
	eventually(t, "north's file is moved", func() bool { return len(names(t, north)) == 0 && there(h.done("a.csv")) })
	r.mute(true)
	write(t, filepath.Join(south, "a.csv"), second)
	eventually(t, "south's file waits", func() bool { return pending("south/a.csv") == 2 })

	if f := h.record("south/a.csv"); f.Feed != "south" || !slices.Equal(f.Paths, []string{filepath.Join(south, "a.csv")}) {
		t.Errorf("%+v", f)
	}

	eventually(t, "the feeds' rows are counted", func() bool {
		f := h.state().Feeds
		return len(f) == 2 && f[0].Name == "north" && f[0].Rows == 3 && f[1].Name == "south" && f[1].Rows == 2
	})

	if north, south := r.feedOf(idFor(first)), r.feedOf(idFor(second)); north != "north" || south != "south" {
		t.Errorf("feeds of the entries: %q, %q", north, south)
	}

	h.end()

	if err := os.Remove(h.cfg.LedgerPath()); err != nil {
		t.Fatal(err)
	}

	h.start()
	eventually(t, "south's file waits again", func() bool { return pending("south/a.csv") == 2 })

	if err := os.Remove(north); err != nil {
		t.Fatal(err)
	}

	write(t, filepath.Join(south, "b.csv"), third)
	eventually(t, "south goes on without north", func() bool { return pending("south/b.csv") == 1 })

	h.tune.check = 20 * time.Millisecond

	settle(second)
	eventually(t, "south's file is moved beside north's", func() bool { return slices.Equal(names(t, south), []string{"b.csv"}) })

	if got := names(t, h.cfg.ProcessedDirectory); len(got) != 2 || got[1] != "a.csv" {
		t.Errorf("processed %v", got)
	}

	eventually(t, "that north is gone is told", func() bool { return h.state().Directories[control.InputDirectory("north")] != "" })

	h.end()
	h.cfg.Feeds = Feeds{{Feed: "east", Dir: south}}
	h.start()
	eventually(t, "the file is known as the other feed's", func() bool { return pending("east/b.csv") == 1 })
	settle(third)
	eventually(t, "it is moved", func() bool { return len(names(t, south)) == 0 })

	for name, f := range h.files() {
		if f.Status != ledger.Moved {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
