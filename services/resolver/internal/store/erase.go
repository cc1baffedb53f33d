package store

// This file erases a worker from the store.

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"go.etcd.io/bbolt"

	"bobosync/services/resolver/internal/guard"
	"bobosync/shared/erase"
)

// Erase deletes a worker, also from the holds; the records of replays name nobody. Then the file is rewritten, so that
// no free page contains anything about the worker.
func (s *Store) Erase(ctx context.Context, n erase.Names) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(workersBucket).Delete([]byte(n.Employee)); err != nil {
			return err
		}
		return eraseFromHolds(tx.Bucket(guardBucket), n)
	})
	if err == nil {
		err = s.db.Compact(ctx)
	}

	if err != nil {
		return fmt.Errorf("erase a worker from %s: %w", s.db.Path(), err)
	}

	return nil
}

// eraseFromHolds removes a person from the holds. They are not searched as text, since the number of a row may equal an
// employee id.
func eraseFromHolds(b *bbolt.Bucket, n erase.Names) error {
	changed := map[string]any{}

	err := b.ForEach(func(k, data []byte) error {
		if !strings.HasPrefix(string(k), holdPrefix) {
			return nil
		}

		g := &guard.Group{}
		if err := json.Unmarshal(data, g); err != nil {
			return fmt.Errorf("read a hold: %w", err)
		}

		if without := g.Without(n); without != g {
			changed[string(k)] = without
		}

		return nil
	})
	if err != nil {
		return err
	}

	return putAll(b, changed)
}
