// Package cas changes a key of a bucket by compare-and-set, so that no writer undoes another's change unseen.
package cas

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrConflict means that somebody else has written meanwhile.
var ErrConflict = errors.New("somebody else has written meanwhile")

// Load returns a key's value and revision. The revision is 0 if there is no value.
func Load(ctx context.Context, kv jetstream.KeyValue, key string) ([]byte, uint64, error) {
	entry, err := kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}

	if err != nil {
		return nil, 0, fmt.Errorf("read %s in bucket %s: %w", key, kv.Bucket(), err)
	}

	return entry.Value(), entry.Revision(), nil
}

// Store replaces the value that has the given revision, 0 if there is none, and returns the new revision. Its error
// wraps ErrConflict if the key has another revision by now.
func Store(ctx context.Context, kv jetstream.KeyValue, key string, value []byte, revision uint64) (uint64, error) {
	var err error
	if revision == 0 {
		revision, err = kv.Create(ctx, key, value)
	} else {
		revision, err = kv.Update(ctx, key, value, revision)
	}

	if err = Conflicting(err); err != nil {
		return 0, fmt.Errorf("write %s in bucket %s: %w", key, kv.Bucket(), err)
	}

	return revision, nil
}

// Update replaces a key's value with what change makes of it, and repeats this until no other writer has come in
// between. old is nil if there is no value. If change returns nil, nothing is stored.
func Update(ctx context.Context, kv jetstream.KeyValue, key string, change func(old []byte) ([]byte, error)) error {
	for {
		old, revision, err := Load(ctx, kv, key)
		if err != nil {
			return err
		}

		value, err := change(old)
		if err != nil || value == nil {
			return err
		}

		if _, err := Store(ctx, kv, key, value, revision); !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// Conflicting adds ErrConflict to the error of a write if that means that the key had another revision.
func Conflicting(err error) error {
	if IsConflict(err) {
		return errors.Join(ErrConflict, err)
	}
	return err
}

// IsConflict reports whether the broker refused a write because the last sequence of its subject was not the expected
// one.
func IsConflict(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant) // of replicated streams
}
