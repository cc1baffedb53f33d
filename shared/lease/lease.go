// Package lease lends something to one process at a time. A lease is a key in a bucket whose entries expire after a
// time to live. The process that created the key holds the lease until the key is deleted or has expired.
//
// A lease does not stop a process that was frozen between checking the lease and acting on it, nor a server that goes
// on working on a request that was given up. So a holder checks its lease at the last moment before acting, and does
// nothing that may last longer than the lease.
package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/cas"
)

// ErrHeld means that somebody else holds the lease.
var ErrHeld = errors.New("the lease is held by another")

// ErrLost means that the lease has ended, and another may hold it by now.
var ErrLost = errors.New("the lease is lost")

// ErrUnsettled means that leases cannot be relied on for now; see [Keeper.Settled].
var ErrUnsettled = errors.New("leases cannot be relied on yet")

// margin is kept free at the end of a lease, because the clocks of two machines may drift apart while it lasts.
const margin = time.Second

// Keeper takes leases from one bucket. Settled must not run at the same time as its other methods.
type Keeper struct {
	kv    jetstream.KeyValue
	ttl   time.Duration
	owner string
}

// BucketHistory is what a process remembers of a bucket, from one Keeper to the next. It is not safe for concurrent
// use.
type BucketHistory struct {
	// Since, if set, is when something as old as the bucket was made, by the broker's clock. If the bucket is younger
	// than that by more than a lease's time to live when the process first sees it, it is not the original one.
	Since time.Time

	// made is when the broker made the bucket that was last seen.
	made time.Time
	// ttl is how long that bucket kept leases.
	ttl time.Duration
	// hold is the moment until which leases from an earlier bucket may be held.
	hold time.Time
}

// NewKeeper returns a keeper for the bucket. Owner is what other processes see as the holder of its leases.
func NewKeeper(ctx context.Context, kv jetstream.KeyValue, owner string) (*Keeper, error) {
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the settings of bucket %s: %w", kv.Bucket(), err)
	}

	if err := longEnough(kv, status.TTL()); err != nil {
		return nil, err
	}

	return &Keeper{kv: kv, ttl: status.TTL(), owner: owner}, nil
}

func longEnough(kv jetstream.KeyValue, ttl time.Duration) error {
	if ttl <= margin {
		return fmt.Errorf("bucket %s keeps leases for %s, which is too short", kv.Bucket(), ttl)
	}
	return nil
}

// Settled asks the broker whether the leases taken so far keep all others away, and returns an error that wraps
// ErrUnsettled if they may not. A bucket that was lost and recreated has forgotten all holders, so nothing in it can be
// relied on before the leases of the previous bucket have ended. The same is true of a lease that was taken when the
// bucket kept leases for a different time. An error that wraps [jetstream.ErrStreamNotFound] means that the bucket is
// gone.
//
// To notice that a bucket was lost, a process must have seen it: it should call Settled once when it starts. Limit: if
// bucket and stream were both lost before this process started, it cannot know.
func (k *Keeper) Settled(ctx context.Context, m *BucketHistory) error {
	status, err := k.kv.Status(ctx)
	if err != nil {
		return fmt.Errorf("look at bucket %s: %w", k.kv.Bucket(), err)
	}

	bucket, ok := status.(*jetstream.KeyValueBucketStatus)
	if !ok {
		return fmt.Errorf("look at bucket %s: unknown kind of status %T", k.kv.Bucket(), status)
	}

	if err := longEnough(k.kv, status.TTL()); err != nil {
		return err
	}

	m.see(bucket.StreamInfo())

	before := k.ttl
	k.ttl = status.TTL()
	switch {
	case time.Now().Before(m.hold):
		return fmt.Errorf("bucket %s was lost and recreated: %w", k.kv.Bucket(), ErrUnsettled)
	case before != k.ttl:
		return fmt.Errorf("bucket %s keeps leases for %s now, not for %s: %w", k.kv.Bucket(), k.ttl, before, ErrUnsettled)
	}

	return nil
}

// see records a bucket, and how long not to rely on it if it is not the one that was last seen.
func (m *BucketHistory) see(info *jetstream.StreamInfo) {
	ttl := max(m.ttl, info.Config.MaxAge)
	anew := !info.Created.Equal(m.made)
	if m.made.IsZero() {
		anew = !m.Since.IsZero() && info.Created.Sub(m.Since) > ttl
	}

	if anew {
		age := max(info.TimeStamp.Sub(info.Created), 0)
		m.hold = time.Now().Add(ttl - age)
	}

	m.made, m.ttl = info.Created, info.Config.MaxAge
}

// Lease is held by this process until Until, or until it is released. It is not safe for concurrent use.
type Lease struct {
	keeper   *Keeper
	key      string
	revision uint64
	until    time.Time
}

// Take takes the lease of key, or returns ErrHeld.
func (k *Keeper) Take(ctx context.Context, key string) (*Lease, error) {
	asked := time.Now() // counted from before the request, so that it never ends later here than at the broker

	revision, err := cas.Store(ctx, k.kv, key, []byte(k.owner), 0)
	if errors.Is(err, cas.ErrConflict) {
		return nil, ErrHeld
	}

	if err != nil {
		return nil, fmt.Errorf("take lease %s: %w", key, err)
	}

	return &Lease{keeper: k, key: key, revision: revision, until: k.end(asked)}, nil
}

func (k *Keeper) end(asked time.Time) time.Time { return asked.Add(k.ttl - margin) }

// Key returns the key of the lease, which names what is lent.
func (l *Lease) Key() string { return l.key }

// Until returns the moment from which the lease must not be relied on.
func (l *Lease) Until() time.Time { return l.until }

// Renew extends the lease by another time to live. Its error wraps ErrLost if the lease has ended.
func (l *Lease) Renew(ctx context.Context) error {
	if l.ended() {
		return fmt.Errorf("renew lease %s: %w", l.key, ErrLost)
	}

	asked := time.Now()

	revision, err := cas.Store(ctx, l.keeper.kv, l.key, []byte(l.keeper.owner), l.revision)
	if errors.Is(err, cas.ErrConflict) {
		return fmt.Errorf("renew lease %s: %w", l.key, ErrLost)
	}

	if err != nil {
		return fmt.Errorf("renew lease %s: %w", l.key, err)
	}

	l.revision, l.until = revision, l.keeper.end(asked)

	return nil
}

// Release gives the lease back. If it was lost already, its present holder keeps it.
func (l *Lease) Release(ctx context.Context) error {
	if l.ended() {
		return nil
	}

	err := cas.Conflicting(l.keeper.kv.Delete(ctx, l.key, jetstream.LastRevision(l.revision)))
	if err != nil && !errors.Is(err, cas.ErrConflict) {
		return fmt.Errorf("release lease %s: %w", l.key, err)
	}

	return nil
}

// ended reports whether the broker may have dropped the lease. From then on its revision may be another lease's: a
// recreated bucket counts from 1 again.
func (l *Lease) ended() bool { return !time.Now().Before(l.until.Add(margin)) }
