package history

// Who was on duty at a moment. To find out, the keeper reads the last mark before the moment, the records that the mark
// points to, and those that follow it.

import (
	"context"
	"maps"
	"slices"
	"time"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/history"
	"bobosync/shared/topology"
)

const (
	// lateness is how much later a record may be stored than others that were answered at the same time: an answer
	// waits for its publisher, and a call without an answer for the next check.
	lateness = 5 * time.Minute
	// dutyPage is the most workers in one answer, which keeps it well below the broker's limit of 1 MB.
	dutyPage = 2000
	// pagesFor is how long an answer is kept so that its further pages can be read.
	pagesFor = time.Minute
)

// OnDuty returns whom AtHoc held as on duty.
func (k *Keeper) OnDuty(ctx context.Context, req control.OnDutyRequest) (control.OnDutyAnswer, error) {
	now := k.now()
	at := req.At
	if at.IsZero() {
		at = now
	}

	if at.After(now.Add(time.Minute)) {
		return control.OnDutyAnswer{}, control.Refuse("%s is in the future", at.Format(time.RFC3339))
	}

	state := k.asked.Load()
	if req.After == "" || state == nil || !state.at.Equal(at) || now.Sub(state.read) > pagesFor {
		var err error
		if state, err = k.read(ctx, at); err != nil {
			return control.OnDutyAnswer{}, err
		}

		k.asked.Store(state)
	}

	return page(state.answer, topology.NormalUsername(req.After)), nil
}

// moment is what is known of a moment, with all workers in one answer. It is kept for the further pages of that answer.
type moment struct {
	at, read time.Time
	answer   control.OnDutyAnswer
}

// read reads what is known of a moment.
func (k *Keeper) read(ctx context.Context, at time.Time) (*moment, error) {
	info, _, err := k.reader.loadInfo(ctx)
	if err != nil {
		return nil, err
	}

	open, err := k.calls.underWay(ctx) // before the stream, which then has what is stored meanwhile
	if err != nil {
		return nil, err
	}

	mark, err := k.reader.lastMark(ctx, at)
	if err != nil {
		return nil, err
	}

	late := at.Add(k.lateness + k.longest)

	deliveries, _, err := k.reader.readFrom(ctx, mark, func(t event.Delivery, _ time.Time) bool { return !endsReading(t, late) })
	if err != nil {
		return nil, err
	}

	for _, t := range open {
		deliveries.add(stored{Delivery: t})
	}

	return &moment{at: at, read: k.now(), answer: onDuty(deliveries, info, at)}, nil
}

// endsReading reports whether everything after t in the stream was sent later than a moment, too. After a call without
// an answer this need not be so: what a killed publisher has left is stored when the resolver starts, before the
// answers that wait for the resolver.
func endsReading(t event.Delivery, late time.Time) bool {
	return t.Outcome != event.Pending && t.Call.Sent > late.UnixMilli()
}

// page returns the part of an answer that lists the workers after a username.
func page(answer control.OnDutyAnswer, after string) control.OnDutyAnswer {
	if after != "" {
		from := slices.IndexFunc(answer.Workers, func(w control.OnDutyWorker) bool { return topology.NormalUsername(w.User) > after })
		if from < 0 {
			from = len(answer.Workers)
		}

		answer.Workers = answer.Workers[from:]
	}

	if answer.More = len(answer.Workers) > dutyPage; answer.More {
		answer.Workers = answer.Workers[:dutyPage]
	}

	return answer
}

// onDuty lists all workers who are on duty, or may be, by username.
func onDuty(deliveries userDeliveries, info event.HistoryInfo, at time.Time) control.OnDutyAnswer {
	answer := control.OnDutyAnswer{At: at.UTC(), Workers: []control.OnDutyWorker{}, CompleteFrom: info.From}
	for _, user := range slices.Sorted(maps.Keys(deliveries)) {
		own := deliveriesOf(deliveries[user])

		p := history.At(own, info, at)
		w := control.OnDutyWorker{User: own[len(own)-1].User, Employee: own[len(own)-1].Employee, State: p.State}
		switch p.State {
		case history.On:
			w.Since, w.Answered, w.Call = time.Unix(p.Confirmed.At, 0).UTC(), time.UnixMilli(p.Confirmed.Call.Answered).UTC(), p.Confirmed.Call.ID
			w.User, w.Employee = p.Confirmed.User, p.Confirmed.Employee
			answer.Total++
		case history.Uncertain:
			answer.Uncertain++
			answer.Gaps = intervals(p.Gaps)
		default:
			continue
		}

		answer.Workers = append(answer.Workers, w)
	}

	if answer.Gaps == nil {
		answer.Gaps = []control.Interval{}
	}

	return answer
}
