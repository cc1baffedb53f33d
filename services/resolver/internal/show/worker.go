// Package show answers operators' questions about workers and the mapping.
package show

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/resolver/internal/latest"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

const (
	// maxEvents is the most events in an answer about a worker.
	maxEvents = 50
	// eventsTimeout is how long the entries that the broker keeps are searched for those of a worker.
	eventsTimeout = 10 * time.Second
)

// Worker answers a question about one worker.
func Worker(ctx context.Context, js jetstream.JetStream, r *roster.Roster, req control.WorkerRequest) (control.WorkerAnswer, error) {
	text := strings.TrimSpace(req.Text)
	answer := control.WorkerAnswer{}
	var w latest.Worker

	err := r.View(func(v store.View) (err error) {
		if answer.Employee, err = findWorker(ctx, v, r, text); err != nil {
			return err
		}

		answer.User = r.Mapping().User(answer.Employee)
		w, err = v.Worker(answer.Employee)

		return err
	})
	if err != nil {
		return answer, err
	}

	now := r.Now()
	answer.Known = w.Known()
	if answer.Known {
		e := workerEvent(w.Latest)
		answer.Latest, answer.Stale = &e, r.Rules.Stale(w.Latest.On, w.Latest.At, now)
	}

	answer.Sent, answer.Confirmed = workerStatuses(w)
	if w.InDoubt != 0 {
		answer.InDoubt = time.Unix(w.InDoubt, 0).UTC()
	}

	var published time.Time
	if w.Unconfirmed() {
		published = publishedAt(ctx, js, w.Sent.User)
	}

	answer.Status = describe(w, answer.User, published, now, r.Rules)
	answer.Events, answer.Partial, err = eventsOf(ctx, js, answer.Employee)

	return answer, err
}

// Find returns the worker and the user that a text names: the text is an employee id or a username of the mapping, or
// an employee id that only the past may know.
func Find(ctx context.Context, r *roster.Roster, text string) (employee, user string, err error) {
	text = strings.TrimSpace(text)
	err = r.View(func(v store.View) (err error) {
		employee, err = findWorker(ctx, v, r, text)
		return err
	})
	if _, refused := errors.AsType[*control.Refusal](err); refused && text != "" {
		return text, "", nil
	}

	return employee, r.Mapping().User(employee), err
}

// findWorker returns the employee id that a text names: the text itself, or the employee id of the user with this name.
func findWorker(ctx context.Context, v store.View, r *roster.Roster, text string) (string, error) {
	if text == "" {
		return "", control.Refuse("name a worker by employee id or AtHoc username")
	}

	w, err := v.Worker(text)
	if err != nil {
		return "", err
	}

	if w.Known() || r.Mapping().User(text) != "" {
		return text, nil
	}

	if employee := r.Mapping().Employee(text); employee != "" {
		return employee, nil
	}

	// A user who is no longer mapped may have been mapped earlier.
	former := ""
	err = v.EachWorker(ctx, func(employee string, w latest.Worker) error {
		if w.Sent != nil && topology.NormalUsername(w.Sent.User) == topology.NormalUsername(text) {
			former = employee
		}
		return nil
	})
	if err == nil && former == "" {
		err = control.Refuse("%q is neither the employee id of a worker whom BOBO has reported, nor an id or a username of the mapping; leading zeros count", text)
	}

	return former, err
}

func workerEvent(e latest.Event) control.WorkerEvent {
	return control.WorkerEvent{On: e.On, At: time.Unix(e.At, 0).UTC(), File: e.File, Row: e.Version.Row}
}

func workerStatuses(w latest.Worker) (sent, confirmed *control.WorkerStatus) {
	status := func(s latest.Sent) *control.WorkerStatus {
		return &control.WorkerStatus{User: s.User, On: s.On, At: time.Unix(s.At, 0).UTC(), File: s.File, Row: s.Version.Row}
	}
	if w.Sent != nil {
		sent = status(*w.Sent)
	}

	if w.Confirmed != nil {
		confirmed = status(w.Confirmed.Sent)
		confirmed.Outcome, confirmed.Answered = w.Confirmed.Outcome.String(), time.Unix(w.Confirmed.Answered, 0).UTC()
	}

	return sent, confirmed
}

// publishedAt returns when the user's update in the table was published; the zero time if that cannot be found out.
func publishedAt(ctx context.Context, js jetstream.JetStream, user string) time.Time {
	stream, err := js.Stream(ctx, topology.StreamUpdates)
	if err != nil {
		return time.Time{}
	}

	m, err := stream.GetLastMsgForSubject(ctx, topology.UpdatesSubject(user))
	if err != nil {
		return time.Time{}
	}

	return m.Time
}

// moment formats a time for people, to the second, as BOBO and AtHoc have it, in this machine's time zone.
func moment(unix int64) string { return time.Unix(unix, 0).Format("2006-01-02 15:04:05 MST") }

// describe says in a sentence what AtHoc should hold of a worker and how far that has come. user is the worker's user
// in the mapping. published is when the last update was published, if it waits for AtHoc's answer and that time is
// known.
func describe(w latest.Worker, user string, published, now time.Time, rules latest.Rules) string {
	if !w.Known() {
		return "BOBO has sent nothing about this worker so far, so nothing is sent to AtHoc"
	}

	stale := rules.Stale(w.Latest.On, w.Latest.At, now)
	what := "off duty since " + moment(w.Latest.At)
	switch {
	case stale && w.Kept():
		stale = false
		what = "on duty since " + moment(w.Latest.At) + ", longer ago than AUTO_CLEANUP_HOURS, but a person has rejected that it is cleared"
	case stale:
		what = "booked on at " + moment(w.Latest.At) + ", longer ago than AUTO_CLEANUP_HOURS, so it counts as off duty"
	case w.Latest.On:
		what = "on duty since " + moment(w.Latest.At)
	}

	if user == "" {
		return "no AtHoc user has this employee id: " + what + ", which is sent when a user gets the id and the mapping has been refreshed"
	}

	return what + "; " + progress(w, published, stale)
}

// progress says how far the latest status of a worker has come, for a worker who has a user.
func progress(w latest.Worker, published time.Time, stale bool) string {
	switch {
	case w.Hold != nil:
		return "not sent: it is part of the mass change " + w.Hold.Group + ", which waits until a person decides, see bobosync held show " + w.Hold.Group
	case w.Unresolved:
		return "not sent yet: more entries are read first, or AtHoc has enough to do"
	case w.Sent == nil && stale:
		return "AtHoc was sent nothing, and what it held before is cleared when it is stale as well"
	case w.Sent == nil:
		return "AtHoc was sent nothing yet"
	case w.Unconfirmed() && !published.IsZero():
		return "on its way to AtHoc since " + moment(published.Unix()) + ", see the circuit breaker if that is long ago" + later(w)
	case w.Unconfirmed():
		return "on its way to AtHoc" + later(w)
	}

	at := moment(w.Confirmed.Answered)
	switch w.Confirmed.Outcome {
	case event.UnknownUser:
		return "AtHoc answered at " + at + " that it has no such user" + later(w)
	case event.ForbiddenUser:
		return "AtHoc answered at " + at + " that this account may not change that user" + later(w)
	case event.Dead:
		return "AtHoc refused it at " + at + ", see the dead letters" + later(w)
	}

	if stale && w.Sent.On && w.Confirmed.On {
		return "AtHoc was sent the duty and confirmed it at " + at + "; the janitor clears it at its next look" + later(w)
	}

	if w.Sent.Version != w.Latest.Version {
		return "not sent again, since AtHoc is known to hold that since " + at + later(w)
	}

	return "confirmed by AtHoc at " + at + later(w)
}

// later says what is still to come after the last update.
func later(w latest.Worker) string {
	switch {
	case w.Replay != "":
		return "; a replay sends it again"
	case w.InDoubt != 0:
		return "; it is resent at " + moment(w.InDoubt) + ", since a call got no answer"
	default:
		return ""
	}
}

// eventsOf returns a worker's events from the entries that the broker keeps, newest first. partial says that there was
// not enough time to read all entries.
func eventsOf(ctx context.Context, js jetstream.JetStream, employee string) (events []control.WorkerEvent, partial bool, err error) {
	bounded, cancel := context.WithTimeout(ctx, eventsTimeout)
	defer cancel()

	id, err := json.Marshal(employee)
	if err != nil {
		return nil, false, fmt.Errorf("write an employee id: %w", err)
	}

	found := map[rowKey]latest.Event{}

	err = bus.Read(bounded, js, topology.StreamEntries, bus.ReadFrom{}, func(data []byte, subject string) {
		var m event.Entries
		// Decoding a message costs far more than checking whether the id is in it.
		if subject == topology.SubjectRecovered || !bytes.Contains(data, id) || event.Decode(data, &m) != nil {
			return
		}

		for _, e := range m.Entries {
			if e.Employee == employee {
				found[rowKey{m.File, e.Row}] = latest.Event{Version: e.Version(m.Sequence), File: m.File, On: e.On, At: e.At}
			}
		}
	})
	if err != nil && (!errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil) {
		return nil, false, err
	}

	return newest(found), err != nil, nil
}

// rowKey identifies a row: a file that was read again has its entries in the stream twice.
type rowKey struct {
	file string
	row  int
}

// newest returns the newest maxEvents of the events, newest first.
func newest(found map[rowKey]latest.Event) []control.WorkerEvent {
	all := make([]latest.Event, 0, len(found))
	for _, e := range found {
		all = append(all, e)
	}

	slices.SortFunc(all, func(a, b latest.Event) int {
		return cmp.Or(b.Version.Compare(a.Version), cmp.Compare(a.File, b.File))
	})

	var out []control.WorkerEvent
	for _, e := range all[:min(len(all), maxEvents)] {
		out = append(out, workerEvent(e))
	}

	return out
}
