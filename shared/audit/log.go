package audit

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/cas"
	"bobosync/shared/topology"
)

const (
	// appendTimeout is how long the broker may take to store a record.
	appendTimeout = 5 * time.Second
	// maxPart is the longest part of a detail, in bytes; it keeps the whole below the broker's limit of 1 MB.
	maxPart = 200 << 10
)

// Log writes the chain of one service. Several instances of the service may write it at once. It is safe for concurrent
// use.
type Log struct {
	js      jetstream.JetStream
	service topology.Service
	now     func() time.Time
}

// NewLog returns the log of a service. It does not contact the broker yet.
func NewLog(js jetstream.JetStream, service topology.Service) *Log {
	return &Log{js: js, service: service, now: time.Now}
}

// ErrTwice means that a record with this id exists already, or that writing it was begun.
var ErrTwice = errors.New("there is a record of this id already")

// Append adds a record with its detail to the chain and returns the record's id. When it returns nil, both are stored.
// A record whose ID the caller has set is written only once: a second attempt fails with an error that wraps ErrTwice.
func (l *Log) Append(ctx context.Context, r Record, d Detail) (id string, err error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()

	stream, err := l.js.Stream(ctx, topology.StreamAudit)
	if err != nil {
		return "", fmt.Errorf("open stream %s: %w", topology.StreamAudit, err)
	}

	kv, err := l.js.KeyValue(ctx, topology.BucketAudit)
	if err != nil {
		return "", fmt.Errorf("open bucket %s: %w", topology.BucketAudit, err)
	}

	r.Service, r.At = string(l.service), l.now().UTC()
	keep := kv.Put
	if r.ID == "" {
		r.ID = uuid.Must(uuid.NewV7()).String()
	} else {
		keep = func(ctx context.Context, key string, value []byte) (uint64, error) { return kv.Create(ctx, key, value) }
	}

	detail, err := d.encode()
	if err != nil {
		return "", err
	}

	r.Detail = hashOf(detail)

	_, err = keep(ctx, topology.AuditDetail(l.service, r.ID), detail)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return "", ErrTwice
	}

	if err != nil {
		return "", fmt.Errorf("write what belongs to a record of the audit: %w", err)
	}

	for {
		end, err := l.link(ctx, stream, kv, r)
		if err == nil {
			return r.ID, l.moveHead(ctx, kv, end)
		}

		if !errors.Is(err, cas.ErrConflict) {
			return "", err
		}
	}
}

// link appends the record to the chain. Its error wraps cas.ErrConflict if another instance has written in the
// meantime.
func (l *Log) link(ctx context.Context, stream jetstream.Stream, kv jetstream.KeyValue, r Record) (End, error) {
	last, seq, err := l.end(ctx, stream, kv)
	if err != nil {
		return End{}, err
	}

	r.N, r.Prev, r.PrevAt = last.N+1, last.Hash, last.At

	data, err := json.Marshal(r)
	if err != nil {
		return End{}, fmt.Errorf("write a record of the audit: %w", err)
	}

	_, err = l.js.Publish(ctx, topology.AuditSubject(l.service), data, jetstream.WithExpectLastSequencePerSubject(seq))
	if err != nil {
		return End{}, fmt.Errorf("write a record of the audit: %w", cas.Conflicting(err))
	}

	return End{N: r.N, Hash: hashOf(data), At: r.At}, nil
}

// end returns where the chain ends, and the stream sequence of its last record. If the stream was lost, the chain
// continues from the end that the bucket remembers.
func (l *Log) end(ctx context.Context, stream jetstream.Stream, kv jetstream.KeyValue) (last End, seq uint64, err error) {
	m, err := stream.GetLastMsgForSubject(ctx, topology.AuditSubject(l.service))
	if err == nil {
		last, err = after(m.Data)
		return last, m.Sequence, err
	}

	if !errors.Is(err, jetstream.ErrMsgNotFound) {
		return End{}, 0, fmt.Errorf("read the last record of the audit: %w", err)
	}

	value, _, err := cas.Load(ctx, kv, topology.AuditHead(l.service))
	if err == nil && value != nil {
		err = json.Unmarshal(value, &last)
	}

	if err != nil {
		return End{}, 0, fmt.Errorf("read where the audit ended: %w", err)
	}

	return last, 0, nil
}

// moveHead stores where the chain ends, unless another instance has stored a later end.
func (l *Log) moveHead(ctx context.Context, kv jetstream.KeyValue, end End) error {
	err := cas.Update(ctx, kv, topology.AuditHead(l.service), func(old []byte) ([]byte, error) {
		var before End
		if old != nil && json.Unmarshal(old, &before) == nil && before.N >= end.N {
			return nil, nil
		}

		return json.Marshal(end)
	})
	if err != nil {
		return fmt.Errorf("note where the audit ends: %w", err)
	}

	return nil
}

// encode salts a detail and returns it as it is stored. Parts that are too long are left out: a list of everybody is no
// more useful than its length.
func (d Detail) encode() ([]byte, error) {
	d.Salt = rand.Text()
	for _, part := range []*json.RawMessage{&d.Request, &d.Forecast, &d.Result} {
		if len(*part) > maxPart {
			*part = fmt.Appendf(nil, `{"left_out_bytes":%d}`, len(*part))
		}
	}

	data, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("write what belongs to a record of the audit: %w", err)
	}

	return data, nil
}
