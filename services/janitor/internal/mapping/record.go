package mapping

// The record of the mapping in force, which is kept in the state bucket.

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// RecordKey is the key, in the state bucket, of the record of the mapping that was published last.
const RecordKey = "janitor.mapping"

// recordVersion is the version of the record's format. A record of another version is ignored.
const recordVersion = 1

// Record is the record of the mapping in force.
type Record struct {
	V int `json:"v"`
	// Snapshot is the id of the mapping's version. Taken is when its users had been read.
	Snapshot string    `json:"snapshot"`
	Taken    time.Time `json:"taken"`
	// Refreshed is the end of the last refresh, even if it found nothing new.
	Refreshed time.Time `json:"refreshed"`
	// Hash is the hash of the mapping's content; see hashOf.
	Hash string `json:"hash"`
	// Users is the number of employee ids that are mapped.
	Users int `json:"users"`
	// Stream is the identity of the stream that holds the snapshot. First and Last are the snapshot's first and last
	// sequence in it.
	Stream string `json:"stream"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
}

// heldBy reports whether a stream holds the whole snapshot and nothing newer.
func (r Record) heldBy(info *jetstream.StreamInfo) bool {
	s := info.State
	return r.Snapshot != "" && identity(info) == r.Stream && s.FirstSeq <= r.First && s.LastSeq == r.Last &&
		s.Msgs == s.LastSeq-s.FirstSeq+1
}

// identity distinguishes a stream from one with the same name that was created later.
func identity(info *jetstream.StreamInfo) string { return info.Created.UTC().Format(time.RFC3339Nano) }

// LoadRecord returns the record and its revision. The record is zero if there is none, or if it cannot be read.
func (r *Refresher) LoadRecord(ctx context.Context) (Record, uint64, error) {
	value, revision, err := r.Record.Load(ctx)
	if err != nil || revision == 0 {
		return Record{}, 0, err
	}

	var rec Record
	if err := json.Unmarshal(value, &rec); err != nil || rec.V != recordVersion {
		r.Log.Debug("the note on the mapping cannot be read and is recreated", "version", rec.V, "error", err)
		return Record{}, revision, nil
	}

	return rec, revision, nil
}

// save replaces the record with the given revision. It fails if another janitor has written in between.
func (r *Refresher) save(ctx context.Context, rec Record, revision uint64) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("write the note on the mapping: %w", err)
	}

	_, err = r.Record.Save(ctx, data, revision)

	return err
}
