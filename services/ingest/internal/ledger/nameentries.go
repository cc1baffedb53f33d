package ledger

// What was last found under which name in the input directories.

import (
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/bbolt"

	"bobosync/services/ingest/internal/files"
)

// NameEntry is what was last found under a name in the input directory.
type NameEntry struct {
	// Stat is what the file looked like when its content was read.
	Stat files.Stat `json:"stat"`
	// ID is the id of that content; empty if nothing under this name was read yet.
	ID string `json:"id,omitempty"`
	// Sequence is reserved in the order of reading for a file that lay there when the ledger was created and was not
	// read yet.
	Sequence int64 `json:"order,omitempty"`
	// Next is the file that lies there now and waits to be read, if a sequence number in the order of reading is
	// reserved for it.
	Next *Reserved `json:"next,omitempty"`
}

// Reserved is a sequence number in the order of reading that is reserved for a file.
type Reserved struct {
	Stat     files.Stat `json:"stat"`
	Sequence int64      `json:"order"`
}

// Names gives access to what was last found under each name in the input directories. It must not be used after its
// transaction has ended.
type Names struct{ tx *Tx }

// Names returns what was last found under each name.
func (t *Tx) Names() Names { return Names{t} }

func (n Names) bucket() *bbolt.Bucket { return n.tx.tx.Bucket(bucketNames) }

// Reserve reserves a sequence number in the order of reading for the file that now lies under a name, unless it
// already has one.
func (n Names) Reserve(name string, stat files.Stat, now time.Time) error {
	e, _, err := n.Get(name)
	if err != nil || e.Next != nil && e.Next.Stat.Same(stat) || e.ID == "" && e.Sequence != 0 && e.Stat.Same(stat) {
		return err
	}

	sequence, err := n.tx.NextSequence(stat.Time(), now)
	if err != nil {
		return err
	}

	e.Next = &Reserved{Stat: stat, Sequence: sequence}

	return n.Set(name, e)
}

// Enter notes which content was found under a name, and that any other content that was known there is gone.
func (n Names) Enter(p Copy, id string) error {
	before, _, err := n.Get(p.Name)
	if err != nil {
		return err
	}

	if before.ID != id {
		if err := n.tx.Change(before.ID, func(f *File) { f.MarkGone(p.Name) }); err != nil {
			return err
		}
	}

	return n.Set(p.Name, NameEntry{Stat: p.Stat, ID: id})
}

// Get returns what was last found under a name; known is false if nothing was.
func (n Names) Get(name string) (e NameEntry, known bool, err error) {
	data := n.bucket().Get([]byte(name))
	if data == nil {
		return e, false, nil
	}

	if err := json.Unmarshal(data, &e); err != nil {
		return e, false, fmt.Errorf("read what is known of a name: %w", err)
	}

	return e, true, nil
}

// Set stores what was found under a name.
func (n Names) Set(name string, e NameEntry) error {
	data, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write what is known of a name: %w", err)
	}

	return n.bucket().Put([]byte(name), data)
}

// Drop drops a name.
func (n Names) Drop(name string) error { return n.bucket().Delete([]byte(name)) }

// Each calls fn for each name. fn must not change the ledger.
func (n Names) Each(fn func(name string, e NameEntry) error) error {
	return n.bucket().ForEach(func(k, data []byte) error {
		var e NameEntry
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("read what is known of a name: %w", err)
		}

		return fn(string(k), e)
	})
}
