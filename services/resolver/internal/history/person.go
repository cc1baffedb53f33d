package history

// What AtHoc was sent for one worker.

import (
	"context"
	"slices"
	"time"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/history"
	"bobosync/shared/topology"
)

// most is the most records of a worker that are read on each side of a moment to find out what AtHoc held, including
// those to be listed.
const most = 200

// Past returns what AtHoc held of a worker at a moment.
func (k *Keeper) Past(ctx context.Context, employee, user string, req control.PastRequest) (control.PastAnswer, error) {
	now := k.now()
	at := req.At
	if at.IsZero() {
		at = now
	}

	if at.After(now.Add(time.Minute)) {
		return control.PastAnswer{}, control.Refuse("%s is in the future", at.Format(time.RFC3339))
	}

	info, _, err := k.reader.loadInfo(ctx)
	if err != nil {
		return control.PastAnswer{}, err
	}

	open, err := k.calls.underWay(ctx) // before the stream, which then has what is stored meanwhile
	if err != nil {
		return control.PastAnswer{}, err
	}

	late := at.Add(k.lateness) // what was sent before the moment may be stored after it

	place, err := k.reader.storedBy(ctx, late)
	if err != nil {
		return control.PastAnswer{}, err
	}

	var deliveries []event.Delivery
	for _, subject := range subjectsOf(employee, user) {
		around, err := k.around(ctx, subject, at, place, min(req.Most, most))
		if err != nil {
			return control.PastAnswer{}, err
		}

		deliveries = append(deliveries, deliveriesOf(around)...)
		for _, t := range open {
			if topology.HistorySubject(t.Employee, t.User) == subject {
				deliveries = append(deliveries, t)
			}
		}
	}

	return answer(employee, user, at, info, deliveries), nil
}

// subjectsOf returns the subjects of what AtHoc was sent for a worker. When duty was cleared for its age and no booking
// of the user was known, the record is kept under the username.
func subjectsOf(employee, user string) (all []string) {
	if employee != "" {
		all = append(all, topology.HistorySubject(employee, ""))
	}

	if user != "" {
		all = append(all, topology.HistorySubject("", user))
	}

	return all
}

// answer assembles what is known of a moment.
func answer(employee, user string, at time.Time, info event.HistoryInfo, deliveries []event.Delivery) control.PastAnswer {
	p := history.At(deliveries, info, at)
	a := control.PastAnswer{
		Employee: employee, User: user, At: at.UTC(), State: p.State, Doubts: []control.DeliveryAnswer{}, Gaps: intervals(p.Gaps),
		Deliveries: []control.DeliveryAnswer{}, CompleteFrom: info.From,
	}
	show := func(t *event.Delivery) *control.DeliveryAnswer {
		if t == nil {
			return nil
		}

		shown := control.ShowDelivery(*t)

		return &shown
	}

	a.Confirmed, a.Next = show(p.Confirmed), show(p.Next)
	for _, d := range p.Doubts {
		a.Doubts = append(a.Doubts, control.ShowDelivery(d))
	}

	for _, t := range slices.Backward(history.Sort(deliveries)) {
		a.Deliveries = append(a.Deliveries, control.ShowDelivery(t))
	}

	return a
}

func intervals(gaps []event.Gap) []control.Interval {
	out := []control.Interval{} // not nil, which JSON would write as null
	for _, g := range gaps {
		out = append(out, control.Interval{From: time.UnixMilli(g.From).UTC(), To: time.UnixMilli(g.To).UTC()})
	}

	return out
}

// around reads the records that settle the state at a moment, at least list of those that were stored by the moment,
// and those that follow, up to the first that AtHoc took and that was sent more than lateness after the moment. place
// is the sequence of the last message that was stored by then. The stream is in the order in which the answers were
// stored.
func (k *Keeper) around(ctx context.Context, subject string, at time.Time, place uint64, list int) ([]stored, error) {
	l, err := k.line(ctx, subject)
	if err != nil {
		return nil, err
	}

	before, after, err := l.find(ctx, place)

	var out []stored // newest first
	for listed := 0; before != nil && err == nil && len(out) < most; before, err = l.before(ctx, before) {
		if out = append(out, before.stored); !before.when.After(at) {
			listed++
		}

		if listed >= list && settled(out, at, k.longest) {
			break
		}
	}

	slices.Reverse(out)

	for n := 0; after != nil && err == nil && n < most; n++ {
		if out = append(out, after.stored); after.Call.Sent > at.Add(k.lateness).UnixMilli() && history.Writes(after.Delivery) {
			break
		}

		_, after, err = l.find(ctx, after.sequence)
	}

	return out, err
}

// settled reports whether no record older than the last of these can matter for the state at a moment. The records are
// sorted newest first.
func settled(all []stored, at time.Time, longest time.Duration) bool {
	oldest := len(all) - 1
	return slices.ContainsFunc(all[:oldest], func(s stored) bool {
		return s.Call.Answered <= at.UnixMilli() && history.Settles(s.Delivery, all[oldest].Delivery, longest)
	})
}
