package resolver

import (
	"cmp"
	"slices"
	"time"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/memory"
	"bobosync/shared/event"
)

// fold is what a batch of entries comes to: for each worker the latest event alone, however many entries there are, and
// the rows that were beaten. Its size grows with the workers, not with the entries. It is not safe for concurrent use.
type fold struct {
	look    func(employee string) (latest.Worker, error)
	touched map[string]*touch
	settled rowBook
	entries int
}

// touch is a worker who has an event in the batch.
type touch struct {
	worker latest.Worker
	// ask says that the latest event is new or has come once more, so that it has to be resolved.
	ask bool
}

func newFold(look func(string) (latest.Worker, error)) *fold {
	return &fold{look: look, touched: map[string]*touch{}, settled: rowBook{}}
}

// add takes one message's entries in. On an error the fold must be dropped.
func (f *fold) add(m event.Entries) error {
	for _, e := range m.Entries {
		t := f.touched[e.Employee]
		if t == nil {
			w, err := f.look(e.Employee)
			if err != nil {
				return err
			}
			t = &touch{worker: w}
			f.touched[e.Employee] = t
		}
		booking := latest.Event{Version: e.Version(m.Order), File: m.File, On: e.On, At: e.At}
		verdict, beaten := t.worker.Take(booking, m.Settled)
		switch {
		case verdict == latest.Older && !m.Settled:
			f.settled.add(m.File, event.Superseded, e.Row)
		case verdict != latest.Older:
			t.ask = true
		}
		if beaten != nil {
			f.settled.add(beaten.File, event.Superseded, beaten.Version.Row)
		}
	}
	f.entries += len(m.Entries)
	return nil
}

// outcome is what a batch leads to: what to publish, and then what to save.
type outcome struct {
	updates []event.Update
	settled rowBook
	change  memory.Change
}

// finish resolves all workers that ask for it. With hold, as long as the memory is not complete, it resolves nobody: an
// event that is not read yet may be newer.
func (f *fold) finish(view memory.View, now time.Time, rules latest.Rules, hold bool) outcome {
	out := outcome{settled: f.settled, change: memory.Change{Workers: make(map[string]latest.Worker, len(f.touched))}}
	for employee, t := range f.touched {
		if t.ask && !hold {
			out.resolve(employee, &t.worker, view.User(employee), event.ReasonEvent, now, rules)
		}
		out.change.Workers[employee] = t.worker
	}
	out.sort()
	return out
}

// resolve decides for one worker and notes what follows.
func (o *outcome) resolve(employee string, w *latest.Worker, user string, reason event.Reason, now time.Time, rules latest.Rules) {
	awaited := w.Open
	update, settled := w.Resolve(employee, user, reason, now, rules)
	if update != nil {
		o.updates = append(o.updates, *update)
	}
	if settled != event.Pending && awaited {
		o.settled.add(w.Latest.File, settled, w.Latest.Version.Row)
	}
	o.change.Workers[employee] = *w
}

// sort puts the oldest events first: after an outage they are sent in the order of age.
func (o *outcome) sort() {
	slices.SortFunc(o.updates, func(a, b event.Update) int {
		return cmp.Or(a.Version.Compare(b.Version), cmp.Compare(a.User, b.User))
	})
}

// rowBook gathers rows by file and outcome.
type rowBook map[rowKey]*event.RowSet

type rowKey struct {
	file    string
	outcome event.Outcome
}

func (b rowBook) add(file string, o event.Outcome, row int) {
	k := rowKey{file, o}
	set := b[k]
	if set == nil {
		set = &event.RowSet{}
		b[k] = set
	}
	set.Add(row)
}

// ackBytes bounds the text of rows in one acknowledgement, well below the broker's limit of 1 MB for a message.
const ackBytes = 256 << 10

// acks cuts the rows into messages of a size that the broker takes.
func (b rowBook) acks() []event.Acks {
	var out []event.Acks
	size := ackBytes
	for k, set := range b {
		for _, part := range set.Split(ackBytes) {
			text, _ := part.MarshalText() // it has no error to return
			cost := len(text) + len(k.file) + 50
			if size+cost > ackBytes {
				out, size = append(out, event.Acks{From: name}), 0
			}
			last := &out[len(out)-1]
			last.Rows = append(last.Rows, event.FileRows{File: k.file, Outcome: k.outcome, Rows: part})
			size += cost
		}
	}
	return out
}
