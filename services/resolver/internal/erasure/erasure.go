// Package erasure erases what is stored of a worker, for data-protection requests: at the broker, in the state store,
// and, through the janitor, in the journal. What the broker deletes stays in its files until they are rewritten or
// scrubbed (shared/scrub).
package erasure

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/audit"
	"bobosync/shared/control"
	"bobosync/shared/erase"
	"bobosync/shared/topology"
)

// stateStore is the name of the resolver's file where stores are listed.
const stateStore = "resolver.db"

// Eraser erases workers.
type Eraser struct {
	JS     jetstream.JetStream
	Roster *roster.Roster
	// Forget makes the janitor erase a worker from the journal.
	Forget func(context.Context, control.ForgetRequest) (control.ForgetAnswer, error)
}

// Show returns what would be erased.
func (e *Eraser) Show(ctx context.Context, req control.EraseRequest) (control.EraseForecast, error) {
	n, w, err := e.who(req)
	if err != nil {
		return control.EraseForecast{}, err
	}

	v, err := e.collect(ctx, n)
	if err != nil {
		return control.EraseForecast{}, err
	}

	f := control.EraseForecast{Names: v.Names, Found: v.counts(w.Known()), Files: []string{}}
	for _, file := range slices.Sorted(maps.Keys(v.files)) {
		if v.files[file] {
			f.Files = append(f.Files, file)
		}
	}

	if why := e.refusal(v, w); why != nil {
		f.Refused = why.Error()
	}

	return f, nil
}

// Erase erases a worker. If it fails halfway, the same order, given again, completes it.
func (e *Eraser) Erase(ctx context.Context, req control.EraseRequest) (control.EraseAnswer, error) {
	var a control.EraseAnswer
	if strings.TrimSpace(req.Reason) == "" {
		return a, control.Refuse("give a reason for the erasure")
	}

	n, w, err := e.who(req)
	if err != nil {
		return a, err
	}

	v, err := e.collect(ctx, n)
	if err == nil {
		err = e.refusal(v, w)
	}

	if err != nil {
		return a, err
	}

	a.Removed, a.Through = v.counts(w.Known()), v.through
	for _, stream := range slices.Sorted(maps.Keys(v.found)) {
		if err := e.delete(ctx, stream, v.found[stream]); err != nil {
			return a, err
		}
	}

	journal, err := e.Forget(ctx, control.ForgetRequest{Names: v.Names})
	if err != nil {
		return a, fmt.Errorf("take the worker out of the journal (give the order again): %w", err)
	}

	a.Removed[topology.StreamJournal], a.Through[topology.StreamJournal] = journal.Entries, journal.Through
	if a.Redacted, err = audit.Erase(ctx, e.JS, v.Names, control.OrderID(ctx)); err != nil {
		return a, err
	}

	a.Removed[topology.StreamAudit] = a.Redacted

	return a, e.forget(ctx, v)
}

// who returns the worker that the request names, with the usernames known so far, and the worker's state.
func (e *Eraser) who(req control.EraseRequest) (erase.Names, latest.Worker, error) {
	n := erase.Names{Employee: strings.TrimSpace(req.Employee)}
	if n.Employee == "" {
		return n, latest.Worker{}, control.Refuse("name the worker by employee id")
	}

	w, err := e.worker(n.Employee)
	users := slices.Clone(req.Users)
	if w.Sent != nil {
		users = append(users, w.Sent.User)
	}

	if w.Confirmed != nil {
		users = append(users, w.Confirmed.User)
	}

	for _, user := range users {
		if user = strings.TrimSpace(user); user != "" && !slices.Contains(n.Users, user) {
			n.Users = append(n.Users, user)
		}
	}

	return n, w, err
}

func (e *Eraser) worker(employee string) (w latest.Worker, err error) {
	err = e.Roster.View(func(v store.View) error {
		w, err = v.Worker(employee)
		return err
	})

	return w, err
}

// refusal returns why a worker may not be erased now; nil if the worker may.
func (e *Eraser) refusal(v *survey, w latest.Worker) error {
	e.Roster.Lock()
	defer e.Roster.Unlock()
	return e.check(v, w)
}

// check is refusal without the locking. The caller must hold the roster's lock.
func (e *Eraser) check(v *survey, w latest.Worker) error {
	busy := e.Roster.Holds.Groups.Awaits(v.Users) || w.Unresolved || w.Open || w.Sending || w.Unconfirmed() || w.Hold != nil || w.Replay != "" || w.InDoubt != 0
	switch {
	case !e.Roster.MayPublish():
		return roster.ErrRebuilding
	case e.Roster.Mapping().User(v.Employee) != "":
		return errMapped
	case busy:
		return errUnderWay
	}

	return v.refusal
}

// delete deletes messages of a stream, and overwrites them where the broker does so at once.
func (e *Eraser) delete(ctx context.Context, stream string, sequences []uint64) error {
	s, err := e.JS.Stream(ctx, stream)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", stream, err)
	}

	for _, seq := range sequences {
		if err := s.SecureDeleteMsg(ctx, seq); err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return fmt.Errorf("delete a message of %s: %w", stream, err)
		}
	}

	return nil
}

// forget erases the worker from the state store and from memory.
func (e *Eraser) forget(ctx context.Context, v *survey) error {
	r := e.Roster
	r.Lock()
	defer r.Unlock()

	w, err := e.worker(v.Employee)
	if err != nil {
		return err
	}

	if err := e.check(v, w); err != nil {
		return fmt.Errorf("the worker has booked meanwhile: %w", err)
	}

	if err := r.Store.Erase(ctx, v.Names); err != nil {
		return err
	}

	r.Stats.Forget([]string{v.Employee})
	r.Holds.Groups.Erase(v.Names)

	return nil
}
