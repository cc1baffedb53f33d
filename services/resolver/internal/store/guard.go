package store

// This file keeps the guard's state: the history of changes, and the holds.

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"bobosync/services/resolver/internal/guard"
)

const (
	historyKey = "history"
	hourPrefix = "hour/"
	holdPrefix = "group/"
)

// GuardChange holds the changed parts of the guard's state.
type GuardChange struct {
	Since  time.Time
	Recent []guard.Recent
	// Hours are the changed hours; hours earlier than Before are deleted.
	Hours  map[string]guard.Hour
	Before string
	// Groups are the changed holds.
	Groups []*guard.Group
}

func (c *GuardChange) put(b *bbolt.Bucket) error {
	values := map[string]any{historyKey: guard.History{Since: c.Since, Recent: c.Recent}}
	for key, hour := range c.Hours {
		values[hourPrefix+key] = hour
	}

	for _, g := range c.Groups {
		values[holdPrefix+g.ID] = g
	}

	if err := putAll(b, values); err != nil {
		return err
	}

	first := func() []byte {
		k, _ := b.Cursor().Seek([]byte(hourPrefix))
		return k
	}
	for k := first(); strings.HasPrefix(string(k), hourPrefix) && string(k) < hourPrefix+c.Before; k = first() {
		if err := b.Delete(k); err != nil {
			return fmt.Errorf("forget an hour: %w", err)
		}
	}

	return nil
}

func putAll(b *bbolt.Bucket, values map[string]any) error {
	for key, v := range values {
		data, err := json.Marshal(v)
		if err == nil {
			err = b.Put([]byte(key), data)
		}

		if err != nil {
			return fmt.Errorf("write the guard's state: %w", err)
		}
	}

	return nil
}

// ForgetHold deletes a decided hold.
func (s *Store) ForgetHold(id string) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(guardBucket).Delete([]byte(holdPrefix + id)) })
}

// Guard returns the guard's state. known is false if none was ever saved.
func (s *Store) Guard() (h guard.History, groups []*guard.Group, known bool, err error) {
	h.Hours = map[string]guard.Hour{}

	err = s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(guardBucket).ForEach(func(k, data []byte) error {
			known = true

			key := string(k)
			if hour, is := strings.CutPrefix(key, hourPrefix); is {
				var x guard.Hour
				err := json.Unmarshal(data, &x)
				h.Hours[hour] = x
				return err
			}

			if strings.HasPrefix(key, holdPrefix) {
				g := &guard.Group{}
				groups = append(groups, g)
				return json.Unmarshal(data, g)
			}

			return json.Unmarshal(data, &h)
		})
	})
	if err != nil {
		err = fmt.Errorf("read the guard's state: %w", err)
	}

	return h, groups, known, err
}
