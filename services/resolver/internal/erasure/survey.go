package erasure

// What the broker holds of a worker, and whether it may be deleted.

import (
	"context"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/audit"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/erase"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// survey is what the broker holds of a worker.
type survey struct {
	erase.Names
	// found: per stream, sequences of messages about the worker. through: per stream, the last sequence scanned.
	found   map[string][]uint64
	through map[string]uint64
	// details counts the records of the audit that mention the worker.
	details int
	files   map[string]bool
	// refusal says why nothing may be deleted now; nil if it may.
	refusal error
}

// The reasons to refuse an erasure. They name nobody, since they go into the audit.
var (
	errMapped = control.Refuse("AtHoc still has a user with this employee id, so that it would come back with the next mapping: " +
		"delete the user in AtHoc, or empty its employee id there, run bobosync mapping refresh, and erase the worker then")
	errUnderWay = control.Refuse("something about this worker is still under way: erase him when bobosync worker says that nothing is")
	errLetters  = control.Refuse("a dead letter is about this worker and may be about others: requeue or drop it first, see bobosync dead list")
)

func (v *survey) refuse(why error) {
	if v.refusal == nil {
		v.refusal = why
	}
}

// collect scans everything. HISTORY comes first: it knows former usernames.
func (e *Eraser) collect(ctx context.Context, n erase.Names) (*survey, error) {
	v := &survey{Names: n, found: map[string][]uint64{}, through: map[string]uint64{}, files: map[string]bool{}}
	for _, step := range []func(context.Context, *survey) error{e.history, e.users, e.updates, e.entries, e.answers, e.calls, e.letters, e.mapping} {
		if err := step(ctx, v); err != nil {
			return nil, err
		}
	}
	err := audit.EachMention(ctx, e.JS, v.Names, func(string, []byte) { v.details++ })
	return v, err
}

// end notes up to where a stream is scanned.
func (e *Eraser) end(ctx context.Context, v *survey, stream string) error {
	s, err := e.JS.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", stream, err)
	}
	v.through[stream] = s.CachedInfo().State.LastSeq
	return nil
}

// acknowledged is the sequence up to which a consumer is done with a stream.
func (e *Eraser) acknowledged(ctx context.Context, stream, consumer string) (uint64, error) {
	c, err := e.JS.Consumer(ctx, stream, consumer)
	if err != nil {
		return 0, fmt.Errorf("look up consumer %s: %w", consumer, err)
	}
	return c.CachedInfo().AckFloor.Stream, nil
}

// each calls f for the messages of a stream that are about the worker.
func (e *Eraser) each(ctx context.Context, v *survey, stream, subject string, f func(m *jetstream.RawStreamMsg)) error {
	return bus.Scan(ctx, e.JS, stream, bus.ReadFrom{Subject: subject}, func(m *jetstream.RawStreamMsg) bool {
		if subject != "" || v.In(m.Data) {
			f(m)
		}
		return true
	})
}

func (v *survey) add(stream string) func(m *jetstream.RawStreamMsg) {
	return func(m *jetstream.RawStreamMsg) { v.found[stream] = append(v.found[stream], m.Sequence) }
}

func (e *Eraser) history(ctx context.Context, v *survey) error {
	if err := e.end(ctx, v, topology.StreamHistory); err != nil {
		return err
	}
	subjects := []string{topology.HistorySubject(v.Employee, "")}
	for _, user := range v.Users {
		subjects = append(subjects, topology.HistorySubject("", user))
	}
	for i := 0; i < len(subjects); i++ {
		err := e.each(ctx, v, topology.StreamHistory, subjects[i], func(m *jetstream.RawStreamMsg) {
			v.add(topology.StreamHistory)(m)
			var t event.Delivery
			if event.Decode(m.Data, &t) != nil {
				return
			}
			v.files[t.File] = t.File != ""
			if !v.Are(t.User) {
				v.Users = append(v.Users, t.User)
				subjects = append(subjects, topology.HistorySubject("", t.User))
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// users leaves out usernames that are another worker's by now.
func (e *Eraser) users(_ context.Context, v *survey) error {
	index := e.Roster.Mapping()
	v.Users = slices.DeleteFunc(v.Users, func(user string) bool {
		other := index.Employee(user)
		return other != "" && other != v.Employee
	})
	return nil
}

func (e *Eraser) updates(ctx context.Context, v *survey) error {
	if err := e.end(ctx, v, topology.StreamUpdates); err != nil {
		return err
	}
	for _, user := range v.Users {
		if err := e.each(ctx, v, topology.StreamUpdates, topology.UpdatesSubject(user), v.add(topology.StreamUpdates)); err != nil {
			return err
		}
	}
	return nil
}

func (e *Eraser) entries(ctx context.Context, v *survey) (err error) {
	return e.consumed(ctx, v, topology.StreamEntries, topology.ConsumerResolverEntries)
}

func (e *Eraser) answers(ctx context.Context, v *survey) error {
	return e.consumed(ctx, v, topology.StreamAcks, topology.ConsumerResolverAcks, topology.ConsumerIngestAcks)
}

// consumed scans a stream of which nothing may be deleted that its consumers are not done with.
func (e *Eraser) consumed(ctx context.Context, v *survey, stream string, consumers ...string) error {
	var floors []uint64
	for _, consumer := range consumers {
		floor, err := e.acknowledged(ctx, stream, consumer)
		if err != nil {
			return err
		}
		floors = append(floors, floor)
	}
	v.through[stream] = slices.Min(floors)
	return e.each(ctx, v, stream, "", func(m *jetstream.RawStreamMsg) {
		if m.Sequence > v.through[stream] {
			v.refuse(errUnderWay)
		}
		v.add(stream)(m)
	})
}

// calls refuses while a publisher may be in a call about the worker.
func (e *Eraser) calls(ctx context.Context, v *survey) error {
	return e.each(ctx, v, "KV_"+topology.BucketCalls, "", func(*jetstream.RawStreamMsg) { v.refuse(errUnderWay) })
}

// letters takes dead letters that are one update; others may be about other workers too.
func (e *Eraser) letters(ctx context.Context, v *survey) error {
	if err := e.end(ctx, v, topology.StreamDead); err != nil {
		return err
	}
	return e.each(ctx, v, topology.StreamDead, "", func(m *jetstream.RawStreamMsg) {
		var letter event.DeadLetter
		var update event.Update
		if event.Decode(m.Data, &letter) != nil || event.Decode(letter.Payload, &update) != nil || update.User == "" {
			v.refuse(errLetters)
		}
		v.add(topology.StreamDead)(m)
	})
}

// mapping refuses while AtHoc has the employee id, or one of the usernames for it.
func (e *Eraser) mapping(ctx context.Context, v *survey) error {
	if err := e.end(ctx, v, topology.StreamMapping); err != nil {
		return err
	}
	return e.each(ctx, v, topology.StreamMapping, "", func(*jetstream.RawStreamMsg) { v.refuse(errMapped) })
}
