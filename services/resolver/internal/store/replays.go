package store

// This file keeps the records of replays.

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"bobosync/shared/control"
)

// maxReplays is how many replays are kept.
const maxReplays = 100

func putReplay(b *bbolt.Bucket, r control.ReplayState) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write a replay: %w", err)
	}

	known := b.Stats().KeyN // this does not count what the present transaction puts
	if b.Get([]byte(r.ID)) == nil {
		known++
	}

	if err := b.Put([]byte(r.ID), data); err != nil {
		return fmt.Errorf("write a replay: %w", err)
	}

	// Ids begin with the time, so the first is the oldest.
	for first, _ := b.Cursor().First(); first != nil && known > maxReplays; first, _ = b.Cursor().First() {
		known--

		if err := b.Delete(first); err != nil {
			return fmt.Errorf("forget a replay: %w", err)
		}
	}

	return nil
}

// Replays returns the replays that are kept, newest first.
func (s *Store) Replays() ([]control.ReplayState, error) {
	var all []control.ReplayState
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(replaysBucket).ForEach(func(_, data []byte) error {
			var r control.ReplayState
			if err := json.Unmarshal(data, &r); err != nil {
				return fmt.Errorf("read a replay: %w", err)
			}

			all = append(all, r)

			return nil
		})
	})

	slices.Reverse(all)

	return all, err
}
