// Package replay resends statuses when an operator orders it.
package replay

import (
	"context"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/resolver/internal/demand"
	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/control"
	"bobosync/shared/event"
)

// Replayer replays the statuses of a roster's workers, in parts as there is room, so that a new event never waits for
// the whole replay.
type Replayer struct {
	js     jetstream.JetStream
	roster *roster.Roster
	meter  *demand.Meter
}

// New returns a replayer for a new session.
func New(js jetstream.JetStream, r *roster.Roster, meter *demand.Meter) *Replayer {
	return &Replayer{js: js, roster: r, meter: meter}
}

// Begin marks the chosen workers. From then on the replay continues across restarts.
func (p *Replayer) Begin(ctx context.Context, req control.ReplayRequest) (control.ReplayState, error) {
	chosen, err := choose(ctx, p.js, req)
	if err != nil {
		return control.ReplayState{}, err
	}

	r := p.roster
	r.Lock()
	defer r.Unlock()

	if !r.Recovered {
		return control.ReplayState{}, roster.ErrRebuilding
	}

	state := control.ReplayState{
		ID: uuid.Must(uuid.NewV7()).String(), By: req.By, What: chosen.what, Started: r.Now().UTC(), Entries: chosen.entries,
	}
	workers := map[string]latest.Worker{}

	err = r.View(func(v store.View) error {
		return v.EachWorker(ctx, func(employee string, w latest.Worker) error {
			user := r.Mapping().User(employee)
			if user == "" || !w.Known() || !chosen.takes(employee, user, w) {
				return nil
			}

			if w.Hold != nil { // a person decides whether it is sent
				state.Held++
				return nil
			}

			w.Replay = state.ID
			workers[employee] = w

			return nil
		})
	})
	state.Users, state.Left = len(workers), len(workers)
	if err != nil || req.DryRun {
		return state, err
	}

	if len(workers) == 0 {
		state.Ended = state.Started
	}

	if err := r.Save(ctx, store.Change{Workers: workers, Replay: &state}); err != nil {
		return state, err
	}

	r.Log.Info("replay begins", "replay", state.ID, "by", state.By, "what", state.What, "users", state.Users)

	return state, nil
}

// Forecast returns what a replay would send, and marks no worker. A choice by EntriesSince has no forecast, since
// reading those entries takes long.
func (p *Replayer) Forecast(ctx context.Context, req control.ReplayRequest) (control.ReplayState, error) {
	if req.DryRun || !req.EntriesSince.IsZero() {
		return control.ReplayState{}, nil
	}

	req.DryRun = true

	return p.Begin(ctx, req)
}

// Next publishes the next part of each replay, if there is room for it.
func (p *Replayer) Next(ctx context.Context) error {
	p.roster.Lock()
	defer p.roster.Unlock()

	if !p.roster.MayPublish() || len(p.roster.Replaying) == 0 {
		return nil
	}

	for id, left := range p.roster.Replaying {
		room, err := p.meter.Spare(ctx)
		if err != nil || room == 0 && len(left) > 0 {
			return err
		}

		if err := p.next(ctx, id, left, room); err != nil {
			return err
		}
	}

	return nil
}

func (p *Replayer) next(ctx context.Context, id string, left map[string]struct{}, room int) error {
	r, c := p.roster, roster.NewChangeset()

	err := r.View(func(v store.View) error {
		for employee := range left {
			if len(c.Change.Workers) == room {
				break
			}

			w, err := r.Worker(v, employee)
			if err != nil {
				return err
			}

			if w.Unresolved {
				continue // a newer event is being resolved, and is sent by itself, once
			}

			sent := c.Again(w, func(w *latest.Worker) *event.Update {
				return w.Again(employee, r.Mapping().User(employee), event.ReasonReplay, r.Now(), r.Rules)
			})
			if !sent {
				w.Replay = ""
				c.Change.Workers[employee] = w
			}
		}

		return nil
	})
	if err != nil {
		return err
	}

	done := len(c.Change.Workers) == len(left)
	if done {
		if c.Change.Replay, err = p.end(id, false); err != nil {
			return err
		}
	}

	if err := r.Commit(ctx, &c); err != nil {
		return err
	}

	p.meter.Take(len(c.Updates))

	if done {
		delete(r.Replaying, id)
		r.Log.Info("replay is published", "replay", id)
	}

	return nil
}

// end returns the record of a replay that ends now; nil if the record was dropped because so many replays were begun
// since.
func (p *Replayer) end(id string, stopped bool) (*control.ReplayState, error) {
	all, err := p.roster.Store.Replays()
	if err != nil {
		return nil, err
	}

	for _, state := range all {
		if state.ID == id {
			state.Ended, state.Stopped, state.Left = p.roster.Now().UTC(), stopped, 0
			if stopped {
				state.Left = len(p.roster.Replaying[id])
			}

			return &state, nil
		}
	}

	return nil, nil
}

// Stop cancels what a replay has not published yet.
func (p *Replayer) Stop(ctx context.Context, req control.StopRequest) (control.ReplayState, error) {
	r := p.roster
	r.Lock()
	defer r.Unlock()

	var id string
	for running := range r.Replaying {
		if req.ID != "" && strings.HasPrefix(running, req.ID) && len(r.Replaying[running]) > 0 {
			if id != "" {
				return control.ReplayState{}, control.Refuse("several replays begin with %q: name one whole", req.ID)
			}

			id = running
		}
	}

	if id == "" {
		return control.ReplayState{}, control.Refuse("no replay %q is under way", req.ID)
	}

	state, err := p.end(id, true)
	if err != nil {
		return control.ReplayState{}, err
	}

	if state == nil {
		state = &control.ReplayState{ID: id, Stopped: true, Ended: r.Now().UTC(), Left: len(r.Replaying[id])}
	}

	change := store.Change{Workers: map[string]latest.Worker{}, Replay: state}

	err = r.View(func(v store.View) error {
		for employee := range r.Replaying[id] {
			w, err := r.Worker(v, employee)
			if err != nil {
				return err
			}

			w.Replay = ""
			change.Workers[employee] = w
		}

		return nil
	})
	if err != nil {
		return control.ReplayState{}, err
	}

	if err := r.Save(ctx, change); err != nil {
		return control.ReplayState{}, err
	}

	delete(r.Replaying, id)
	r.Log.Info("replay is stopped", "replay", id, "by", req.By, "not_published", state.Left)

	return *state, nil
}

// List returns the replays that are kept, newest first.
func (p *Replayer) List() ([]control.ReplayState, error) {
	p.roster.Lock()
	defer p.roster.Unlock()

	all, err := p.roster.Store.Replays()
	if all == nil {
		all = []control.ReplayState{} // not nil, which JSON would write as null
	}

	for i := range all {
		if all[i].Ended.IsZero() {
			all[i].Left = len(p.roster.Replaying[all[i].ID])
		}
	}

	return all, err
}

// Requeue tries a dead update again. If a newer event of the worker has won meanwhile, its row is superseded.
func (p *Replayer) Requeue(ctx context.Context, req control.RequeueRequest) (control.RequeueAnswer, error) {
	r := p.roster
	r.Lock()
	defer r.Unlock()

	if !r.MayPublish() {
		return control.RequeueAnswer{}, roster.ErrRebuilding
	}

	c := roster.NewChangeset()

	answer, err := p.again(req.Update, &c)
	if err != nil {
		return answer, err
	}

	return answer, r.Commit(ctx, &c)
}

// ForecastRequeue returns what Requeue would do.
func (p *Replayer) ForecastRequeue(_ context.Context, req control.RequeueRequest) (control.RequeueAnswer, error) {
	r := p.roster
	r.Lock()
	defer r.Unlock()

	if !r.MayPublish() {
		return control.RequeueAnswer{}, roster.ErrRebuilding
	}

	c := roster.NewChangeset()

	return p.again(req.Update, &c)
}

// again decides what becomes of a dead update. The caller must hold the roster's lock.
func (p *Replayer) again(u event.Update, c *roster.Changeset) (answer control.RequeueAnswer, err error) {
	r := p.roster

	if u.Employee == "" || u.File == "" {
		return answer, control.Refuse("it comes from no file's row: the janitor looks for stale duty by itself, so it can be dropped")
	}

	err = r.View(func(v store.View) error {
		w, err := r.Worker(v, u.Employee)
		if err != nil {
			return err
		}

		if !w.Known() {
			return control.Refuse("nothing is known of this worker any more: copy the file into the input directory again")
		}

		if w.Hold != nil {
			return control.Refuse("this worker is part of a mass change that is held: decide about that first, see bobosync held list")
		}

		if w.Latest.File != u.File || w.Latest.Version.Row != u.Version.Row {
			answer.Superseded = true
			c.Settled.Add(u.File, event.Superseded, u.Version.Row)
			return nil
		}

		sent := c.Again(w, func(w *latest.Worker) *event.Update {
			return w.Again(u.Employee, r.Mapping().User(u.Employee), event.ReasonReplay, r.Now(), r.Rules)
		})
		if !sent {
			return control.Refuse("no AtHoc user has this worker's employee id now")
		}

		if w.Latest.On && !c.Updates[0].On {
			// The duty has become stale meanwhile: AtHoc is sent off duty, which is not what the row says.
			c.Settled.Add(u.File, event.Expired, u.Version.Row)
		}

		return nil
	})

	return answer, err
}
