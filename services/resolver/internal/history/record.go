// Package history keeps what AtHoc was told, when and by which call, in the stream HISTORY, and answers questions about it. It is written
// from the answers (ACKS), and from what publishers that were killed had written down of their calls. What is known of a moment is judged
// by shared/history.
package history

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/event"
)

// Keeper writes the history of one session with the broker, and reads it. It may be used by several goroutines, but for Begin and Tend.
type Keeper struct {
	js  jetstream.JetStream
	pub *bus.Publisher
	log *slog.Logger
	now func() time.Time
	// timeout is the longest that a call to AtHoc takes, and longest the longest that AtHoc can be working on it.
	timeout, longest time.Duration
	// lateness is the constant; a benchmark in which 90 days pass in minutes makes it as much shorter.
	lateness time.Duration

	// stream is the identity of the stream when it was looked at last, marked when a mark was made last.
	stream string
	marked time.Time

	// writing guards tails: the last record of each worker, by subject, as far as it is known.
	writing sync.Mutex
	tails   map[string]tail

	// asked is what was read for the last answer about all who were on duty.
	asked atomic.Pointer[moment]
}

// storeWait is how long the broker may take to store what was told. A session that ends must not wait for a broker that is gone, and what
// was not stored comes again.
const storeWait = 5 * time.Second

// New returns a keeper on a connection.
func New(conn *bus.Conn, timeout time.Duration, log *slog.Logger, now func() time.Time) (*Keeper, error) {
	pub, err := bus.NewPublisher(conn, bus.PublisherConfig{Timeout: storeWait})
	if err != nil {
		return nil, err
	}
	return &Keeper{js: conn.JS, pub: pub, log: log, now: now, timeout: timeout, longest: 3 * timeout, lateness: lateness, tails: map[string]tail{}}, nil
}

// Close ends it.
func (k *Keeper) Close() { _ = k.pub.Close() } // it only waits for calls, and there are none left

// Answered is a message of answers, with its place in the stream.
type Answered struct {
	event.Acks
	Sequence uint64
	Stored   time.Time
}

// Record writes down what answers tell. What it is given a second time within the broker's memory of message ids is not stored twice;
// later than that it is, and left out by who reads it.
func (k *Keeper) Record(ctx context.Context, all []Answered) error {
	var entries []entry
	for i := range all {
		a := &all[i]
		for n, t := range toldBy(&a.Acks, k.longest) {
			entries = append(entries, entry{Told: t, id: fmt.Sprintf("%d-%x-%d", a.Sequence, a.Stored.UnixNano(), n)})
		}
	}
	return k.store(ctx, entries)
}

// toldBy is what answers tell of what AtHoc was told. longest is the longest that AtHoc can be working on a call that got no answer.
func toldBy(m *event.Acks, longest time.Duration) []event.Told {
	out := make([]event.Told, 0, len(m.Answers)+len(m.Unsure))
	for _, a := range m.Answers {
		t := told(m, a)
		if a.Outcome == event.Pending {
			t.Until = t.Call.Sent + longest.Milliseconds()
		}
		out = append(out, t)
	}
	for _, a := range m.Unsure {
		t := told(m, a)
		t.Outcome, t.Until = event.Pending, t.Call.Answered // AtHoc is done with the call
		out = append(out, t)
	}
	return out
}

func told(m *event.Acks, a event.Answer) event.Told {
	t := event.Told{User: a.User, Employee: a.Employee, On: a.On, At: a.At, File: a.File, Row: a.Version.Row, Outcome: a.Outcome}
	if call := m.CallOf(a); call != nil {
		t.Call = *call
	} else { // of a publisher of before
		t.Call = event.Call{Sent: a.Answered * 1000, Answered: a.Answered * 1000}
	}
	return t
}
