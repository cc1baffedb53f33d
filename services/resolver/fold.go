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
	workers map[string]*latest.Worker
	settled rowBook
	entries int
	// broken says that add failed and the fold must be dropped.
	broken bool
}

func newFold(look func(string) (latest.Worker, error)) *fold {
	return &fold{look: look, workers: map[string]*latest.Worker{}, settled: rowBook{}}
}

// worker returns a worker as the batch has left them so far.
func (f *fold) worker(employee string) (*latest.Worker, error) {
	w := f.workers[employee]
	if w == nil {
		known, err := f.look(employee)
		if err != nil {
			return nil, err
		}
		w = &known
		f.workers[employee] = w
	}
	return w, nil
}

// add takes one message's entries in. On an error the fold must be dropped.
func (f *fold) add(m event.Entries) error {
	for _, e := range m.Entries {
		w, err := f.worker(e.Employee)
		if err != nil {
			return err
		}
		booking := latest.Event{Version: e.Version(m.Order), File: m.File, On: e.On, At: e.At}
		verdict, beaten := w.Take(booking, m.Settled)
		if verdict == latest.Older && !m.Settled {
			f.settled.add(m.File, event.Superseded, e.Row)
		}
		if beaten != nil {
			f.settled.add(beaten.File, event.Superseded, beaten.Version.Row)
		}
	}
	f.entries += len(m.Entries)
	return nil
}

// outcome is what a batch leads to: what to save first, then to publish, and to save in the end.
type outcome struct {
	// intents are the workers of the updates as they are while these are being published.
	intents map[string]latest.Worker
	updates []event.Update
	settled rowBook
	change  memory.Change
}

func newOutcome(settled rowBook) outcome {
	return outcome{
		intents: map[string]latest.Worker{}, settled: settled, change: memory.Change{Workers: map[string]latest.Worker{}},
	}
}

// send notes an update, with its worker as before it and as after it was published.
func (o *outcome) send(u event.Update, before, after latest.Worker) {
	o.updates = append(o.updates, u)
	o.intents[u.Employee] = latest.Intent(before, after)
	o.change.Workers[u.Employee] = after
}

// resolve decides for one worker and notes what follows.
func (o *outcome) resolve(employee string, w *latest.Worker, user string, reason event.Reason, now time.Time, rules latest.Rules) {
	before := *w
	update, settled := w.Resolve(employee, user, reason, now, rules)
	if settled != event.Pending && before.Open {
		o.settled.add(w.Latest.File, settled, w.Latest.Version.Row)
	}
	if update != nil {
		o.send(*update, before, *w)
		return
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

// count returns the number of rows.
func (b rowBook) count() int {
	rows := 0
	for _, set := range b {
		rows += set.Len()
	}
	return rows
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
