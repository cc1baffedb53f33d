// Package roster holds what is known of all workers: the state store, what is left to do for each worker, and the
// mapping in force. All work on workers ends in Roster.Commit, which saves, publishes and saves again in the order that
// survives a crash.
package roster

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bobosync/services/resolver/internal/hold"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/metrics"
	"bobosync/services/resolver/internal/outbox"
	"bobosync/services/resolver/internal/stats"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/mapping"
)

// Roster is all workers. A goroutine that changes anything holds the lock for its whole piece of work, so that pieces
// of work run one after the other. The lock guards the fields below it.
type Roster struct {
	Store *store.Store
	Rules latest.Rules
	// MaxStrangers is how many strangers are kept: workers without an AtHoc user, of whom nothing but the latest event
	// is known.
	MaxStrangers int
	Now          func() time.Time
	Log          *slog.Logger
	Metrics      *metrics.Set
	// Stats counts the workers. It needs no lock.
	Stats stats.Stats
	// mapping is the mapping in force. It can be read without the lock, and is stored under it.
	mapping atomic.Pointer[mapping.Index]

	sync.Mutex
	// Out publishes, in the current session.
	Out *outbox.Outbox
	// Unresolved has the workers for whom we have not decided yet what follows from the latest event, except those in
	// holds.
	Unresolved map[string]*Unresolved
	// InDoubt has the workers whose last status must be resent, and from when on (in Unix seconds).
	InDoubt map[string]int64
	// Replaying has the workers whose status a replay still has to send again, by replay.
	Replaying map[string]map[string]struct{}
	// Backlog is the sequence of the last entry in the stream at the last check.
	Backlog uint64
	// Lot numbers the lot of files that is being read; see coalesce.
	Lot uint64
	// Recovered: the state store is complete. Until it is, nothing is published.
	Recovered bool
	// HoldOff is until when nothing is published after the broker's store was lost, by the monotonic clock.
	HoldOff time.Time
	// Holds decides which changes wait for a person, and knows whose changes do.
	Holds *hold.State
	// Hit is called before each step that leaves something behind: a test ends the process there, as a crash would.
	Hit func() error
	// Guard returns an error if nothing may be published to the table of updates in its present state.
	Guard func(ctx context.Context) error
}

// Unresolved is what is kept in memory of a worker until the worker's latest event is resolved.
type Unresolved struct {
	// File is the latest event's, and Rank its time.
	File string
	Rank int64
	// Until is the sequence of the last entry that waited to be read when the worker became unresolved.
	Until uint64
	// Lot is the lot of files that was being read then.
	Lot uint64
	// Replaces: an update of the worker is out and not answered, so a newer one takes its place in the table.
	Replaces bool
	// Queued: an update follows, and waits until AtHoc has room for it.
	Queued bool
	// record is the worker as saved; nil if it must be read from the store.
	record *latest.Worker
}

// ErrRebuilding refuses what needs a complete state store and a broker's store that can be relied on.
var ErrRebuilding = control.Refuse("the resolver is still making good what was lost; try again in a minute")

// maxRecords is how many records of unresolved workers are kept in memory.
const maxRecords = 50_000

// Load finds the workers for whom an earlier run left something to do.
func (r *Roster) Load(ctx context.Context) error {
	r.Unresolved, r.InDoubt, r.Replaying = map[string]*Unresolved{}, map[string]int64{}, map[string]map[string]struct{}{}

	snapshot, err := r.Store.Snapshot()
	if err != nil {
		return err
	}

	users := map[string]string{}

	err = r.View(func(v store.View) error {
		v.EachUser("", func(employee, user string) bool {
			users[employee] = user
			return ctx.Err() == nil
		})

		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("read the mapping: %w", err)
	}

	r.mapping.Store(mapping.NewIndex(snapshot, users))
	r.Stats.Begin(r.Mapping(), r.Recovered)

	if err := r.Forget(ctx); err != nil { // first, since there may be more of them than fit into memory
		return err
	}

	err = r.View(func(v store.View) error {
		return v.EachWorker(ctx, func(employee string, w latest.Worker) error {
			r.note(employee, w)
			return nil
		})
	})
	if err != nil {
		return err
	}

	r.Holds.Noted()

	replays, err := r.Store.Replays()
	for _, state := range replays {
		if state.Ended.IsZero() && r.Replaying[state.ID] == nil {
			r.Replaying[state.ID] = map[string]struct{}{} // newer events have sent all of it: the replay only has to be closed
		}
	}

	return err
}

// Mapping returns the mapping in force.
func (r *Roster) Mapping() *mapping.Index { return r.mapping.Load() }

// SetMapping puts a mapping in force that the store already holds.
func (r *Roster) SetMapping(m *mapping.Index) {
	r.mapping.Store(m)
	r.Stats.Remap(m)
}

// MayPublish reports whether updates may be published now.
func (r *Roster) MayPublish() bool { return r.Recovered && !time.Now().Before(r.HoldOff) }

// View gives a consistent view of the store.
func (r *Roster) View(f func(store.View) error) error { return r.Store.View(f) }

// Worker returns a worker's record.
func (r *Roster) Worker(v store.View, employee string) (latest.Worker, error) {
	if u := r.Unresolved[employee]; u != nil && u.record != nil {
		return *u.record, nil
	}
	return v.Worker(employee)
}

// Resolve decides what follows from the latest event of a worker who was saved as unresolved, and adds that to c. If an
// update follows and there is no room for one, it adds nothing and returns false.
func (r *Roster) Resolve(c *Changeset, employee string, w latest.Worker, room bool) bool {
	user, before := r.Mapping().User(employee), w

	update, settled := w.Resolve(employee, user, reason(before, user, !r.HoldOff.IsZero()), r.Now(), r.Rules)
	if update != nil && !room {
		return false
	}

	if !before.Open {
		settled = event.Pending
	}

	if update != nil {
		c.Send(*update, before, w, settled)
		return true
	}

	if settled != event.Pending {
		c.Settled.Add(w.Latest.File, settled, w.Latest.Version.Row)
	}

	c.Change.Workers[employee] = w

	return true
}

// reason returns why an update of an unresolved worker is published; lost says that the broker's store was lost.
func reason(w latest.Worker, user string, lost bool) event.Reason {
	switch {
	case lost:
		return event.ReasonRecovery
	case w.Unmapped, w.Sent != nil && w.Sent.User != user:
		return event.ReasonMapped
	default:
		return event.ReasonEvent
	}
}

// Commit asks the guard, saves what is held and what is about to be published, publishes it, and saves that it was
// published. In this order, a crash in between repeats work and changes nothing else. An update may only come from an
// event that was saved before.
func (r *Roster) Commit(ctx context.Context, c *Changeset) error {
	answer := r.hold(c)
	first := store.Change{Workers: c.intents}
	if answer != nil {
		first.Guard = &answer.Save
	}

	if len(c.Updates) > 0 {
		if err := r.Guard(ctx); err != nil {
			return err
		}
	}

	if err := r.Save(ctx, first); err != nil {
		return err
	}

	if answer != nil {
		r.Holds.Report(answer, r.Metrics.Unusual)
	}

	c.sort()

	if len(c.Updates) > 0 {
		if err := r.Hit(); err != nil {
			return err
		}
	}

	if err := r.Out.Updates(ctx, c.Updates); err != nil {
		return err
	}

	r.Metrics.UpdatesPublished(len(c.Updates))

	if len(c.Settled) > 0 {
		if err := r.Hit(); err != nil {
			return err
		}
	}

	if err := r.Out.Acks(ctx, c.Settled.acks(outbox.Name)); err != nil {
		return err
	}

	for k, rows := range c.Settled {
		r.Metrics.RowsSettled(k.outcome, rows.Len())
	}

	if len(c.Updates) > 0 {
		ctx = context.WithoutCancel(ctx) // otherwise they would be published again at the next start
	}

	return r.Save(ctx, c.Change)
}

// Save saves a change and notes what is left to do.
func (r *Roster) Save(ctx context.Context, change store.Change) error {
	if change.Empty() {
		return nil
	}

	if err := r.Hit(); err != nil {
		return err
	}

	if err := r.Store.Save(ctx, change); err != nil {
		return err
	}

	if change.Guard != nil {
		r.Holds.Apply(*change.Guard)
	}

	for employee, w := range change.Workers {
		r.note(employee, w)
	}

	r.Holds.Noted()

	if change.Recovered {
		r.Recovered = true
		r.Stats.SetRecovered(true)
	}

	return nil
}

// note records what is left to do for a worker, as it was saved.
func (r *Roster) note(employee string, w latest.Worker) {
	r.Stats.Note(employee, w)
	r.Holds.Note(employee, w)
	r.noteUnresolved(employee, w)

	if w.InDoubt != 0 {
		r.InDoubt[strings.Clone(employee)] = w.InDoubt
	} else {
		delete(r.InDoubt, employee)
	}

	for id, left := range r.Replaying {
		if id != w.Replay {
			delete(left, employee)
		}
	}

	if w.Replay != "" {
		if r.Replaying[w.Replay] == nil {
			r.Replaying[w.Replay] = map[string]struct{}{}
		}

		r.Replaying[w.Replay][strings.Clone(employee)] = struct{}{}
	}
}

func (r *Roster) noteUnresolved(employee string, w latest.Worker) {
	if !w.Unresolved || w.Hold != nil {
		delete(r.Unresolved, employee)
		return
	}

	u := r.Unresolved[employee]
	if u == nil {
		u = &Unresolved{Until: r.Backlog, Lot: r.Lot}
		r.Unresolved[strings.Clone(employee)] = u // it may share the memory of a whole message
	}

	u.File, u.Rank, u.Replaces, u.Queued, u.record = w.Latest.File, w.Latest.Version.Rank, w.Unconfirmed() && !w.Sending, false, nil
	if len(r.Unresolved) <= maxRecords {
		u.record = &w
	}
}
