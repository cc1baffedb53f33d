package resolver

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/memory"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// A replay publishes in parts, and only while few updates wait, so that an event of now never waits behind all of it.
const (
	replayPart    = 2000
	replayBacklog = 1000
)

// errReading refuses what needs a memory that is complete, and a store that can be relied on.
var errReading = control.Refuse("the resolver is still making good what was lost; try again in a minute")

// endpoints are what operators can ask the resolver for.
func (r *resolver) endpoints(conn *bus.Conn) []control.Endpoint {
	return []control.Endpoint{
		control.On(control.Replay, func(ctx context.Context, req control.ReplayRequest) (control.ReplayState, error) {
			return r.beginReplay(ctx, conn.JS, req)
		}),
		control.On(control.Replays, func(context.Context, control.Nothing) ([]control.ReplayState, error) { return r.replays() }),
		control.On(control.StopReplay, func(_ context.Context, req control.StopRequest) (control.ReplayState, error) {
			return r.stopReplay(req)
		}),
		control.On(control.Requeue, r.requeue),
		control.On(control.Observe, r.observe),
		control.On(control.MappingList, r.listMapping),
		control.On(control.WorkerShow, func(ctx context.Context, req control.WorkerRequest) (control.WorkerAnswer, error) {
			return r.showWorker(ctx, conn.JS, req)
		}),
		control.OnEvery(control.State, r.state),
	}
}

// choice is how the workers of a replay are chosen.
type choice struct {
	what  string
	takes func(employee, user string, w latest.Worker) bool
	// entries counts the entries that were read to choose.
	entries int
}

// choose makes a choice of a request.
func (r *resolver) choose(ctx context.Context, js jetstream.JetStream, req control.ReplayRequest) (choice, error) {
	ways := 0
	for _, set := range []bool{
		req.All, !req.Since.IsZero(), len(req.Workers) > 0, len(req.Users) > 0, req.File != "", !req.EntriesSince.IsZero(),
	} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		return choice{}, control.Refuse("choose the workers in exactly one way; %d were given", ways)
	}
	switch {
	case req.All:
		return choice{what: "everyone", takes: func(string, string, latest.Worker) bool { return true }}, nil
	case !req.Since.IsZero():
		since := req.Since.Unix()
		return choice{what: "changed since " + req.Since.Format(time.RFC3339), takes: func(_, _ string, w latest.Worker) bool {
			return w.Latest.At >= since || w.Confirmed != nil && w.Confirmed.Answered >= since
		}}, nil
	case len(req.Workers) > 0:
		return choice{what: fmt.Sprintf("%d workers", len(req.Workers)), takes: func(employee, _ string, _ latest.Worker) bool {
			return slices.Contains(req.Workers, employee)
		}}, nil
	case len(req.Users) > 0:
		users := map[string]bool{}
		for _, u := range req.Users {
			users[topology.NormalUsername(u)] = true
		}
		return choice{what: fmt.Sprintf("%d users", len(users)), takes: func(_, user string, _ latest.Worker) bool {
			return users[topology.NormalUsername(user)]
		}}, nil
	case req.File != "":
		return r.chooseByEntries(ctx, js, "file "+req.File[:min(len(req.File), 12)], jetstream.OrderedConsumerConfig{
			FilterSubjects: []string{topology.EntriesSubject(req.File)},
		}, func(w latest.Worker) bool { return w.Latest.File == req.File })
	default:
		return r.chooseByEntries(ctx, js, "entries since "+req.EntriesSince.Format(time.RFC3339), jetstream.OrderedConsumerConfig{
			DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &req.EntriesSince,
		}, func(latest.Worker) bool { return false })
	}
}

// chooseByEntries takes the workers who have one of the entries that the broker still keeps, and those for whom also says so.
func (r *resolver) chooseByEntries(ctx context.Context, js jetstream.JetStream, what string, from jetstream.OrderedConsumerConfig,
	also func(latest.Worker) bool,
) (choice, error) {
	employees := map[string]bool{}
	entries := 0
	err := each(ctx, js, topology.StreamEntries, from, func(data []byte, subject string) {
		var m event.Entries
		if subject == topology.SubjectRecovered || event.Decode(data, &m) != nil {
			return
		}
		entries += len(m.Entries)
		for _, e := range m.Entries {
			employees[e.Employee] = true
		}
	})
	if err != nil {
		return choice{}, err
	}
	return choice{what: what, entries: entries, takes: func(employee, _ string, w latest.Worker) bool {
		return employees[employee] || also(w)
	}}, nil
}

// beginReplay marks the chosen workers, in one transaction; from then on the replay goes on over restarts.
func (r *resolver) beginReplay(ctx context.Context, js jetstream.JetStream, req control.ReplayRequest) (control.ReplayState, error) {
	chosen, err := r.choose(ctx, js, req)
	if err != nil {
		return control.ReplayState{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.recovered {
		return control.ReplayState{}, errReading
	}
	state := control.ReplayState{
		ID: uuid.Must(uuid.NewV7()).String(), By: req.By, What: chosen.what, Started: r.now().UTC(), Entries: chosen.entries,
	}
	workers := map[string]latest.Worker{}
	err = r.memory.View(func(v memory.View) error {
		return v.EachWorker(func(employee string, w latest.Worker) error {
			user := v.User(employee)
			if user == "" || !w.Known() || !chosen.takes(employee, user, w) {
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
	if err := r.memory.Save(memory.Change{Workers: workers, Replay: &state}); err != nil {
		return state, err
	}
	for employee, w := range workers {
		r.note(employee, w)
	}
	r.log.Info("replay begins", "replay", state.ID, "by", state.By, "what", state.What, "users", state.Users)
	return state, nil
}

// goOnReplaying publishes the next part of each replay, if few updates wait.
func (r *resolver) goOnReplaying(ctx context.Context, js jetstream.JetStream) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mayPublish() || len(r.replaying) == 0 {
		return nil
	}
	waiting, err := waitingUpdates(ctx, js)
	if err != nil || waiting >= replayBacklog {
		return err
	}
	for id, left := range r.replaying {
		if err := r.replayNext(ctx, id, left); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) replayNext(ctx context.Context, id string, left map[string]struct{}) error {
	o := newOutcome(rowBook{})
	err := r.memory.View(func(v memory.View) error {
		for employee := range left {
			if len(o.change.Workers) == replayPart {
				break
			}
			w, err := v.Worker(employee)
			if err != nil {
				return err
			}
			if w.Dirty {
				continue // a newer event is being resolved: it is sent by itself, once
			}
			before := w
			if u := again(&w, employee, v.User(employee), event.ReasonReplay, r.now(), r.rules); u != nil {
				o.send(*u, before, w)
				continue
			}
			o.change.Workers[employee] = w
		}
		return nil
	})
	if err != nil {
		return err
	}
	done := len(o.change.Workers) == len(left)
	if done {
		if o.change.Replay, err = r.endReplay(id, false); err != nil {
			return err
		}
	}
	o.sort()
	if err := r.publish(ctx, o); err != nil {
		return err
	}
	if done {
		delete(r.replaying, id)
		r.log.Info("replay is published", "replay", id)
	}
	return nil
}

// again returns the update that tells AtHoc a worker's status once more. What AtHoc answered before counts no longer: who
// asks for it doubts that AtHoc still holds it, and if the update is lost with the broker's store it must be made again.
func again(w *latest.Worker, employee, user string, reason event.Reason, now time.Time, rules latest.Rules) *event.Update {
	u := w.Again(employee, user, reason, now, rules)
	if u != nil {
		w.Confirmed = nil
	}
	return u
}

// endReplay returns the record of a replay that ends now; nil if so many replays were begun since that it is forgotten.
func (r *resolver) endReplay(id string, stopped bool) (*control.ReplayState, error) {
	all, err := r.memory.Replays()
	if err != nil {
		return nil, err
	}
	for _, state := range all {
		if state.ID == id {
			state.Ended, state.Stopped, state.Left = r.now().UTC(), stopped, 0
			if stopped {
				state.Left = len(r.replaying[id])
			}
			return &state, nil
		}
	}
	return nil, nil
}

// stopReplay takes back what a replay has not published yet.
func (r *resolver) stopReplay(req control.StopRequest) (control.ReplayState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var id string
	for running := range r.replaying {
		if req.ID != "" && strings.HasPrefix(running, req.ID) && len(r.replaying[running]) > 0 {
			if id != "" {
				return control.ReplayState{}, control.Refuse("several replays begin with %q: name one whole", req.ID)
			}
			id = running
		}
	}
	if id == "" {
		return control.ReplayState{}, control.Refuse("no replay %q is under way", req.ID)
	}
	state, err := r.endReplay(id, true)
	if err != nil {
		return control.ReplayState{}, err
	}
	if state == nil {
		state = &control.ReplayState{ID: id, Stopped: true, Ended: r.now().UTC(), Left: len(r.replaying[id])}
	}
	change := memory.Change{Workers: map[string]latest.Worker{}, Replay: state}
	err = r.memory.View(func(v memory.View) error {
		for employee := range r.replaying[id] {
			w, err := v.Worker(employee)
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
	if err := r.memory.Save(change); err != nil {
		return control.ReplayState{}, err
	}
	delete(r.replaying, id)
	r.log.Info("replay is stopped", "replay", id, "by", req.By, "not_published", state.Left)
	return *state, nil
}

// replays tells of the replays that are remembered.
func (r *resolver) replays() ([]control.ReplayState, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	all, err := r.memory.Replays()
	if all == nil {
		all = []control.ReplayState{} // JSON's null is no list
	}
	for i := range all {
		if all[i].Ended.IsZero() {
			all[i].Left = len(r.replaying[all[i].ID])
		}
	}
	return all, err
}

// requeue tries an update that died once more. If a newer event of the worker has won meanwhile, its row is superseded.
func (r *resolver) requeue(ctx context.Context, req control.RequeueRequest) (control.RequeueAnswer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mayPublish() {
		return control.RequeueAnswer{}, errReading
	}
	u := req.Update
	if u.Employee == "" || u.File == "" {
		return control.RequeueAnswer{}, control.Refuse("it comes from no file's row: the janitor looks for stale duty by itself, so it can be dropped")
	}
	o := newOutcome(rowBook{})
	answer := control.RequeueAnswer{}
	err := r.memory.View(func(v memory.View) error {
		w, err := v.Worker(u.Employee)
		if err != nil {
			return err
		}
		if !w.Known() {
			return control.Refuse("nothing is known of this worker any more: copy the file into the input directory again")
		}
		if w.Latest.File != u.File || w.Latest.Version.Row != u.Version.Row {
			answer.Superseded = true
			o.settled.add(u.File, event.Superseded, u.Version.Row)
			return nil
		}
		before := w
		update := again(&w, u.Employee, v.User(u.Employee), event.ReasonReplay, r.now(), r.rules)
		if update == nil {
			return control.Refuse("no AtHoc user has this worker's employee id now")
		}
		if w.Latest.On && !update.On {
			// The duty has become stale meanwhile: AtHoc is told that there is none, and that is not what the row says.
			o.settled.add(u.File, event.Expired, u.Version.Row)
		}
		o.send(*update, before, w)
		return nil
	})
	if err != nil {
		return answer, err
	}
	return answer, r.publish(ctx, o)
}

// waitingUpdates counts the updates that no publisher has fetched yet.
func waitingUpdates(ctx context.Context, js jetstream.JetStream) (uint64, error) {
	stream, err := js.Stream(ctx, topology.StreamUpdates)
	if err != nil {
		return 0, fmt.Errorf("look up stream %s: %w", topology.StreamUpdates, err)
	}
	var waiting uint64
	list := stream.ListConsumers(ctx)
	for info := range list.Info() {
		waiting += info.NumPending
	}
	return waiting, list.Err()
}
