package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"bobosync/cmd/athocsim/sim"
)

// step is an action at a moment counted from the start.
type step struct {
	at time.Duration
	do func() error
}

// perform plays the plan. It returns when all files are confirmed, or when they should have been, and gives the moment
// from which files could be dropped.
func (d *demo) perform(ctx context.Context, s *services) (began time.Time, err error) {
	ticker := time.NewTicker(drawInterval)
	defer ticker.Stop()

	if err := d.untilMapped(ctx, s, ticker.C); err != nil {
		return began, err
	}

	if err := d.meddle(); err != nil {
		return began, err
	}

	began = time.Now()
	d.watch = newWatch(d.dirs, len(d.plan.files))
	steps := d.steps()
	var giveUp time.Time

	timer := time.NewTimer(0)
	defer timer.Stop()

	for {
		select {
		case <-ctx.Done():
			return began, ctx.Err()
		case <-s.ended:
			return began, s.failed()
		case <-ticker.C:
		case <-timer.C:
		}

		for ; len(steps) > 0 && time.Since(began) >= steps[0].at; steps = steps[1:] {
			if err := steps[0].do(); err != nil {
				return began, err
			}

			giveUp = time.Now().Add(confirmTimeout)
		}

		if len(steps) > 0 {
			timer.Reset(time.Until(began.Add(steps[0].at)))
		}

		waiting, err := d.count()
		if err != nil {
			return began, err
		}

		d.recover(time.Now())

		switch {
		case len(steps) > 0:
		case waiting == 0:
			d.say("all files are confirmed")
			return began, nil
		case time.Now().After(giveUp):
			d.say("%d files are still not confirmed %s after the last one was dropped: giving up", waiting, confirmTimeout)
			return began, nil
		}
	}
}

// untilMapped waits until the services have read AtHoc's users.
func (d *demo) untilMapped(ctx context.Context, s *services, look <-chan time.Time) error {
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()

	for d.tally.get().fetched < len(d.plan.users()) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ended:
			return s.failed()
		case <-timer.C:
			return fmt.Errorf("the services have not asked AtHoc for its users within %s", startTimeout)
		case <-look:
		}
	}

	d.say("the janitor has read AtHoc's users; files begin to come")

	return nil
}

// meddle causes trouble for single users: it removes some from AtHoc, and forbids writing others.
func (d *demo) meddle() error {
	if _, err := d.sim.RemoveUsers(d.plan.logins(removed)...); err != nil {
		return fmt.Errorf("remove a user from AtHoc: %w", err)
	}

	if _, err := d.sim.AddFault(sim.Fault{Kind: sim.FaultDenyUser, Users: d.plan.logins(forbidden)}); err != nil {
		return fmt.Errorf("forbid a user in AtHoc: %w", err)
	}

	return nil
}

// steps returns the plan's actions in the order of their times.
func (d *demo) steps() []step {
	steps := []step{{d.plan.outageAt, d.fail}}
	for i := range d.plan.files {
		f := &d.plan.files[i]
		if len(f.pieces) == 0 {
			steps = append(steps, step{f.at, func() error { return d.drop(f) }})
			continue
		}

		from := 0
		for n, size := range f.pieces {
			steps = append(steps, step{f.at + time.Duration(n)*pieceInterval, d.grow(f, from, from+size)})
			from += size
		}
	}

	slices.SortStableFunc(steps, func(a, b step) int { return int(a.at - b.at) })

	return steps
}

// outage is AtHoc's outage while it lasts.
type outage struct {
	fault int
	until time.Time
}

// fail makes AtHoc answer 503 until recover ends that.
func (d *demo) fail() error {
	fault, err := d.sim.AddFault(sim.Fault{Kind: sim.FaultStatus, Status: http.StatusServiceUnavailable})
	if err != nil {
		return fmt.Errorf("begin AtHoc's outage: %w", err)
	}

	d.outage = &outage{fault: fault.ID, until: time.Now().Add(d.plan.outage)}

	d.say("AtHoc goes down: it answers 503 for %s", d.plan.outage)

	return nil
}

// recover ends the outage when its time is over, but not before a call has failed: on a busy machine there may have
// been none yet.
func (d *demo) recover(now time.Time) {
	if d.outage == nil || now.Before(d.outage.until) || d.tally.get().first.IsZero() {
		return
	}

	d.sim.ClearFault(d.outage.fault)
	d.outage = nil
}

// drop puts a whole file into the input directory.
func (d *demo) drop(f *file) error {
	staged := filepath.Join(d.dirs.staging(), f.name)
	if err := os.WriteFile(staged, f.text, 0o600); err != nil {
		return fmt.Errorf("write a file to drop: %w", err)
	}

	if err := os.Rename(staged, filepath.Join(d.dirs.input(), f.name)); err != nil {
		return fmt.Errorf("drop a file: %w", err)
	}

	if f.kind != ordinary {
		d.say("%s: %s", f.name, f.kind)
	}

	d.dropped(f)

	return nil
}

// dropped records that a file is complete. Files are read in the order in which they become complete.
func (d *demo) dropped(f *file) { d.watch.dropped(f, d.judge.read(f.text)) }

// grow returns the action that appends a piece of a file in the input directory.
func (d *demo) grow(f *file, from, to int) func() error {
	return func() error {
		if from == 0 {
			d.say("%s: %s", f.name, f.kind)
		}

		file, err := os.OpenFile(filepath.Join(d.dirs.input(), f.name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("write a growing file: %w", err)
		}

		_, err = file.Write(f.text[from:to])
		if err := errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("write a growing file: %w", err)
		}

		if to == len(f.text) {
			d.say("%s: whole now", f.name)
			d.dropped(f)
		}

		return nil
	}
}

// count updates the progress and shows it. It returns the number of dropped files that are not confirmed yet.
func (d *demo) count() (waiting int, err error) {
	now := time.Now()

	if err := d.watch.look(); err != nil {
		return 0, err
	}

	calls := d.tally.get()
	for _, text := range d.watch.news(calls) {
		d.say("%s", text)
	}

	d.screen.draw(d.watch.view(calls, now))

	return len(d.watch.waiting), nil
}

// say shows an event.
func (d *demo) say(format string, args ...any) { d.screen.event(fmt.Sprintf(format, args...)) }
