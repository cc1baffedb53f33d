// Package lease lends something to one process at a time: a key in a bucket whose entries end after a time to live. Who
// created the key holds the lease, until the key is deleted or has ended.
//
// A lease does not stop a process that was frozen between looking at the lease and acting on it, nor a server that goes on
// working on a request which was given up. So whoever holds one looks at it last thing before acting, and does nothing
// that may last longer than the lease.
package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrHeld means that somebody else holds the lease.
var ErrHeld = errors.New("the lease is held by another")

// ErrLost means that the lease has ended, and another may hold it by now.
var ErrLost = errors.New("the lease is lost")

// margin is kept free at the end of a lease, for what the clocks of two machines may drift apart while it lasts.
const margin = time.Second

// Keeper takes leases from one bucket.
type Keeper struct {
	kv    jetstream.KeyValue
	ttl   time.Duration
	owner string
}

// NewKeeper returns a keeper for the bucket. Owner is what others see of who holds a lease.
func NewKeeper(ctx context.Context, kv jetstream.KeyValue, owner string) (*Keeper, error) {
	status, err := kv.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the settings of bucket %s: %w", kv.Bucket(), err)
	}
	if status.TTL() <= margin {
		return nil, fmt.Errorf("bucket %s keeps leases for %s, which is too short", kv.Bucket(), status.TTL())
	}
	return &Keeper{kv: kv, ttl: status.TTL(), owner: owner}, nil
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
	asked := time.Now() // its life counts from before it was asked for, so it never ends later than the broker thinks
	revision, err := k.kv.Create(ctx, key, []byte(k.owner))
	if errors.Is(err, jetstream.ErrKeyExists) {
		return nil, ErrHeld
	}
	if err != nil {
		return nil, fmt.Errorf("take lease %s: %w", key, err)
	}
	return &Lease{keeper: k, key: key, revision: revision, until: k.end(asked)}, nil
}

func (k *Keeper) end(asked time.Time) time.Time { return asked.Add(k.ttl - margin) }

// Key returns what is lent.
func (l *Lease) Key() string { return l.key }

// Until is the moment from which the lease must not be relied on.
func (l *Lease) Until() time.Time { return l.until }

// Renew lets the lease last for another time to live, or returns ErrLost.
func (l *Lease) Renew(ctx context.Context) error {
	asked := time.Now()
	revision, err := l.keeper.kv.Update(ctx, l.key, []byte(l.keeper.owner), l.revision)
	if wrongRevision(err) {
		return fmt.Errorf("renew lease %s: %w", l.key, ErrLost)
	}
	if err != nil {
		return fmt.Errorf("renew lease %s: %w", l.key, err)
	}
	l.revision, l.until = revision, l.keeper.end(asked)
	return nil
}

// Release gives the lease back. If it was lost before, whoever holds it now keeps it.
func (l *Lease) Release(ctx context.Context) error {
	err := l.keeper.kv.Delete(ctx, l.key, jetstream.LastRevision(l.revision))
	if err != nil && !wrongRevision(err) {
		return fmt.Errorf("release lease %s: %w", l.key, err)
	}
	return nil
}

func wrongRevision(err error) bool {
	var api *jetstream.APIError
	if errors.Is(err, jetstream.ErrKeyExists) {
		return true
	}
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) // of replicated streams
}
