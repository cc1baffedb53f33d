package ingest

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"bobosync/services/ingest/internal/feeds"
	"bobosync/services/ingest/internal/files"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// TestFeedIsRemembered: what came is counted once for each content, and is known after a restart and after the ledger is lost; so is
// that the feed is muted.
func TestFeedIsRemembered(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	h.tune.check = 20 * time.Millisecond
	h.provision()
	kv, err := h.conn.JS.KeyValue(t.Context(), topology.BucketState)
	if err != nil {
		t.Fatal(err)
	}
	// Eight weeks of an hourly file with 10 rows, of which the ledger knows nothing any more.
	past, now := feeds.New(time.UTC), time.Now()
	for at := now.AddDate(0, 0, -56); at.Before(now.Add(-time.Hour)); at = at.Add(time.Hour) {
		past.Add(at, 10)
	}
	remembered := &feed{history: past}
	if err := put(t.Context(), kv, files.DefaultFeed, remembered.stored()); err != nil {
		t.Fatal(err)
	}
	h.start()
	if f := h.feedState(); !f.Learnt || f.Silent || f.Usual.Hours != 6 || f.Usual.Least != 10 || f.Usual.Most != 10 {
		t.Errorf("at first %+v", f)
	}

	three := rows("a", 3)
	h.moved(map[string]string{"a.csv": three + "bad\n"})
	h.moved(map[string]string{"b.csv": three + row("b")})
	h.put("copy.csv", three+"bad\n")
	eventually(t, "the copy is moved", func() bool { return !there(h.in("copy.csv")) })
	counted := func(f control.FeedState) bool { // unless a new hour has just begun
		return f.Files == 2 && f.Rows == 7 || time.Now().Hour() != now.Hour()
	}
	before := h.feedState()
	if !counted(before) || before.LastFile.Before(now) {
		t.Errorf("two new files of 7 good rows, and a copy: %+v", before)
	}

	mute := func(seconds int64, name, reason string) error {
		_, err := control.Ask[control.FeedState](t.Context(), h.conn.NC, topology.Ingest, control.MuteFeed,
			control.FeedMuteRequest{Name: name, Seconds: seconds, By: "me", Reason: reason})
		return err
	}
	refusal := new(control.Refusal)
	for _, err := range []error{mute(60, "south", "why"), mute(60, "default", ""), mute(32*24*3600, "default", "why"), mute(-1, "default", "why")} {
		if !errors.As(err, &refusal) {
			t.Errorf("not refused: %v", err)
		}
	}
	if err := mute(3600, "default", "upgrade"); err != nil {
		t.Fatal(err)
	}
	h.end()
	if err := os.Remove(h.cfg.LedgerPath()); err != nil {
		t.Fatal(err)
	}
	h.start()
	after := h.feedState()
	if !counted(after) || !after.Learnt || !after.LastFile.Equal(before.LastFile) || after.Mute == nil || after.Mute.Reason != "upgrade" {
		t.Errorf("after the ledger was lost %+v, was %+v", after, before)
	}
	if err := mute(0, "default", ""); err != nil {
		t.Fatal(err)
	}
	if f := h.feedState(); f.Mute != nil {
		t.Errorf("still muted: %+v", f.Mute)
	}

	// With the ledger, and without what was remembered.
	h.end()
	if err := kv.Delete(t.Context(), topology.FeedKey(files.DefaultFeed)); err != nil {
		t.Fatal(err)
	}
	h.start()
	if f := h.feedState(); f.Files != 2 && counted(f) || f.Mute != nil {
		t.Errorf("from the ledger alone %+v", f)
	}
	eventually(t, "it is stored again", func() bool {
		entry, err := kv.Get(t.Context(), topology.FeedKey(files.DefaultFeed))
		return err == nil && json.Valid(entry.Value())
	})
}

func (h *harness) feedState() control.FeedState {
	h.t.Helper()
	s := h.state()
	if len(s.Feeds) != 1 || s.Feeds[0].Name != "default" {
		h.t.Fatalf("feeds %+v", s.Feeds)
	}
	return s.Feeds[0]
}
