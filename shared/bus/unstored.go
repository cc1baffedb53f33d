package bus

// This file tracks failed writes: a stream frozen by a full disk can still be read.

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// unanswered is how long the broker may take to confirm a message before that is reported.
	unanswered = 5 * time.Second
	// unstoredFor is how long a failed write is reported if nobody has retried it: a caller that has something to store
	// retries.
	unstoredFor = 5 * time.Minute
)

// Unstored says since when the broker has stored nothing of a family of subjects, and what it said last.
type Unstored struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
}

// unstored keeps this for each family of subjects, and for each bucket. The zero value is ready to use.
type unstored struct {
	mu    sync.Mutex
	all   map[string]failing
	under map[*attempt]bool // attempts that wait for the broker's answer
	// restored is when the broker last stored again what it had not stored before, or could be reached again.
	restored time.Time
	// server is the id of the server that is connected.
	server string
}

type failing struct {
	Unstored
	last time.Time
}

// attempt is a write that is under way.
type attempt struct {
	what     string
	progress time.Time // when it began, or the broker last confirmed a part of it
}

// begin records that a write to what, a family of subjects or a bucket, is under way; the caller calls note when it has
// ended.
func (u *unstored) begin(what string) *attempt {
	a := &attempt{what: what, progress: time.Now()}

	u.mu.Lock()
	defer u.mu.Unlock()

	if u.under == nil {
		u.under = map[*attempt]bool{}
	}

	u.under[a] = true

	return a
}

// goesOn records that the broker has confirmed a part of the write.
func (u *unstored) goesOn(a *attempt) {
	u.mu.Lock()
	defer u.mu.Unlock()

	a.progress = time.Now()
}

// note records a result. Rejections of the message itself, and missing or full streams, do not count: they are reported
// elsewhere.
func (u *unstored) note(a *attempt, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()

	delete(u.under, a)

	switch {
	case err == nil, errors.Is(err, ErrWrongSequence), errors.Is(err, ErrNoAtomicPublish), errors.Is(err, ErrNoStream), isFullStream(err),
		hasCode(err, jetstreamext.JSErrCodeBatchPublishDuplicateMsgID), errors.Is(err, jetstream.ErrKeyExists), errors.Is(err, jetstream.ErrInvalidKey), errors.Is(err, nats.ErrMaxPayload):
		if _, failed := u.all[a.what]; failed || time.Since(a.progress) >= unanswered {
			u.restored = time.Now().UTC()
		}

		delete(u.all, a.what)
	case errors.Is(err, context.Canceled), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected):
	default:
		if u.all == nil {
			u.all = map[string]failing{}
		}

		now := u.all[a.what]
		if now.Since.IsZero() {
			now.Since = time.Now().UTC()
		}

		now.Reason, now.last = err.Error(), time.Now()
		u.all[a.what] = now
	}
}

// list returns what the broker is failing to store, or has not confirmed for too long.
func (u *unstored) list(now time.Time) map[string]Unstored {
	u.mu.Lock()
	defer u.mu.Unlock()

	out := map[string]Unstored{}
	for what, f := range u.all {
		if now.Sub(f.last) < unstoredFor {
			out[what] = f.Unstored
		}
	}

	for a := range u.under {
		if _, known := out[a.what]; !known && now.Sub(a.progress) >= unanswered {
			out[a.what] = Unstored{Since: a.progress.UTC(), Reason: "the broker has not confirmed it yet"}
		}
	}

	return out
}

// Unstored returns the families of subjects, and the buckets, to which the broker has stored nothing since storing
// first failed. It is empty while there is no connection.
func (c *Conn) Unstored() map[string]Unstored {
	if !c.Connected() {
		return nil
	}
	return c.unstored.list(time.Now())
}

// reconnected records that the broker can be reached again. A different server gets a clean slate: a write that still
// fails shows on the next attempt, and an old failure of something that is seldom written would be reported for long.
func (u *unstored) reconnected(server string) {
	u.mu.Lock()
	defer u.mu.Unlock()

	u.restored = time.Now().UTC()
	if server != u.server {
		clear(u.all)
	}

	u.server = server
}

// Restored returns when the broker could last be reached again, or last stored again what it had failed to store. What
// was published before then may still be on its way. It is zero if there never was such trouble.
func (c *Conn) Restored() time.Time {
	c.unstored.mu.Lock()
	defer c.unstored.mu.Unlock()
	return c.unstored.restored
}

// watched is a JetStream that records failed writes.
type watched struct {
	jetstream.JetStream
	unstored *unstored
}

func (w watched) Publish(ctx context.Context, subject string, data []byte, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	a := w.unstored.begin(family(subject))
	ack, err := w.JetStream.Publish(ctx, subject, data, opts...)
	w.unstored.note(a, classify(err))
	return ack, err
}

func (w watched) PublishMsg(ctx context.Context, m *nats.Msg, opts ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	a := w.unstored.begin(family(m.Subject))
	ack, err := w.JetStream.PublishMsg(ctx, m, opts...)
	w.unstored.note(a, classify(err))
	return ack, err
}

func (w watched) KeyValue(ctx context.Context, bucket string) (jetstream.KeyValue, error) {
	kv, err := w.JetStream.KeyValue(ctx, bucket)
	if err != nil {
		return nil, err
	}

	return watchedBucket{kv, w.unstored}, nil
}

// watchedBucket records failed writes to a bucket.
type watchedBucket struct {
	jetstream.KeyValue
	unstored *unstored
}

func (b watchedBucket) watch(write func() (uint64, error)) (uint64, error) {
	a := b.unstored.begin("bucket " + b.Bucket())
	revision, err := write()
	b.unstored.note(a, classify(err))
	return revision, err
}

func (b watchedBucket) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return b.watch(func() (uint64, error) { return b.KeyValue.Put(ctx, key, value) })
}

func (b watchedBucket) Create(ctx context.Context, key string, value []byte, opts ...jetstream.KVCreateOpt) (uint64, error) {
	return b.watch(func() (uint64, error) { return b.KeyValue.Create(ctx, key, value, opts...) })
}

func (b watchedBucket) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return b.watch(func() (uint64, error) { return b.KeyValue.Update(ctx, key, value, revision) })
}

func (b watchedBucket) Delete(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	_, err := b.watch(func() (uint64, error) { return 0, b.KeyValue.Delete(ctx, key, opts...) })
	return err
}

func (b watchedBucket) Purge(ctx context.Context, key string, opts ...jetstream.KVDeleteOpt) error {
	_, err := b.watch(func() (uint64, error) { return 0, b.KeyValue.Purge(ctx, key, opts...) })
	return err
}
