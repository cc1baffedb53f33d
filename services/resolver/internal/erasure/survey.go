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
	"bobosync/shared/mapping"
	"bobosync/shared/topology"
)

// survey is what the broker holds of a worker. collect fills it, step by step.
type survey struct {
	js jetstream.JetStream
	erase.Names
	// found has, for each stream, the sequences of the messages about the worker; through has the last sequence
	// scanned.
	found   map[string][]uint64
	through map[string]uint64
	// details counts the audit's records that mention the worker.
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

// collect scans everything. HISTORY goes first, since it knows former usernames.
func (e *Eraser) collect(ctx context.Context, n erase.Names) (*survey, error) {
	v := &survey{js: e.JS, Names: n, found: map[string][]uint64{}, through: map[string]uint64{}, files: map[string]bool{}}
	if err := v.history(ctx, e.Roster.Mapping()); err != nil {
		return nil, err
	}

	for _, step := range []func(context.Context) error{v.updates, v.entries, v.answers, v.calls, v.letters, v.mapping} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}

	err := audit.EachMention(ctx, e.JS, v.Names, func(string, []byte) { v.details++ })

	return v, err
}

// end records up to which sequence a stream is scanned.
func (v *survey) end(ctx context.Context, stream string) error {
	s, err := v.js.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", stream, err)
	}

	v.through[stream] = s.CachedInfo().State.LastSeq

	return nil
}

// each calls f for the messages of a stream that are about the worker.
func (v *survey) each(ctx context.Context, stream, subject string, f func(m *jetstream.RawStreamMsg)) error {
	return bus.Scan(ctx, v.js, stream, bus.ReadFrom{Subject: subject}, func(m *jetstream.RawStreamMsg) bool {
		if subject != "" || v.In(m.Data) {
			f(m)
		}
		return true
	})
}

func (v *survey) add(stream string) func(m *jetstream.RawStreamMsg) {
	return func(m *jetstream.RawStreamMsg) { v.found[stream] = append(v.found[stream], m.Sequence) }
}

// history leaves out usernames that belong to another worker by now, and what AtHoc was sent for them.
func (v *survey) history(ctx context.Context, index *mapping.Index) error {
	if err := v.end(ctx, topology.StreamHistory); err != nil {
		return err
	}

	anothers := func(user string) bool {
		employee := index.Employee(user)
		return employee != "" && employee != v.Employee
	}
	v.Users = slices.DeleteFunc(v.Users, anothers)
	subjects := []string{topology.HistorySubject(v.Employee, "")}
	for _, user := range v.Users {
		subjects = append(subjects, topology.HistorySubject("", user))
	}

	for i := 0; i < len(subjects); i++ {
		err := v.each(ctx, topology.StreamHistory, subjects[i], func(m *jetstream.RawStreamMsg) {
			v.add(topology.StreamHistory)(m)

			var t event.Delivery
			if event.Decode(m.Data, &t) != nil {
				return
			}

			v.files[t.File] = t.File != ""
			if !v.Are(t.User) && !anothers(t.User) {
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

func (v *survey) updates(ctx context.Context) error {
	if err := v.end(ctx, topology.StreamUpdates); err != nil {
		return err
	}

	for _, user := range v.Users {
		if err := v.each(ctx, topology.StreamUpdates, topology.UpdatesSubject(user), v.add(topology.StreamUpdates)); err != nil {
			return err
		}
	}

	return nil
}

func (v *survey) entries(ctx context.Context) error {
	return v.consumed(ctx, topology.StreamEntries, topology.ConsumerResolverEntries)
}

func (v *survey) answers(ctx context.Context) error {
	return v.consumed(ctx, topology.StreamAcks, topology.ConsumerResolverAcks, topology.ConsumerIngestAcks)
}

// consumed scans a stream whose messages may be deleted only after all of its consumers have acknowledged them.
func (v *survey) consumed(ctx context.Context, stream string, consumers ...string) error {
	var floors []uint64
	for _, consumer := range consumers {
		c, err := v.js.Consumer(ctx, stream, consumer)
		if err != nil {
			return fmt.Errorf("look up consumer %s: %w", consumer, err)
		}

		floors = append(floors, c.CachedInfo().AckFloor.Stream)
	}

	v.through[stream] = slices.Min(floors)

	return v.each(ctx, stream, "", func(m *jetstream.RawStreamMsg) {
		if m.Sequence > v.through[stream] {
			v.refuse(errUnderWay)
		}

		v.add(stream)(m)
	})
}

// calls refuses while a publisher may be in a call about the worker.
func (v *survey) calls(ctx context.Context) error {
	return v.each(ctx, "KV_"+topology.BucketCalls, "", func(*jetstream.RawStreamMsg) { v.refuse(errUnderWay) })
}

// letters takes dead letters that hold a single update. It refuses the others, which may be about other workers too.
func (v *survey) letters(ctx context.Context) error {
	if err := v.end(ctx, topology.StreamDead); err != nil {
		return err
	}

	return v.each(ctx, topology.StreamDead, "", func(m *jetstream.RawStreamMsg) {
		var letter event.DeadLetter
		var update event.Update
		if event.Decode(m.Data, &letter) != nil || event.Decode(letter.Payload, &update) != nil || update.User == "" {
			v.refuse(errLetters)
		}

		v.add(topology.StreamDead)(m)
	})
}

// mapping refuses while AtHoc still has the employee id, or one of the worker's usernames.
func (v *survey) mapping(ctx context.Context) error {
	if err := v.end(ctx, topology.StreamMapping); err != nil {
		return err
	}
	return v.each(ctx, topology.StreamMapping, "", func(*jetstream.RawStreamMsg) { v.refuse(errMapped) })
}

// counts returns how much was found about the worker, by store; known says whether the state store knows the worker.
func (v *survey) counts(known bool) map[string]int {
	counts := map[string]int{topology.StreamAudit: v.details, stateStore: 0}
	for _, stream := range []string{topology.StreamEntries, topology.StreamUpdates, topology.StreamAcks, topology.StreamHistory, topology.StreamDead} {
		counts[stream] = len(v.found[stream])
	}

	if known {
		counts[stateStore] = 1
	}

	return counts
}
