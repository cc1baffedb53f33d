package ingest

// What the feeds bring, and whether that is usual: see internal/feeds. The history of each feed is rebuilt from the
// ledger at each start. What the ledger does not know any more comes from the state bucket, where the history is
// saved once an hour.

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/ingest/internal/feeds"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/cas"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// longestMute is the longest time for which a feed may be muted.
const longestMute = 31 * 24 * time.Hour

// feed is what one feed brings. It is safe for concurrent use.
type feed struct {
	files.Input
	now func() time.Time

	// storing is held while the history is put into the bucket, so that an older state never overwrites a newer one.
	storing sync.Mutex

	mu      sync.Mutex
	history *feeds.History
	mute    *control.FeedMute
	// bucket is where the history is saved; nil before the first session.
	bucket jetstream.KeyValue
	// saved is the hour in which the history was last saved there. known is the time up to which the history that was
	// found there is complete.
	saved, known time.Time
}

// feedSet is the set of configured feeds.
type feedSet []*feed

// newFeeds rebuilds the histories of the feeds from the ledger.
func newFeeds(l *ledger.Ledger, inputs files.Inputs, zone *time.Location, now func() time.Time) (all feedSet, err error) {
	for _, in := range inputs {
		all = append(all, &feed{Input: in, now: now, history: feeds.New(zone)})
	}

	known, err := l.Files()
	if err != nil {
		return nil, fmt.Errorf("look up what the feeds have brought: %w", err)
	}

	slices.SortFunc(known, func(a, b *ledger.File) int { return a.Arrival().Compare(b.Arrival()) })

	present := now()
	for _, file := range known {
		if f := all.named(files.FeedOf(file.Name)); f != nil && file.Problem == "" && file.Status != ledger.Reading && !file.Arrival().After(present) {
			f.history.Add(file.Arrival(), file.Rows-file.Rejected)
		}
	}

	return all, nil
}

// named returns the feed of that name, nil if there is none.
func (all feedSet) named(name string) *feed {
	i := slices.IndexFunc(all, func(f *feed) bool { return f.Feed == name })
	if i < 0 {
		return nil
	}

	return all[i]
}

func (all feedSet) count(r ledger.Read) {
	if f := all.named(files.FeedOf(r.Name)); f != nil {
		f.count(r)
	}
}

func (all feedSet) open(ctx context.Context, js jetstream.JetStream) error {
	bucket, err := js.KeyValue(ctx, topology.BucketState)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketState, err)
	}

	for _, f := range all {
		if err := f.open(ctx, bucket); err != nil {
			return err
		}
	}

	return nil
}

func (all feedSet) save(ctx context.Context) error {
	var errs []error
	for _, f := range all {
		errs = append(errs, f.save(ctx))
	}

	return errors.Join(errs...)
}

// setMute answers a control.FeedMuteRequest. The mute takes effect once it is stored.
func (all feedSet) setMute(ctx context.Context, req control.FeedMuteRequest) (control.FeedState, error) {
	if f := all.named(req.Name); f != nil {
		return f.setMute(ctx, req)
	}
	return control.FeedState{}, control.Refuse("there is no feed %q: bobosync feeds list names them", req.Name)
}

// states returns how the feeds are doing. waits reports whether files of a feed lie unread, or may do so.
func (all feedSet) states(waits func(files.Input) bool) (states []control.FeedState) {
	for _, f := range all {
		f.mu.Lock()
		states = append(states, f.state(f.now(), waits(f.Input)))
		f.mu.Unlock()
	}

	return states
}

// count counts a file that was read. Files that are read again because the ledger was lost are already counted.
func (f *feed) count(r ledger.Read) {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.history.Correct(f.now())

	if r.Arrived.After(f.known) {
		f.history.Add(r.Arrived, r.Rows)
	}
}

// storedFeed is the history as it is stored in the state bucket. Hours maps the start of each hour, in Unix seconds,
// to its rows, its files and its longest gap in seconds.
type storedFeed struct {
	Since time.Time          `json:"since"`
	Last  time.Time          `json:"last"`
	Hours map[int64][3]int64 `json:"hours"`
	Mute  *control.FeedMute  `json:"mute,omitempty"`
}

// open merges what the state bucket holds into the history. Each session begins with it.
func (f *feed) open(ctx context.Context, bucket jetstream.KeyValue) error {
	data, _, err := cas.Load(ctx, bucket, topology.FeedKey(f.Feed))
	if err != nil {
		return fmt.Errorf("read what the feed has brought: %w", err)
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	f.bucket, f.saved = bucket, time.Time{}

	var stored storedFeed
	if data == nil || json.Unmarshal(data, &stored) != nil { // data that cannot be read is overwritten
		return nil
	}

	other := feeds.New(f.history.Zone)
	other.Since, other.Last = stored.Since, stored.Last
	for begin, n := range stored.Hours {
		other.Hours[begin] = feeds.Hour{Rows: int(n[0]), Files: int(n[1]), Gap: time.Duration(n[2]) * time.Second}
	}

	other.Correct(f.now())

	if other.Last.After(f.history.Last) {
		f.known = other.Last
	}

	f.history.Merge(other)
	f.mute = cmp.Or(f.mute, stored.Mute)

	return nil
}

// save saves the history in the state bucket if a new hour has begun since it was last saved.
func (f *feed) save(ctx context.Context) error {
	f.storing.Lock()
	defer f.storing.Unlock()

	f.mu.Lock()
	bucket, hour, stored := f.bucket, f.history.Begin(f.now()), f.stored()
	due := !hour.Equal(f.saved)
	f.mu.Unlock()

	if !due {
		return nil
	}

	if err := put(ctx, bucket, f.Feed, stored); err != nil {
		return err
	}

	f.mu.Lock()
	f.saved = hour
	f.mu.Unlock()

	return nil
}

func (f *feed) stored() storedFeed {
	s := storedFeed{Since: f.history.Since, Last: f.history.Last, Hours: map[int64][3]int64{}, Mute: f.mute}
	for begin, hour := range f.history.Hours {
		s.Hours[begin] = [3]int64{int64(hour.Rows), int64(hour.Files), int64(hour.Gap / time.Second)}
	}

	return s
}

func put(ctx context.Context, bucket jetstream.KeyValue, feed string, s storedFeed) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write what the feed has brought: %w", err)
	}

	if _, err := bucket.Put(ctx, topology.FeedKey(feed), data); err != nil {
		return fmt.Errorf("store what the feed has brought: %w", err)
	}

	return nil
}

func (f *feed) setMute(ctx context.Context, req control.FeedMuteRequest) (control.FeedState, error) {
	lasts := time.Duration(req.Seconds) * time.Second
	switch {
	case lasts < 0 || lasts > longestMute:
		return control.FeedState{}, control.Refuse("a feed is muted for some time, and for %d days at most", longestMute/(24*time.Hour))
	case lasts > 0 && strings.TrimSpace(req.Reason) == "":
		return control.FeedState{}, control.Refuse("say why, with --reason")
	}

	now := f.now().UTC()
	var mute *control.FeedMute
	if lasts > 0 {
		mute = &control.FeedMute{Until: now.Add(lasts), By: req.By, Reason: req.Reason}
	}

	f.storing.Lock()
	defer f.storing.Unlock()

	f.mu.Lock()
	bucket, stored := f.bucket, f.stored()
	f.mu.Unlock() // so that files can be counted while this waits for the broker

	stored.Mute = mute
	if err := put(ctx, bucket, f.Feed, stored); err != nil {
		return control.FeedState{}, err
	}

	f.mu.Lock()
	defer f.mu.Unlock()

	f.mute = mute

	return f.state(now, false), nil
}

func (f *feed) state(now time.Time, waits bool) control.FeedState {
	f.history.Correct(now)

	judged := f.history.Judge(now, waits)
	s := control.FeedState{
		Name: f.Feed, Learnt: judged.Learnt, Since: f.history.Since, Rows: judged.Now.Rows, Files: judged.Now.Files,
		Usual: usualHour(judged.Usual), Silent: judged.Silent, Thin: unusualHour(judged.Thin), Flood: unusualHour(judged.Flood),
	}
	if !f.history.Last.IsZero() {
		s.LastFile = f.history.Last.In(f.history.Zone) // so that it reads as on BOBO's clock
	}

	if f.mute != nil && f.mute.Until.After(now) {
		s.Mute = f.mute
	}

	return s
}

func usualHour(u feeds.Usual) control.UsualHour {
	return control.UsualHour{Begin: u.Begin, Hours: u.Hours, Least: u.Least, Most: u.Most, GapSeconds: int64(u.Gap / time.Second)}
}

func unusualHour(u *feeds.Unusual) *control.UnusualHour {
	if u == nil {
		return nil
	}
	return &control.UnusualHour{UsualHour: usualHour(u.Usual), Rows: u.Rows}
}
