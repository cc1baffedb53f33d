package client

// Orders: how commands and the console give them, and how they are noted in the journal.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"bobosync/shared/audit"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

const (
	// entryPollInterval is how often Await asks the journal whether an order is done.
	entryPollInterval = 500 * time.Millisecond
	// janitorAway is how long the janitor may be unreachable while Await waits: it may be restarting.
	janitorAway = 40 * time.Second
	// noteTimeout limits noting an order in the journal. The order itself is already done.
	noteTimeout = 3 * time.Second
)

// Order holds the sender of an order, and what the audit keeps with it. Empty fields are left out.
type Order struct {
	// By is what the sender claims to be; the audit adds what the broker knows.
	By string
	// Once is an id made by audit.NewFamily. With it, the services carry out the order only once, however often it is
	// sent.
	Once string
	// Selection names the set that was shown to the sender, Forecast is what the order was expected to do, Reason is
	// why it is given.
	Selection, Forecast, Reason string
	// Warn is called if the order was carried out but could not be noted in the journal.
	Warn func(error)
}

// Ask sends a request to a service and returns its answer. If the broker does not permit this user to ask that, Ask
// fails at once with an error that wraps bus.ErrNotAllowed.
func Ask[Res, Req any](ctx context.Context, conn *bus.Conn, service topology.Service, endpoint string, req Req) (Res, error) {
	ctx, cancel := conn.Heed(ctx, control.Subject(service, endpoint))
	defer cancel()

	res, err := control.Ask[Res](ctx, conn.NC, service, endpoint, req)
	if err != nil && errors.Is(context.Cause(ctx), bus.ErrNotAllowed) {
		err = fmt.Errorf("ask the %s for %s: %w", service, endpoint, bus.ErrNotAllowed)
	}

	return res, err
}

// Give gives an order to a service.
func Give[Res, Req any](ctx context.Context, conn *bus.Conn, o Order, service topology.Service, endpoint string, req Req) (Res, error) {
	signed, err := o.sign(req)
	if err != nil {
		var none Res
		return none, err
	}

	return Ask[Res](ctx, conn, service, endpoint, signed)
}

// sign adds to a request what the audit keeps with it.
func (o Order) sign(req any) (map[string]json.RawMessage, error) {
	fields := map[string]json.RawMessage{}

	data, err := json.Marshal(req)
	if err == nil {
		err = json.Unmarshal(data, &fields)
	}

	for name, value := range map[string]string{"by": o.By, "once": o.Once, "selection": o.Selection, "forecast": o.Forecast, "reason": o.Reason} {
		if value == "" {
			continue
		}

		if fields[name], err = json.Marshal(value); err != nil {
			break
		}
	}

	if err != nil {
		return nil, fmt.Errorf("write an order: %w", err)
	}

	return fields, nil
}

// note has the janitor record in its journal what was done through another service. The order stands whether or not
// that succeeds. The text must hold no personal data.
func (o Order) note(ctx context.Context, conn *bus.Conn, outcome, what string, counts map[string]int) {
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()

	now := time.Now().UTC()

	_, err := Ask[control.Nothing](ctx, conn, topology.Janitor, control.JournalNote, control.JournalEntry{
		Kind: control.KindOperator, By: o.By, Started: now, Ended: now, Outcome: outcome, Counts: counts, Text: what,
	})
	if err != nil && o.Warn != nil {
		o.Warn(err)
	}
}

// Decide approves or rejects a mass change that is held.
func Decide(ctx context.Context, conn *bus.Conn, o Order, d control.HeldDecision) (control.HeldResult, error) {
	result, err := Give[control.HeldResult](ctx, conn, o, topology.Resolver, control.HeldDecide, d)
	if err == nil {
		done := "rejected"
		if d.Approve {
			done = "approved"
		}

		o.note(ctx, conn, control.OutcomeOK, fmt.Sprintf("mass change %s %s: %s", result.ID, done, d.Reason), map[string]int{"users": result.Users})
	}

	return result, err
}

// TakeIn takes in a rejected mass change after all.
func TakeIn(ctx context.Context, conn *bus.Conn, o Order, d control.HeldDecision) (control.HeldResult, error) {
	result, err := Give[control.HeldResult](ctx, conn, o, topology.Resolver, control.HeldRequeue, d)
	if err == nil {
		o.note(ctx, conn, control.OutcomeOK, fmt.Sprintf("mass change %s requeued: %s", result.ID, d.Reason), map[string]int{"users": result.Users})
	}

	return result, err
}

// Letters gives an order about dead letters (control.DeadRequeue or control.DeadDrop), in parts, and returns the result
// for each.
func Letters(ctx context.Context, conn *bus.Conn, o Order, endpoint string, ids []uint64) (results []control.DeadResult, err error) {
	results = []control.DeadResult{} // JSON's null is not a list
	once := o.Once
	for part := range slices.Chunk(ids, control.MaxDead) {
		if once != "" {
			o.Once = audit.Member(once, len(results)/control.MaxDead)
		}

		some, failure := Give[[]control.DeadResult](ctx, conn, o, topology.Resolver, endpoint, control.DeadRequest{IDs: part, Of: len(ids)})
		if err = failure; err != nil {
			break
		}

		results = append(results, some...)
	}

	if len(results) == 0 {
		return results, err
	}

	failed, outcome, done := FailedLetters(results), control.OutcomeOK, "requeued"
	if failed > 0 {
		outcome = control.OutcomeFailed
	}

	if endpoint == control.DeadDrop {
		done = "dropped"
	}

	o.note(ctx, conn, outcome, "dead letters "+done, map[string]int{done: len(results) - failed, "failed": failed})

	return results, err
}

// FailedLetters counts the dead letters that were left as they are.
func FailedLetters(results []control.DeadResult) (n int) {
	for _, r := range results {
		if r.Error != "" {
			n++
		}
	}

	return n
}

// Replay begins a replay or, for a dry run, says what it would do.
func Replay(ctx context.Context, conn *bus.Conn, o Order, req control.ReplayRequest) (control.ReplayState, error) {
	state, err := Give[control.ReplayState](ctx, conn, o, topology.Resolver, control.Replay, req)
	if err == nil && !req.DryRun {
		o.note(ctx, conn, control.OutcomeOK, "replay "+state.ID+" begun", map[string]int{"users": state.Users})
	}

	return state, err
}

// StopReplay stops a replay.
func StopReplay(ctx context.Context, conn *bus.Conn, o Order, id string) (control.ReplayState, error) {
	state, err := Give[control.ReplayState](ctx, conn, o, topology.Resolver, control.StopReplay, control.StopRequest{ID: id})
	if err == nil {
		o.note(ctx, conn, control.OutcomeOK, "replay "+state.ID+" stopped", map[string]int{"users": state.Users, "left": state.Left})
	}

	return state, err
}

// Pause stops sending to AtHoc for a while.
func Pause(ctx context.Context, conn *bus.Conn, o Order, req control.PauseRequest) (breaker.Pause, error) {
	paused, err := Give[breaker.Pause](ctx, conn, o, topology.Publisher, control.Pause, req)
	if err == nil {
		o.note(ctx, conn, control.OutcomeOK, fmt.Sprintf("sending to AtHoc paused until %s: %s", paused.Until.Format(time.RFC3339), req.Reason), nil)
	}

	return paused, err
}

// Resume ends a pause.
func Resume(ctx context.Context, conn *bus.Conn, o Order) (control.ResumeAnswer, error) {
	answer, err := Give[control.ResumeAnswer](ctx, conn, o, topology.Publisher, control.Resume, control.RunRequest{})
	if err == nil && answer.Ended != nil {
		o.note(ctx, conn, control.OutcomeOK, "sending to AtHoc resumed", nil)
	}

	return answer, err
}

// Mute suppresses findings about a feed for a while.
func Mute(ctx context.Context, conn *bus.Conn, o Order, req control.FeedMuteRequest) (control.FeedState, error) {
	feed, err := Give[control.FeedState](ctx, conn, o, topology.Ingest, control.MuteFeed, req)
	if err == nil {
		what := fmt.Sprintf("the feed %s is not muted any more", feed.Name)
		if feed.Mute != nil {
			what = fmt.Sprintf("the feed %s is muted until %s: %s", feed.Name, feed.Mute.Until.Format(time.RFC3339), feed.Mute.Reason)
		}

		o.note(ctx, conn, control.OutcomeOK, what, nil)
	}

	return feed, err
}

// Erase removes everything that is stored of a worker.
func Erase(ctx context.Context, conn *bus.Conn, o Order, req control.EraseRequest) (control.EraseAnswer, error) {
	answer, err := Give[control.EraseAnswer](ctx, conn, o, topology.Resolver, control.Erase, req)
	if err == nil {
		o.note(ctx, conn, control.OutcomeOK, "a worker was erased", answer.Removed)
	}

	return answer, err
}

// TryNotices sends a test notice to all sinks.
func TryNotices(ctx context.Context, conn *bus.Conn, o Order) (control.NotifyTest, error) {
	answer, err := Give[control.NotifyTest](ctx, conn, o, topology.Janitor, control.TestNotify, control.RunRequest{})
	if err == nil {
		o.note(ctx, conn, control.OutcomeOK, "test of the notices", map[string]int{"places": len(answer.Results)})
	}

	return answer, err
}

// NotifyEmergencyLogin has people notified that somebody logged in to the console with an emergency password.
func NotifyEmergencyLogin(ctx context.Context, conn *bus.Conn, o Order, login control.EmergencyLoginRequest) error {
	_, err := Give[control.Nothing](ctx, conn, o, topology.Janitor, control.EmergencyLogin, login)
	if err == nil {
		o.note(ctx, conn, control.OutcomeOK, "emergency login to the console as "+login.Role, nil)
	}

	return err
}

// ForecastRequeue returns what requeueing dead letters would do. It asks in parts.
func ForecastRequeue(ctx context.Context, conn *bus.Conn, ids []uint64) (control.RequeueForecast, error) {
	all := control.RequeueForecast{Refused: map[string]int{}}
	for part := range slices.Chunk(ids, control.MaxDead) {
		would, err := Ask[control.RequeueForecast](ctx, conn, topology.Resolver, control.DeadForecast, control.DeadRequest{IDs: part})
		if err != nil {
			return all, err
		}

		all.Sent, all.Overtaken, all.ReadAgain = all.Sent+would.Sent, all.Overtaken+would.Overtaken, all.ReadAgain+would.ReadAgain
		for why, n := range would.Refused {
			all.Refused[why] += n
		}
	}

	return all, nil
}

// RequeueWords says what requeueing dead letters would do.
func RequeueWords(would control.RequeueForecast) string {
	words := []string{fmt.Sprintf("%d would be sent", would.Sent)}
	if would.Overtaken > 0 {
		words = append(words, fmt.Sprintf("of %d a newer booking has won, so nothing would be sent", would.Overtaken))
	}

	if would.ReadAgain > 0 {
		words = append(words, fmt.Sprintf("%d would be read again", would.ReadAgain))
	}

	for _, why := range slices.Sorted(maps.Keys(would.Refused)) {
		words = append(words, fmt.Sprintf("%d could not be tried: %s", would.Refused[why], text.Clean(why)))
	}

	return strings.Join(words, "; ")
}

// errEntryGone means that the janitor's journal no longer has an order that the janitor accepted.
var errEntryGone = errors.New("the janitor's journal knows nothing of it any more; bobosync journal shows what it knows")

// Await waits until the janitor has done what it was asked for, and returns the journal entry for it.
func Await(ctx context.Context, nc *nats.Conn, id string) (control.JournalEntry, error) {
	ticker := time.NewTicker(entryPollInterval)
	defer ticker.Stop()

	heard := time.Now()
	for {
		answer, err := control.Ask[control.JournalAnswer](ctx, nc, topology.Janitor, control.Journal, control.JournalRequest{ID: id, Most: 1})
		switch {
		case ctx.Err() != nil:
			return control.JournalEntry{}, fmt.Errorf("it goes on without being watched; bobosync journal shows its end: %w", ctx.Err())
		case errors.Is(err, control.ErrNobody) && time.Since(heard) < janitorAway:
		case err != nil:
			return control.JournalEntry{}, err
		case len(answer.Entries) == 0:
			return control.JournalEntry{}, errEntryGone
		case !answer.Entries[0].Ended.IsZero():
			return answer.Entries[0], nil
		default:
			heard = time.Now()
		}

		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}
