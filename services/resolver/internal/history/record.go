// Package history keeps what AtHoc was sent, when and by which call, in the stream HISTORY, and answers questions about
// it. The history is written from the answers (ACKS), and from what killed publishers had recorded of their calls.
// Package shared/history judges what is known of a moment.
package history

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/event"
)

// Keeper writes the history of one session with the broker, and reads it. It may be used by several goroutines, except
// for Begin and Tend.
type Keeper struct {
	js  jetstream.JetStream
	pub *bus.Publisher
	log *slog.Logger
	now func() time.Time
	// longest is the longest that AtHoc can be working on a call.
	longest time.Duration
	// lateness is the constant of that name; a benchmark in which 90 days pass in minutes shortens it in proportion.
	lateness time.Duration

	reader reader
	writer *writer
	calls  *calls

	// stream is the identity of the stream when it was last checked; marked is when the last mark was made.
	stream string
	marked time.Time

	// asked is what was read for the last answer about everybody on duty.
	asked atomic.Pointer[moment]
}

// storeTimeout is how long the broker may take to store records. A session that ends must not wait for a broker that is
// gone, and answers whose records were not stored are redelivered.
const storeTimeout = 5 * time.Second

// New returns a keeper that uses the connection. timeout is the longest that a call to AtHoc takes.
func New(conn *bus.Conn, timeout time.Duration, log *slog.Logger, now func() time.Time) (*Keeper, error) {
	pub, err := bus.NewPublisher(conn, bus.PublisherConfig{Timeout: storeTimeout})
	if err != nil {
		return nil, err
	}

	k := &Keeper{js: conn.JS, pub: pub, log: log, now: now, longest: 3 * timeout, lateness: lateness, reader: reader{conn.JS}}
	k.writer = &writer{js: k.js, pub: pub, tails: map[string]tail{}}
	k.calls = &calls{js: k.js, log: log, now: now, timeout: timeout, longest: k.longest, writer: k.writer}

	return k, nil
}

// Close closes the keeper.
func (k *Keeper) Close() { _ = k.pub.Close() } // it only waits for calls, and there are none left

// Answered is a message of answers, with its sequence in the stream and the time at which the broker stored it.
type Answered struct {
	event.Acks
	Sequence uint64
	Stored   time.Time
}

// Record records answers. Answers that are given a second time within the broker's deduplication window are not stored
// twice. After that window they are, and readers leave out the duplicates.
func (k *Keeper) Record(ctx context.Context, all []Answered) error {
	var entries []entry
	for i := range all {
		a := &all[i]
		for n, t := range deliveriesIn(&a.Acks, k.longest) {
			entries = append(entries, entry{Delivery: t, id: fmt.Sprintf("%d-%x-%d", a.Sequence, a.Stored.UnixNano(), n)})
		}
	}

	return k.writer.store(ctx, entries)
}

// deliveriesIn returns what AtHoc was sent, according to its answers. longest is the longest that AtHoc can be working
// on a call that got no answer.
func deliveriesIn(m *event.Acks, longest time.Duration) []event.Delivery {
	out := make([]event.Delivery, 0, len(m.Answers)+len(m.InDoubt))
	for _, a := range m.Answers {
		t := delivery(m, a, longest)
		if a.Outcome == event.Pending {
			t.Until = t.Call.Sent + longest.Milliseconds()
		}

		out = append(out, t)
	}

	for _, a := range m.InDoubt {
		t := delivery(m, a, longest)
		t.Outcome, t.Until = event.Pending, t.Call.Answered // AtHoc is done with the call
		out = append(out, t)
	}

	return out
}

func delivery(m *event.Acks, a event.Answer, longest time.Duration) event.Delivery {
	t := event.Delivery{User: a.User, Employee: a.Employee, On: a.On, At: a.At, File: a.File, Row: a.Version.Row, Outcome: a.Outcome}
	if call := m.CallOf(a); call != nil {
		t.Call = *call
	} else { // a publisher of an earlier version gives only the second in which it was answered
		t.Call = event.Call{Sent: a.Answered*1000 - longest.Milliseconds(), Answered: a.Answered*1000 + 999}
	}

	return t
}
