package ledger

// A transaction: the records of files, and the values of the meta bucket. See rows.go for what became of the rows,
// and nameentries.go for what lies under which name.

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"bobosync/shared/boltdb"
	"bobosync/shared/event"
)

// Tx is a transaction. It must not be used after its function has returned, nor by several goroutines.
type Tx struct {
	tx    *bbolt.Tx
	stats *stats
}

// File returns a file's record, nil if the id is unknown or not valid.
func (t *Tx) File(id string) (*File, error) {
	key := keyOf(id)
	data := t.tx.Bucket(bucketFiles).Get(key)
	if key == nil || data == nil {
		return nil, nil
	}

	return decodeFile(key, data)
}

// Put stores a record. The record must have been read in the same transaction, or the counts go wrong.
func (t *Tx) Put(f *File) error {
	key := keyOf(f.ID)
	if key == nil {
		return fmt.Errorf("store a file: %d characters are no file id", len(f.ID))
	}

	data, err := f.encode()
	if err != nil {
		return fmt.Errorf("write the record of file %s: %w", Short(f.ID), err)
	}

	if err := t.tx.Bucket(bucketFiles).Put(key, data); err != nil {
		return fmt.Errorf("store the record of file %s: %w", Short(f.ID), err)
	}

	before, after := f.stored, viewOf(f)
	f.stored = after
	t.tx.OnCommit(func() { t.stats.change(f.ID, before, after) })

	open := t.tx.Bucket(bucketOpen)
	if f.NeedsWork() {
		return open.Put(key, nil)
	}

	return open.Delete(key)
}

// Change changes the record of a file, if there is one.
func (t *Tx) Change(id string, change func(f *File)) error {
	f, err := t.File(id)
	if err != nil || f == nil {
		return err
	}

	change(f)

	return t.Put(f)
}

// Attach adds a copy to a record, or updates the copy of that name. The caller must put the record afterwards.
func (t *Tx) Attach(f *File, p Copy) error {
	dropped := f.Copies.attach(p)
	if f.Status == Moved {
		f.Status = Done
	}

	if dropped == nil {
		return nil
	}

	number, err := t.tx.Bucket(bucketCopies).NextSequence()
	if err != nil {
		return fmt.Errorf("number a copy of file %s: %w", Short(f.ID), err)
	}

	return t.PutExtraCopy(ExtraCopy{*dropped, binary.BigEndian.AppendUint64(keyOf(f.ID), number)})
}

// ExtraCopies returns the copies of a file that are not in its record.
func (t *Tx) ExtraCopies(id string) ([]ExtraCopy, error) {
	key := keyOf(id)
	if key == nil {
		return nil, nil
	}

	var copies []ExtraCopy
	c := t.tx.Bucket(bucketCopies).Cursor()
	for k, v := c.Seek(key); bytes.HasPrefix(k, key); k, v = c.Next() {
		found := ExtraCopy{key: bytes.Clone(k)}
		if err := json.Unmarshal(v, &found.Copy); err != nil {
			return nil, fmt.Errorf("read of a copy of file %s: %w", Short(id), err)
		}

		copies = append(copies, found)
	}

	return copies, nil
}

// PutExtraCopy stores a copy that is not in its file's record, or drops it if it is gone.
func (t *Tx) PutExtraCopy(c ExtraCopy) error {
	if c.Gone {
		return t.tx.Bucket(bucketCopies).Delete(c.key)
	}

	data, err := json.Marshal(c.Copy)
	if err != nil {
		return fmt.Errorf("write of a copy: %w", err)
	}

	return t.tx.Bucket(bucketCopies).Put(c.key, data)
}

// Remove drops a file and its rows. An unknown id is not an error.
func (t *Tx) Remove(id string) error {
	key := keyOf(id)
	if key == nil {
		return nil
	}

	f, err := t.File(id)
	if err != nil {
		return err
	}

	if f != nil {
		t.tx.OnCommit(func() { t.stats.change(id, f.stored, view{}) })
	}

	err = errors.Join(
		t.tx.Bucket(bucketFiles).Delete(key), t.tx.Bucket(bucketOpen).Delete(key), t.Rows(id).Forget(), deleteAll(t.tx.Bucket(bucketCopies), key),
	)
	if err != nil {
		return fmt.Errorf("forget file %s: %w", Short(id), err)
	}

	return nil
}

// Complete ends the reading of a file. It counts the codes of its lines again, so that the record is right whatever
// was settled meanwhile, and makes the file Waiting, or Done if nothing is left to settle.
func (t *Tx) Complete(f *File, lines int, now time.Time) error {
	f.Lines, f.Rows, f.Rejected, f.Codes = lines, 0, 0, nil
	for chunk, codes := range t.Rows(f.ID).chunks() {
		if chunk*ChunkLines >= lines {
			break
		}

		for _, b := range codes {
			f.tally(Code(b))
		}
	}

	f.Status = Waiting
	f.Finish(now)

	return t.Put(f)
}

// Abandon gives the pending rows of a file the code, so that the file can be closed. It is for a file that is gone,
// or whose rows were settled before the ledger was lost.
func (t *Tx) Abandon(f *File, code Code, now time.Time) error {
	lines, err := t.Rows(f.ID).recode(Code(event.Pending), code)
	if err != nil {
		return err
	}

	return t.Complete(f, lines, now)
}

// Reopen reopens a file whose content has turned up again, see File.NeedsRead: rows that were given up wait again,
// and the part that was not read must be read. The first outcome of a row stands. Reopen reports whether there was
// anything to reopen; if so, the caller must put the record afterwards.
func (t *Tx) Reopen(f *File, now time.Time) (bool, error) {
	if !f.reopens() {
		return false, nil
	}

	if _, err := t.Rows(f.ID).recode(Vanished, Code(event.Pending)); err != nil {
		return false, err
	}

	f.Rejected -= f.Codes[Vanished]
	delete(f.Codes, Vanished)

	f.Status = Waiting
	if f.Partial {
		f.Status = Reading
	}

	f.Partial, f.Keep, f.Published, f.Finished = false, false, time.Time{}, time.Time{}
	f.Note(now, "found again, its rows without an outcome wait again")

	return true, nil
}

// NextSequence returns the next sequence number in the order of reading. It follows the modification time of the
// file, so that it is the same if files are read again after the ledger was lost, but it is always greater than the
// last one.
func (t *Tx) NextSequence(modified, now time.Time) (int64, error) {
	last, err := t.lastSequence()
	if err != nil {
		return 0, err
	}

	sequence := max(min(modified.UnixNano(), now.UnixNano()), last+1)

	return sequence, t.RaiseSequence(sequence)
}

// lastSequence returns the last sequence number in the order of reading that was given out.
func (t *Tx) lastSequence() (int64, error) {
	text := t.Meta(metaSequence)
	if text == "" {
		return 0, nil
	}

	last, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read the last order: %w", err)
	}

	return last, nil
}

// RaiseSequence notes that a sequence number in the order of reading is taken.
func (t *Tx) RaiseSequence(sequence int64) error {
	last, err := t.lastSequence()
	if err != nil || sequence <= last {
		return err
	}

	return t.SetMeta(metaSequence, strconv.FormatInt(sequence, 10))
}

// Meta returns the value of a key of the meta bucket, empty if there is none.
func (t *Tx) Meta(key string) string { return string(t.tx.Bucket(bucketMeta).Get([]byte(key))) }

// SetMeta stores the value of a key of the meta bucket.
func (t *Tx) SetMeta(key, value string) error { return boltdb.PutMeta(t.tx, key, value) }

// deleteAll deletes all keys of a bucket that begin with a prefix. It stops at the first key that cannot be deleted.
func deleteAll(bucket *bbolt.Bucket, prefix []byte) error {
	c := bucket.Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Seek(prefix) {
		if err := c.Delete(); err != nil {
			return err
		}
	}

	return nil
}
