package store

// This file erases a worker from the store.

import (
	"bytes"
	"context"
	"fmt"

	"go.etcd.io/bbolt"

	"bobosync/shared/erase"
)

// Erase deletes a worker, also from what is kept of replays and mass changes. Then the file is rewritten, so that no free page holds
// anything of him.
func (s *Store) Erase(ctx context.Context, n erase.Names) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.Bucket(workersBucket).Delete([]byte(n.Employee)); err != nil {
			return err
		}
		for _, name := range [][]byte{replaysBucket, guardBucket} {
			if err := redact(tx.Bucket(name), n); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = s.db.Compact(ctx)
	}
	if err != nil {
		return fmt.Errorf("erase a worker from %s: %w", s.db.Path(), err)
	}
	return nil
}

// redact removes a person from a bucket of JSON values.
func redact(b *bbolt.Bucket, n erase.Names) error {
	changed := map[string][]byte{}
	err := b.ForEach(func(k, data []byte) error {
		if !n.MentionedIn(data) {
			return nil
		}
		without, err := n.Redact(bytes.Clone(data))
		changed[string(k)] = without
		return err
	})
	for k, data := range changed {
		if err == nil {
			err = b.Put([]byte(k), data)
		}
	}
	return err
}
