package client

// The past: whom AtHoc held as on duty, and what was told of a file's rows. Each question is written into the audit.

import (
	"context"
	"fmt"
	"time"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// PastMoment is Moment, but a time of the hour that autumn repeats is an error, which says how to name either.
func PastMoment(words string, now time.Time) (time.Time, error) {
	t, err := Moment(words, now)
	if err != nil {
		return t, err
	}
	if _, err := time.Parse(time.RFC3339, words); err == nil {
		return t, nil
	}
	if _, err := time.ParseDuration(words); err == nil {
		return t, nil
	}
	for _, apart := range []time.Duration{-time.Hour, -30 * time.Minute, 30 * time.Minute, time.Hour} {
		other := t.Add(apart)
		if other.Format(time.DateTime) != t.Format(time.DateTime) {
			continue
		}
		first, second := t, other
		if apart < 0 {
			first, second = other, t
		}
		return t, fmt.Errorf("%q comes twice that day: say %s for the first time, or %s for the second", words, first.Format(time.RFC3339), second.Format(time.RFC3339))
	}
	return t, nil
}

// OnDuty lists whom AtHoc held as on duty at a moment, zero being now: all pages, of one moment. by is who asks.
func OnDuty(ctx context.Context, conn *bus.Conn, at time.Time, by string) (control.OnDutyAnswer, error) {
	req := control.OnDutyRequest{At: at, By: by}
	all, err := control.Ask[control.OnDutyAnswer](ctx, conn.NC, topology.Resolver, control.OnDuty, req)
	for more := all.More; err == nil && more; {
		req.At, req.After = all.At, all.Workers[len(all.Workers)-1].User
		var page control.OnDutyAnswer
		page, err = control.Ask[control.OnDutyAnswer](ctx, conn.NC, topology.Resolver, control.OnDuty, req)
		all.Workers, more = append(all.Workers, page.Workers...), page.More && len(page.Workers) > 0
	}
	all.More = false
	return all, err
}

// comparisons is the most comparisons that are looked at for one that tells something of a worker.
const comparisons = 50

// LastSeen is what the last comparison before a moment saw of a worker; nil if none tells of him.
func LastSeen(ctx context.Context, conn *bus.Conn, a control.PastAnswer) (*control.Seen, error) {
	if a.Held == nil {
		return nil, nil
	}
	ms := a.At.UnixMilli()
	runs, err := Ask[control.JournalAnswer](ctx, conn, topology.Janitor, control.Journal, control.JournalRequest{
		Kind: control.DutyReconcile, Since: a.Held.Answered, Most: comparisons,
		Before: fmt.Sprintf("%08x-%04x-7fff-bfff-ffffffffffff", ms>>16, ms&0xffff), // later than any that began by then
	})
	if err != nil || len(runs.Entries) == 0 {
		return nil, err
	}
	last, err := LastReport(ctx, conn)
	if err != nil {
		return nil, err
	}
	for _, run := range runs.Entries {
		if seen := a.Judge(run, last.Users, run.ID == last.Entry); seen != nil {
			return seen, nil
		}
	}
	return nil, nil
}

// Receipt accounts for a file.
type Receipt struct {
	ID   string               `json:"id"`
	Name string               `json:"name"`
	Rows []control.ReceiptRow `json:"rows"`
}

// ReceiptOf puts together what ingest knows of a file's rows and the resolver of what AtHoc was told from them. by is who asks.
func ReceiptOf(ctx context.Context, conn *bus.Conn, f control.FileState, by string) (Receipt, error) {
	r := Receipt{ID: f.ID, Name: f.Name, Rows: []control.ReceiptRow{}}
	told := map[int][]control.ToldAnswer{}
	req := control.FileCallsRequest{File: f.ID, From: f.FirstSeen, To: f.Finished, By: by}
	var known bool
	for more := true; more; {
		page, err := control.Ask[control.FileCallsAnswer](ctx, conn.NC, topology.Resolver, control.FileCalls, req)
		if err != nil {
			return r, err
		}
		for _, t := range page.Told {
			told[t.Line] = append(told[t.Line], t)
			req.After = t.Line
		}
		known, more = !f.FirstSeen.Before(page.CompleteFrom), page.More && len(page.Told) > 0
	}
	err := EachRow(ctx, conn, f, true, func(rows []control.RowState) error {
		for _, row := range rows {
			r.Rows = append(r.Rows, control.Receipt(row, told[row.Line], known))
		}
		return nil
	})
	return r, err
}
