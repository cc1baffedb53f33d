package ingest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/ingest/internal/feeds"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// TestFeedIsRemembered checks that each content is counted once, and that the counts are known after a restart and
// after the ledger was lost. The same holds for a mute of the feed.
func TestFeedIsRemembered(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	h.tune.check = 20 * time.Millisecond
	h.provision()

	kv, err := h.conn.JS.KeyValue(t.Context(), topology.BucketState)
	if err != nil {
		t.Fatal(err)
	}

	// Eight weeks with an hourly file of 10 rows, of which the ledger knows nothing any more.
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

	// With the ledger, but without what was saved in the bucket.
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

// slowBucket is a bucket whose first Put takes effect only after release is closed; later ones take effect at once.
type slowBucket struct {
	jetstream.KeyValue
	began, release chan struct{}
	mu             sync.Mutex
	puts           int
	holds          storedFeed
}

func (b *slowBucket) Put(_ context.Context, _ string, value []byte) (uint64, error) {
	b.mu.Lock()
	b.puts++
	first := b.puts == 1
	b.mu.Unlock()

	if first {
		close(b.began)
		<-b.release
	}

	b.mu.Lock()
	defer b.mu.Unlock()

	b.holds = storedFeed{}

	return 0, json.Unmarshal(value, &b.holds)
}

// TestAMuteOutlivesTheHourlySaving checks that a save that began before a mute was set does not overwrite it.
// Meanwhile, files are counted without waiting for the broker.
func TestAMuteOutlivesTheHourlySaving(t *testing.T) {
	t.Parallel()

	bucket := &slowBucket{began: make(chan struct{}), release: make(chan struct{})}
	f := &feed{Input: files.Input{Feed: files.DefaultFeed}, now: time.Now, history: feeds.New(time.UTC), bucket: bucket}
	var both sync.WaitGroup
	both.Go(func() {
		if err := f.save(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-bucket.began
	both.Go(func() {
		if _, err := f.setMute(t.Context(), control.FeedMuteRequest{Seconds: 3600, By: "me", Reason: "upgrade"}); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the mute comes as far as it can", func() bool {
		stacks := make([]byte, 1<<20)
		return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("ingest.(*feed).setMute("))
	})

	counted := make(chan struct{})
	go func() {
		f.count(ledger.Read{Name: "a.csv", Arrived: time.Now(), Rows: 1})
		close(counted)
	}()

	select {
	case <-counted:
	case <-time.After(5 * time.Second):
		t.Error("a file that was read waits for the broker")
	}

	close(bucket.release)
	both.Wait()

	if bucket.holds.Mute == nil || f.mute == nil {
		t.Errorf("the bucket holds the mute %v, ingest %v", bucket.holds.Mute, f.mute)
	}
}

// TestAClockThatWasAheadHidesNoSilence checks that a file that was recorded while the clock was a year ahead does not
// keep the feed from being silent, whether ingest goes on running or the file is known from the bucket.
func TestAClockThatWasAheadHidesNoSilence(t *testing.T) {
	t.Parallel()

	now := time.Date(2026, 6, 17, 12, 30, 0, 0, time.UTC)
	f := &feed{Input: files.Input{Feed: files.DefaultFeed}, now: func() time.Time { return now }, history: feeds.New(time.UTC)}
	bring := func() { f.count(ledger.Read{Name: "a.csv", Arrived: now, Rows: 10}) }

	for began := now.AddDate(0, 0, -56); began.Before(now); began = began.Add(time.Hour) {
		at := began
		f.now = func() time.Time { return at }
		f.count(ledger.Read{Name: "a.csv", Arrived: at, Rows: 10})
	}

	f.now = func() time.Time { return now }
	now = now.AddDate(1, 0, 0)

	bring()

	stored, _ := json.Marshal(f.stored())
	now = now.AddDate(-1, 0, 0)

	bring()

	now = now.Add(6 * time.Hour)
	if s := f.state(now, false); !s.Silent {
		t.Errorf("nothing has come for six hours: %+v", s)
	}

	bucket := &remembering{value: stored}
	again := &feed{Input: f.Input, now: f.now, history: feeds.New(time.UTC)}
	if err := again.open(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}

	again.count(ledger.Read{Name: "a.csv", Arrived: now, Rows: 10})

	now = now.Add(6 * time.Hour)
	if s := again.state(now, false); !s.Silent {
		t.Errorf("nothing has come for six hours after a restart: %+v", s)
	}
}

// remembering is a bucket that holds one value.
type remembering struct {
	jetstream.KeyValue
	value []byte
}

func (b *remembering) Get(context.Context, string) (jetstream.KeyValueEntry, error) {
	return remembered{value: b.value}, nil
}

type remembered struct {
	jetstream.KeyValueEntry
	value []byte
}

func (r remembered) Value() []byte    { return r.value }
func (r remembered) Revision() uint64 { return 1 }
