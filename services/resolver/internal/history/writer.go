package history

// Storing records with their links. For that, the last record of each worker is cached, or read once.

import (
	"context"
	"fmt"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

const (
	// tailsKept is the most workers whose last record is cached; each takes some 200 bytes.
	tailsKept = 50_000
	// tailsAsked is for how many workers the last record is requested at once; the broker answers with at most 1,024.
	tailsAsked = 500
)

// writer stores records. It may be used by several goroutines.
type writer struct {
	js  jetstream.JetStream
	pub *bus.Publisher
	// mu guards tails, which has the last record of each worker, by subject, where it is known.
	mu    sync.Mutex
	tails map[string]tail
}

// entry is a record to be stored, with the id that keeps it from being stored twice.
type entry struct {
	event.Delivery
	id string
}

// store stores records, with their links.
func (w *writer) store(ctx context.Context, all []entry) error {
	w.mu.Lock()
	defer w.mu.Unlock()

	for len(all) > 0 {
		subjects := distinct(all)

		err := w.learn(ctx, subjects)
		if err == nil {
			err = w.storeLot(ctx, all[:len(subjects)], subjects)
		}

		if err != nil {
			clear(w.tails) // it is not known which of them were stored
			return fmt.Errorf("write down what AtHoc was sent: %w", err)
		}

		all = all[len(subjects):]
	}

	return nil
}

// forget empties the cache, so that the last record of each worker is read again.
func (w *writer) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()

	clear(w.tails)
}

// tailOf returns the last record of a worker if it is cached and nothing is being written, otherwise the zero value.
func (w *writer) tailOf(subject string) tail {
	if !w.mu.TryLock() {
		return tail{} // storing can take long; the caller reads the record
	}
	defer w.mu.Unlock()

	return w.tails[subject]
}

// distinct returns the subjects of the first entries, for as long as they are of different workers and fit into a
// batch.
func distinct(all []entry) (subjects []string) {
	seen := map[string]bool{}
	for _, e := range all[:min(len(all), bus.MaxBatch)] {
		subject := topology.HistorySubject(e.Employee, e.User)
		if seen[subject] {
			break
		}

		seen[subject] = true
		subjects = append(subjects, subject)
	}

	return subjects
}

// learn reads the last record of each worker for whom it is not cached.
func (w *writer) learn(ctx context.Context, subjects []string) error {
	for subject := range w.tails {
		if len(w.tails)+len(subjects) <= tailsKept {
			break
		}

		delete(w.tails, subject)
	}

	var ask []string
	for i, subject := range subjects {
		if _, known := w.tails[subject]; !known {
			ask = append(ask, subject)
			w.tails[subject] = tail{}
		}

		if len(ask) < tailsAsked && i < len(subjects)-1 || len(ask) == 0 {
			continue
		}

		err := lastOf(ctx, w.js, ask, func(m *jetstream.RawStreamMsg) error {
			w.tails[m.Subject] = tail{links: parseLinks(m.Header.Get(linksHeader)), sequence: m.Sequence}
			return nil
		})
		if err != nil {
			return err
		}

		ask = ask[:0]
	}

	return nil
}

// storeLot stores records that are all of different workers.
func (w *writer) storeLot(ctx context.Context, lot []entry, subjects []string) error {
	msgs := make([]*message.Message, len(lot))
	next := make([]links, len(lot))
	for i := range lot {
		next[i] = w.tails[subjects[i]].next()
		m := bus.NewMessage(subjects[i], event.Encode(&lot[i].Delivery))
		m.UUID = "" // there are millions of them
		m.Metadata.Set(bus.MsgIDKey, lot[i].id)
		m.Metadata.Set(linksHeader, next[i].String())
		msgs[i] = m
	}

	last, whole, err := w.pub.PublishWhole(ctx, msgs...)
	if err != nil {
		return err
	}

	for i, subject := range subjects {
		if whole {
			w.tails[subject] = tail{links: next[i], sequence: last - uint64(len(subjects)-1-i)}
		} else {
			delete(w.tails, subject)
		}
	}

	return nil
}
