// Package dead follows operators' orders about dead letters: to try them again, or to drop them. The letters lie in the
// stream DEAD. Only the resolver may remove any, so that none disappears without a record of who ordered it.
package dead

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// Letters are the dead letters of one broker.
type Letters struct {
	JS jetstream.JetStream
	// Requeue tries an update again, unless a newer event of its worker has won.
	Requeue func(context.Context, control.RequeueRequest) (control.RequeueAnswer, error)
	// Forecast returns what Requeue would do.
	Forecast func(context.Context, control.RequeueRequest) (control.RequeueAnswer, error)
}

// letter is a dead letter with the service that wrote it. The service is taken from the subject, which only that
// service may publish to; what the letter says about itself is mere content.
type letter struct {
	event.DeadLetter
	from topology.Service
}

// Try tries letters again, and removes those for which that succeeded.
func (l Letters) Try(ctx context.Context, req control.DeadRequest) ([]control.DeadResult, error) {
	return l.each(ctx, req, func(found letter) (string, error) { return l.requeue(ctx, found, req.By) })
}

// Count returns what Try would do.
func (l Letters) Count(ctx context.Context, req control.DeadRequest) (control.RequeueForecast, error) {
	would := control.RequeueForecast{Refused: map[string]int{}}
	if len(req.IDs) > control.MaxDead {
		return would, control.Refuse("at most %d dead letters can be named at once", control.MaxDead)
	}

	stream, err := l.JS.Stream(ctx, topology.StreamDead)
	if err != nil {
		return would, fmt.Errorf("open the dead letters: %w", err)
	}

	for _, id := range req.IDs {
		found, err := read(ctx, stream, id)
		if err == nil {
			err = l.count(ctx, found, &would)
		}

		if ctx.Err() != nil {
			return would, fmt.Errorf("read the dead letters: %w", err)
		}

		if err != nil {
			would.Refused[err.Error()]++
		}
	}

	return would, nil
}

// count adds what trying a letter again would do.
func (l Letters) count(ctx context.Context, found letter, would *control.RequeueForecast) error {
	_, update, err := requeueTo(found)
	if err != nil {
		return err
	}

	if update == nil {
		would.ReadAgain++
		return nil
	}

	answer, err := l.Forecast(ctx, control.RequeueRequest{Update: *update})
	switch {
	case err != nil:
		return err
	case answer.Superseded:
		would.Overtaken++
	default:
		would.Sent++
	}

	return nil
}

// Drop removes letters.
func (l Letters) Drop(ctx context.Context, req control.DeadRequest) ([]control.DeadResult, error) {
	return l.each(ctx, req, func(letter) (string, error) { return "dropped", nil })
}

// each does something with each letter and removes it if that succeeded.
func (l Letters) each(ctx context.Context, req control.DeadRequest, do func(letter) (string, error)) ([]control.DeadResult, error) {
	if len(req.IDs) > control.MaxDead {
		return nil, control.Refuse("at most %d dead letters can be named at once", control.MaxDead)
	}

	stream, err := l.JS.Stream(ctx, topology.StreamDead)
	if err != nil {
		return nil, fmt.Errorf("open the dead letters: %w", err)
	}

	results := make([]control.DeadResult, 0, len(req.IDs))
	for _, id := range req.IDs {
		result := control.DeadResult{ID: id}

		found, err := read(ctx, stream, id)
		if err == nil {
			result.Did, err = do(found)
		}

		if err == nil {
			err = stream.DeleteMsg(ctx, id)
		}

		if err != nil {
			result.Did, result.Error = "", err.Error()
		}

		results = append(results, result)
	}

	return results, nil
}

// read returns a letter. An unreadable letter is returned without content, so that it can still be dropped.
func read(ctx context.Context, stream jetstream.Stream, id uint64) (letter, error) {
	m, err := stream.GetMsg(ctx, id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return letter{}, errors.New("there is no such dead letter any more")
	}

	if err != nil {
		return letter{}, fmt.Errorf("read it: %w", err)
	}

	found := letter{from: topology.Service(strings.TrimPrefix(m.Subject, topology.DeadSubject("")))}
	if event.Decode(m.Data, &found.DeadLetter) != nil {
		found.DeadLetter = event.DeadLetter{}
	}

	return found, nil
}

// requeue tries one dead letter again: an update through Requeue, which knows whether it is still the latest, and any
// other message by publishing it again to the subject it came from.
func (l Letters) requeue(ctx context.Context, found letter, by string) (string, error) {
	subject, update, err := requeueTo(found)
	if err != nil {
		return "", err
	}

	if update == nil {
		if _, err := l.JS.Publish(ctx, subject, found.Payload); err != nil {
			return "", fmt.Errorf("publish it again: %w", err)
		}
		return "is read again", nil
	}

	answer, err := l.Requeue(ctx, control.RequeueRequest{Update: *update, By: by})
	if err != nil {
		return "", err
	}

	if answer.Superseded {
		return "a newer event has won meanwhile, nothing is to be sent", nil
	}

	return "is sent again", nil
}

// requeueTo decides what may be done with a dead letter: pass an update to the resolver, or publish the payload again
// to a subject that its service reads, if it has the type that belongs there. A letter itself says where it came from,
// and a service that may write letters must not be able to publish anything anywhere with the resolver's rights.
func requeueTo(l letter) (subject string, update *event.Update, err error) {
	var (
		u       event.Update
		entries event.Entries
		acks    event.Acks
	)
	// A payload written by a later version counts: it is read once the service has been updated.
	readable := func(into event.Versioned) bool {
		err := event.Decode(l.Payload, into)
		return err == nil || errors.Is(err, event.ErrVersion)
	}
	switch {
	case l.from == topology.Publisher && event.Decode(l.Payload, &u) == nil && u.User != "":
		return "", &u, nil
	case l.Subject == "":
		return "", nil, errors.New("it does not say where it came from, so it can only be dropped")
	case l.from == topology.Publisher:
		// It would replace the update that the user has now.
		return "", nil, errors.New("an update that cannot be read can only be dropped; bobosync replay sends the worker's status again")
	case l.Subject == topology.SubjectMapping:
		// It would replace a newer mapping.
		return "", nil, errors.New("a part of a mapping can only be dropped: the janitor fetches the mapping again")
	case l.from == topology.Resolver && readable(&entries) && l.Subject == topology.EntriesSubject(entries.File):
		return l.Subject, nil, nil
	case (l.from == topology.Resolver || l.from == topology.Ingest) && l.Subject == topology.SubjectAcks && readable(&acks):
		return l.Subject, nil, nil
	default:
		return "", nil, errors.New("it cannot be read as what belongs to the place that it says it is from, so it can only be dropped; the files are read again by themselves")
	}
}
