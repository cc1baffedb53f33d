package client

// Dead letters, read from their stream.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// Letter is a dead letter with its sequence number in the stream, by which operators name it.
type Letter struct {
	ID uint64 `json:"id"`
	event.DeadLetter
}

// DeadLetters reads all dead letters. A dead letter that cannot be decoded is returned with that as its reason.
func DeadLetters(ctx context.Context, js jetstream.JetStream) ([]Letter, error) {
	stream, err := js.Stream(ctx, topology.StreamDead)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, errors.New("this broker has no stream of dead letters, so the services have never run with it: is it the right broker (NATS_URL)?")
	}

	if err != nil {
		return nil, fmt.Errorf("open the dead letters: %w", err)
	}

	state := stream.CachedInfo().State
	all := []Letter{} // JSON's null is not a list
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; {
		some, err := lettersFrom(ctx, js, seq)
		if err != nil {
			return nil, fmt.Errorf("read the dead letters from %d on: %w", seq, err)
		}

		if len(some) == 0 {
			break
		}

		all = append(all, some...)
		seq = some[len(some)-1].ID + 1
	}

	return all, nil
}

// LettersAtOnce is how many dead letters are read with one request.
const LettersAtOnce = 200

// lettersFrom reads some dead letters, beginning at a sequence number; none if there are no more.
func lettersFrom(ctx context.Context, js jetstream.JetStream, seq uint64) ([]Letter, error) {
	messages, err := jetstreamext.GetBatch(ctx, js, topology.StreamDead, LettersAtOnce, jetstreamext.GetBatchSeq(seq))
	if err != nil {
		return nil, err
	}

	var some []Letter
	for m, err := range messages {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			break
		}

		if err != nil {
			return nil, err
		}

		l := Letter{ID: m.Sequence}
		if err := event.Decode(m.Data, &l.DeadLetter); err != nil {
			l.DeadLetter = event.DeadLetter{Service: "?", Reason: err.Error(), Payload: m.Data, Died: m.Time}
		}

		some = append(some, l)
	}

	return some, nil
}

// LetterQuery selects dead letters; empty fields match all.
type LetterQuery struct {
	IDs []uint64
	// Reason matches a part of the reason, ignoring letter case. File is a file's id.
	Reason, File string
}

// Of returns the dead letters among all that match.
func (q LetterQuery) Of(all []Letter) []Letter {
	return slices.DeleteFunc(slices.Clone(all), func(l Letter) bool {
		return len(q.IDs) > 0 && !slices.Contains(q.IDs, l.ID) ||
			q.Reason != "" && !strings.Contains(strings.ToLower(l.Reason), strings.ToLower(q.Reason)) ||
			q.File != "" && l.File != q.File
	})
}

// IDs returns the numbers of dead letters.
func IDs(letters []Letter) []uint64 {
	ids := make([]uint64, 0, len(letters))
	for _, l := range letters {
		ids = append(ids, l.ID)
	}

	return ids
}
