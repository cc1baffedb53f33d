// Package release publishes what follows from the latest events of workers, as soon as the entries that concern them
// are read and AtHoc has room; see package coalesce.
package release

import (
	"context"
	"maps"
	"time"

	"bobosync/services/resolver/internal/coalesce"
	"bobosync/services/resolver/internal/demand"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
)

// silence is the time without entries after which no more are expected of a file that was read in part, or of a
// backlog. The rest of a file that changed while it was read never arrives.
const silence = 10 * time.Second

// lotGap is the corresponding time for the rest of a lot of files: the end of a lot is not announced if its last files
// have no entries.
const lotGap = 2 * time.Second

// Releaser publishes for the workers of a roster. Callers of its methods must hold the roster's lock.
type Releaser struct {
	roster *roster.Roster
	meter  *demand.Meter
	// partial has the files that were read in part, and when the last part of each arrived.
	partial map[string]time.Time
	// ahead is as in coalesce.Entries.
	ahead map[string]bool
	// read and behind are as in coalesce.Entries, and came is when the last entries arrived.
	read   uint64
	behind bool
	came   time.Time
	// due: something has changed since all unresolved workers were last checked.
	due bool
	// queue has the workers who waited for room at that check and have not been taken since.
	queue *coalesce.Queue
}

// New returns a releaser for the session that begins.
func New(r *roster.Roster, meter *demand.Meter) *Releaser {
	return &Releaser{roster: r, meter: meter, partial: map[string]time.Time{}, ahead: map[string]bool{}, due: true, queue: coalesce.NewQueue(nil)}
}

// Part notes that a part of a file was read. last: it was the last part. ahead: files that lay in the input directory
// with it come next.
func (x *Releaser) Part(file string, last, ahead bool) {
	switch {
	case !last:
		x.partial[file] = time.Now()
		return
	case ahead:
		x.ahead[file] = true
	default:
		clear(x.ahead)
		x.roster.Lot++
	}

	delete(x.partial, file)
}

// Reached notes how far the entries have been read, and how many are left to read. It must be called before the workers
// are saved.
func (x *Releaser) Reached(sequence, left uint64) {
	x.read, x.behind, x.came = max(x.read, sequence), left > 0, time.Now()
	x.roster.Backlog = x.read + left
	x.due = true
}

// Wake makes the next Due or Release check all unresolved workers again, because some were let through.
func (x *Releaser) Wake() { x.due = true }

// Soon reports whether workers wait for room and there may be some soon (see demand.Meter.Soon).
func (x *Releaser) Soon() bool { return x.queue.Len() > 0 && x.meter.Soon() }

// entries returns how far the entries have been read.
func (x *Releaser) entries() coalesce.Entries {
	x.behind = x.behind && time.Since(x.came) < silence
	maps.DeleteFunc(x.partial, func(_ string, came time.Time) bool { return time.Since(came) >= silence })

	if time.Since(x.came) >= lotGap {
		clear(x.ahead)
	}

	e := coalesce.Entries{
		Read: x.read, Behind: x.behind, Partial: make(map[string]bool, len(x.partial)), Ahead: x.ahead, Lot: x.roster.Lot,
	}
	for file := range x.partial {
		e.Partial[file] = true
	}

	return e
}

// Due does what is due without a batch of entries, because there is room, or because the rest of a file has not arrived
// for long.
func (x *Releaser) Due(ctx context.Context) (*roster.Changeset, error) {
	partial, ahead, behind := len(x.partial), len(x.ahead), x.behind
	e := x.entries()
	if x.due = x.due || len(e.Partial) != partial || len(e.Ahead) != ahead || e.Behind != behind; !x.due && x.queue.Len() == 0 {
		c := roster.NewChangeset()
		return &c, nil
	}

	return x.release(ctx)
}

// Release publishes for all workers who wait for nothing else, up to the room that there is, and returns what it
// published.
func (x *Releaser) Release(ctx context.Context) (*roster.Changeset, error) {
	x.due = true
	return x.release(ctx)
}

func (x *Releaser) release(ctx context.Context) (*roster.Changeset, error) {
	c := roster.NewChangeset()
	if !x.roster.MayPublish() {
		x.due = true
		return &c, nil
	}

	err := x.roster.View(func(v store.View) error {
		if x.due {
			if err := x.resolve(v, &c); err != nil {
				return err
			}
		}

		return x.sendSome(ctx, v, &c)
	})
	if err == nil {
		err = x.roster.Commit(ctx, &c)
	}

	if err != nil {
		x.due = true
		return &c, err
	}

	x.meter.Take(len(c.Updates))

	if len(x.roster.Unresolved) == 0 {
		x.roster.HoldOff = time.Time{}
	}

	return &c, nil
}

// resolve decides for all workers who wait for no more entries, and queues those who wait for room.
func (x *Releaser) resolve(v store.View, c *roster.Changeset) error {
	var candidates []coalesce.Candidate
	e := x.entries()
	x.due = false
	for employee, u := range x.roster.Unresolved {
		if !u.Queued {
			if e.Holds(u.File, u.Until, u.Lot) {
				continue
			}

			w, err := x.roster.Worker(v, employee)
			if err != nil {
				return err
			}

			if x.roster.Resolve(c, employee, w, u.Replaces) {
				continue
			}

			u.Queued = true
		}

		candidates = append(candidates, coalesce.Candidate{Employee: employee, Rank: u.Rank})
	}

	x.queue = coalesce.NewQueue(candidates)

	return nil
}

// sendSome adds the updates of queued workers, as many as there is room for.
func (x *Releaser) sendSome(ctx context.Context, v store.View, c *roster.Changeset) error {
	if x.queue.Len() == 0 {
		return nil
	}

	room, err := x.meter.Room(ctx, x.queue.Len()+len(c.Updates))
	if err != nil {
		return err
	}

	for _, one := range x.queue.Take(room - len(c.Updates)) {
		if u := x.roster.Unresolved[one.Employee]; u == nil || !u.Queued {
			x.due = x.due || u != nil // the worker has changed meanwhile, and must be checked again
			continue
		}

		w, err := x.roster.Worker(v, one.Employee)
		if err != nil {
			return err
		}

		x.roster.Resolve(c, one.Employee, w, true)
	}

	return nil
}
