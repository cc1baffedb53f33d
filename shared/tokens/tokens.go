// Package tokens keeps AtHoc's access token where all replicas find it. AtHoc has one token for each organisation: a
// new one revokes the previous one, so processes that each got their own would revoke one another's without end.
//
// The token lies in the state bucket, encrypted (AES-256-GCM) under a key derived from the client secret and the
// password, so that somebody who can read the broker's store, but does not know the credentials, cannot use it. A value
// that cannot be decrypted, for instance after a change of the password, counts as none.
package tokens

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/athoc"
	"bobosync/shared/cas"
	"bobosync/shared/config"
	"bobosync/shared/lease"
	"bobosync/shared/pause"
	"bobosync/shared/topology"
)

const (
	// firstPollInterval and maxPollInterval bound the waits between checks while another replica gets a token.
	firstPollInterval = 25 * time.Millisecond
	maxPollInterval   = 500 * time.Millisecond
	// keepTime is how long it may take to store a token, or to release its lease, after the caller was stopped.
	keepTime = 5 * time.Second
	// maxRefused bounds how many tokens are remembered as being of no use.
	maxRefused = 16
)

// Store is an [athoc.TokenStore] that all replicas share through the broker's buckets. The buckets must exist when a
// token is asked for; they may be lost and recreated in between. It is safe for concurrent use and needs no closing.
//
// The current token is remembered, so that a call costs no round trip to the broker. A token that another replica has
// got is therefore noticed only when the remembered one nears its end or is refused; then the newer one is taken from
// the bucket, without asking AtHoc.
type Store struct {
	js   jetstream.JetStream
	seal *sealer
	log  *slog.Logger
	now  func() time.Time

	mu      sync.Mutex
	current athoc.Token
	// refused holds the fingerprints of tokens that this process has found to be of no use, the latest last. The bucket
	// can still hold one of them if the broker could not be reached to store its successor.
	refused []string
}

// New returns the store for the account that the settings name. It does not talk to the broker yet.
func New(js jetstream.JetStream, a config.AtHoc, log *slog.Logger) (*Store, error) {
	seal, err := newSealer(a)
	if err != nil {
		return nil, err
	}

	return &Store{js: js, seal: seal, log: log.With("component", "tokens"), now: time.Now}, nil
}

// key returns the key of the token in the state bucket, which is also the name of the lease under which it is replaced.
func (s *Store) key() string { return "athoc.token." + s.seal.name }

// Current implements [athoc.TokenStore]. It asks the broker only as long as this process has no token.
func (s *Store) Current(ctx context.Context) (athoc.Token, error) {
	if t := s.remembered(); t.Access != "" {
		return t, nil
	}

	kv, err := s.bucket(ctx)
	if err != nil {
		return athoc.Token{}, err
	}

	kept, err := s.read(ctx, kv)
	if err != nil || kept.token.Access == "" {
		return athoc.Token{}, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.current.Access == "" {
		s.current = kept.token
	}

	return s.current, nil
}

// Replace implements [athoc.TokenStore]. While one replica is fetching, the others poll for its result. A replica that
// dies meanwhile holds them up until its lease in the bucket of leases has ended: as long as it holds up the partitions
// that it was working on.
func (s *Store) Replace(ctx context.Context, old string, fetch func(context.Context) (athoc.Token, error)) (athoc.Token, error) {
	s.refuse(old)

	backoff := pause.Doubling(firstPollInterval, maxPollInterval)
	for {
		kv, err := s.bucket(ctx)
		if err != nil {
			return athoc.Token{}, err
		}

		t, err := s.newer(ctx, kv)
		if err != nil || t.Access != "" {
			return t, err
		}

		held, err := s.lock(ctx)
		if err == nil {
			return s.fetch(ctx, kv, held, fetch)
		}

		if !errors.Is(err, lease.ErrHeld) {
			return athoc.Token{}, fmt.Errorf("get a new access token alone: %w", err)
		}

		if err := backoff.Wait(ctx); err != nil {
			return athoc.Token{}, fmt.Errorf("wait for the access token that another replica is getting: %w", err)
		}
	}
}

// fetch gets a token and keeps it, while the lease is held.
func (s *Store) fetch(ctx context.Context, kv jetstream.KeyValue, held *lease.Lease, fetch func(context.Context) (athoc.Token, error)) (athoc.Token, error) {
	defer s.unlock(ctx, held)
	// Another replica may have finished between the last check and the taking of the lease.
	kept, err := s.read(ctx, kv)
	if err != nil {
		return athoc.Token{}, err
	}

	if s.usable(kept.token) {
		s.remember(kept.token)
		return kept.token, nil
	}

	limited, cancel := context.WithDeadline(ctx, held.Until())
	defer cancel()

	t, err := fetch(limited)
	if err != nil {
		return athoc.Token{}, err
	}

	s.remember(t)
	// From here on the predecessor is revoked: whatever happens to the caller, the others must learn of this token.
	keep, cancelKeep := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancelKeep()

	if err := s.keep(keep, kv, t, kept.revision); err != nil {
		s.log.Warn("the new access token could not be shared with the other replicas; they may have to get another",
			"token_fingerprint", t.Fingerprint(), "error", err)
	}

	return t, nil
}

// newer returns the bucket's token and remembers it, if it may be of use; otherwise it returns the zero token.
func (s *Store) newer(ctx context.Context, kv jetstream.KeyValue) (athoc.Token, error) {
	kept, err := s.read(ctx, kv)
	if err != nil || !s.usable(kept.token) {
		return athoc.Token{}, err
	}

	s.remember(kept.token)

	return kept.token, nil
}

// usable reports whether a token may still be good, as far as this process knows.
func (s *Store) usable(t athoc.Token) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	for _, f := range s.refused {
		if f == t.Fingerprint() {
			return false
		}
	}

	return t.Access != "" && s.now().Before(t.Expires)
}

// refuse records that a token is of no use any more.
func (s *Store) refuse(fingerprint string) {
	if fingerprint == "" {
		return
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.refused = append(s.refused, fingerprint); len(s.refused) > maxRefused {
		s.refused = s.refused[1:]
	}
}

func (s *Store) remember(t athoc.Token) {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.current = t
}

func (s *Store) remembered() athoc.Token {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

func (s *Store) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	kv, err := s.js.KeyValue(ctx, topology.BucketState)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", topology.BucketState, err)
	}

	return kv, nil
}

// lock takes the lease under which a token is fetched. The keeper is made each time: it is needed rarely, and the
// bucket may have been recreated by then.
func (s *Store) lock(ctx context.Context) (*lease.Lease, error) {
	kv, err := s.js.KeyValue(ctx, topology.BucketLeases)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", topology.BucketLeases, err)
	}

	keeper, err := lease.NewKeeper(ctx, kv, "access token")
	if err != nil {
		return nil, err
	}

	return keeper.Take(ctx, s.key())
}

func (s *Store) unlock(ctx context.Context, held *lease.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTime)
	defer cancel()

	if err := held.Release(ctx); err != nil {
		s.log.Debug("the lease on the access token ends by itself", "error", err)
	}
}

// kept is what the bucket holds: a token, and the revision of its entry. Each is zero if there is none.
type kept struct {
	token    athoc.Token
	revision uint64
}

func (s *Store) read(ctx context.Context, kv jetstream.KeyValue) (kept, error) {
	value, revision, err := cas.Load(ctx, kv, s.key())
	if err != nil || revision == 0 {
		return kept{}, err
	}

	t, err := s.seal.open(value)
	if err != nil {
		s.log.Debug("the shared access token is of no use and is replaced", "error", err)
	}

	return kept{token: t, revision: revision}, nil
}

// keep stores a token, replacing the entry with the given revision. If there is another entry by now, fetching took
// longer than the lease, and another replica has got a token of its own: that one stays.
func (s *Store) keep(ctx context.Context, kv jetstream.KeyValue, t athoc.Token, revision uint64) error {
	value, err := s.seal.seal(t)
	if err != nil {
		return err
	}

	if _, err = cas.Store(ctx, kv, s.key(), value, revision); err != nil {
		return fmt.Errorf("store the shared access token: %w", err)
	}

	return nil
}
