package resolver

import (
	"context"
	"errors"
	"time"

	"bobosync/services/resolver/internal/memory"
	"bobosync/shared/bus"
	"bobosync/shared/event"
)

// clockLook is how often it is looked for what has fallen due.
const clockLook = 100 * time.Millisecond

// watchClock does what falls due without a message: it ends holds, repeats what is unsure and goes on with
// replays.
func (r *resolver) watchClock(ctx context.Context, conn *bus.Conn) {
	ticker := time.NewTicker(clockLook)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := errors.Join(r.endHold(ctx), r.repeatUnsure(ctx), r.goOnReplaying(ctx, conn.JS)); err != nil && ctx.Err() == nil {
			r.log.Warn("what has fallen due could not be published, trying again", "error", err)
		}
	}
}

// repeatUnsure sends the last status once more of the workers for whom AtHoc may have worked on a call that was given up.
func (r *resolver) repeatUnsure(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mayPublish() || len(r.unsure) == 0 {
		return nil
	}
	o := newOutcome(rowBook{})
	now := r.now()
	err := r.memory.View(func(v memory.View) error {
		for employee, until := range r.unsure {
			if now.Unix() < until {
				continue
			}
			if err := r.repeat(v, &o, employee, now); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(o.change.Workers) == 0 {
		return err
	}
	o.sort()
	if err := r.publish(ctx, o); err != nil {
		return err
	}
	if len(o.updates) > 0 {
		r.log.Info("statuses are sent once more, since AtHoc may have been late with an older one", "users", len(o.updates))
	}
	return nil
}

// repeat sends a worker's last status once more. If the user that it went to is another worker's by now, that worker's is sent: it
// is that which the late call may have overwritten.
func (r *resolver) repeat(v memory.View, o *outcome, employee string, now time.Time) error {
	w, err := v.Worker(employee)
	if err != nil || w.Dirty {
		return err // what was sent last may be newer than the memory says; it is resolved first
	}
	before := w
	u := w.Repeat(employee, now)
	if u == nil {
		o.change.Workers[employee] = w
		return nil
	}
	holder := r.directory.Load().employee(u.User)
	if holder == "" || holder == employee {
		o.send(*u, before, w)
		return nil
	}
	present, err := v.Worker(holder)
	if err != nil || present.Dirty {
		return err
	}
	before.Unsure = 0
	o.change.Workers[employee] = before
	if _, sent := o.change.Workers[holder]; sent {
		return nil
	}
	before = present
	if u := again(&present, holder, v.User(holder), event.ReasonRepeat, now, r.rules); u != nil {
		o.send(*u, before, present)
	}
	return nil
}

// endHold ends a hold that no further batch ends: the rest of a file may not come for long.
func (r *resolver) endHold(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mayPublish() || r.held.IsZero() || r.readsOn() && time.Since(r.held) < holdMost {
		return nil
	}
	reason := event.ReasonEvent
	if !r.quiet.IsZero() {
		reason = event.ReasonRecovery
	}
	o, err := r.resolveDirty(ctx, nil, reason)
	if err != nil {
		return err
	}
	r.quiet = time.Time{}
	r.log.Info("held entries resolved", "updates", len(o.updates), "rows_settled", o.settled.count(), "held_workers", len(r.dirty))
	return nil
}
