package store

// This file replaces a mapping.

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"bobosync/shared/boltdb"
)

// ReplaceMapping replaces the whole mapping, or nothing of it if it fails. The new mapping is staged in parts, in
// sorted order, and a last small transaction puts it in force. What was staged when ctx ended, or at a crash, is
// dropped the next time.
func (s *Store) ReplaceMapping(ctx context.Context, snapshot string, users map[string]string) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if err := tx.DeleteBucket(stagingBucket); err != nil {
			return fmt.Errorf("drop what was staged: %w", err)
		}

		staging, err := tx.CreateBucket(stagingBucket)
		if err != nil {
			return err
		}

		_, err = staging.CreateBucket(mappingBucket)

		return err
	})
	for part := range slices.Chunk(slices.Sorted(maps.Keys(users)), usersPart) {
		if err == nil {
			err = ctx.Err()
		}

		if err != nil {
			break
		}

		err = s.db.Update(func(tx *bbolt.Tx) error { return stage(tx, part, users) })
	}

	if err == nil {
		err = s.db.Update(func(tx *bbolt.Tx) error { return enforce(tx, snapshot) })
	}

	if err != nil {
		return fmt.Errorf("store a mapping in %s: %w", s.db.Path(), err)
	}

	return nil
}

func stage(tx *bbolt.Tx, employees []string, users map[string]string) error {
	b := tx.Bucket(stagingBucket).Bucket(mappingBucket)
	b.FillPercent = 0.95 // the keys arrive in order
	for _, employee := range employees {
		if err := b.Put([]byte(employee), []byte(users[employee])); err != nil {
			return fmt.Errorf("write a user: %w", err)
		}
	}

	return nil
}

func enforce(tx *bbolt.Tx, snapshot string) error {
	if err := tx.DeleteBucket(mappingBucket); err != nil {
		return fmt.Errorf("drop the mapping before: %w", err)
	}

	if err := tx.MoveBucket(mappingBucket, tx.Bucket(stagingBucket), nil); err != nil {
		return fmt.Errorf("put the mapping in force: %w", err)
	}

	return boltdb.PutMeta(tx, mappingKey, snapshot)
}
