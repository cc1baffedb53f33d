package client

// The past: whom AtHoc held as on duty, and what was sent from a file's rows. Each question is recorded in the audit.

import (
	"context"
	"fmt"
	"time"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// PastMoment is like Moment, but fails for a time in the hour that autumn repeats; the error says how to name either.
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

// OnDuty lists the workers whom AtHoc held as on duty at a moment (the zero time means now). It asks for all pages, all
// of the same moment. The parameter by names the sender.
func OnDuty(ctx context.Context, conn *bus.Conn, at time.Time, by string) (control.OnDutyAnswer, error) {
	req := control.OnDutyRequest{At: at, By: by}
	all, err := Ask[control.OnDutyAnswer](ctx, conn, topology.Resolver, control.OnDuty, req)
	for more := all.More; err == nil && more; {
		req.At, req.After = all.At, all.Workers[len(all.Workers)-1].User
		var page control.OnDutyAnswer
		page, err = Ask[control.OnDutyAnswer](ctx, conn, topology.Resolver, control.OnDuty, req)
		all.Workers, more = append(all.Workers, page.Workers...), page.More && len(page.Workers) > 0
	}

	all.More = false

	return all, err
}

// bookingsBefore is how far back from a moment files are searched for a worker's bookings.
const bookingsBefore = 24 * time.Hour

// Bookings lists what a worker had booked by a moment, with the outcomes, from the files of the 24 hours before it. The
// parameter by names the sender.
func Bookings(ctx context.Context, conn *bus.Conn, employee string, at time.Time, by string) (control.BookingsAnswer, error) {
	if employee == "" { // a user to whom no known worker is mapped
		return control.BookingsAnswer{Bookings: []control.Booking{}}, nil
	}

	return Ask[control.BookingsAnswer](ctx, conn, topology.Ingest, control.Bookings, control.BookingsRequest{
		Employee: employee, From: at.Add(-bookingsBefore), To: at, By: by,
	})
}

// BookingsMissing says how many files a list of bookings lacks; empty if none.
func BookingsMissing(b control.BookingsAnswer) string {
	switch {
	case b.Gone > 0 && b.Unread > 0:
		return fmt.Sprintf("Bookings may be missing here: %s not there any more, and of %d not all was read", filesAre(b.Gone), b.Unread)
	case b.Gone > 0:
		return fmt.Sprintf("Bookings may be missing here: %s not there any more", filesAre(b.Gone))
	case b.Unread > 0:
		return fmt.Sprintf("Bookings may be missing here: %s could not be read, not in time, or had too many", text.Count(b.Unread, "file"))
	default:
		return ""
	}
}

func filesAre(n int) string {
	if n == 1 {
		return "1 file is"
	}
	return fmt.Sprintf("%d files are", n)
}

// comparisons is the most comparisons that are searched for one that mentions a worker.
const comparisons = 50

// LastSeen returns what the last comparison before a moment saw of a worker; nil if no comparison mentions the worker.
func LastSeen(ctx context.Context, conn *bus.Conn, a control.PastAnswer) (*control.Seen, error) {
	if a.Confirmed == nil {
		return nil, nil
	}

	ms := a.At.UnixMilli()

	runs, err := Ask[control.JournalAnswer](ctx, conn, topology.Janitor, control.Journal, control.JournalRequest{
		Kind: control.JobReconcile, Since: a.Confirmed.Answered, Most: comparisons,
		Before: fmt.Sprintf("%08x-%04x-7fff-bfff-ffffffffffff", ms>>16, ms&0xffff), // sorts after any that began by then
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

// Receipt lists the outcome and the deliveries of each row of a file.
type Receipt struct {
	ID   string               `json:"id"`
	Name string               `json:"name"`
	Rows []control.ReceiptRow `json:"rows"`
}

// ReceiptOf combines what ingest knows of a file's rows with what the resolver knows AtHoc was sent from them. The
// parameter by names the sender.
func ReceiptOf(ctx context.Context, conn *bus.Conn, f control.FileState, by string) (Receipt, error) {
	r := Receipt{ID: f.ID, Name: f.Name, Rows: []control.ReceiptRow{}}
	deliveries := map[int][]control.DeliveryAnswer{}
	req := control.FileCallsRequest{File: f.ID, From: f.FirstSeen, To: f.Finished, By: by}
	var known bool
	for more := true; more; {
		page, err := Ask[control.FileCallsAnswer](ctx, conn, topology.Resolver, control.FileCalls, req)
		if err != nil {
			return r, err
		}

		for _, t := range page.Deliveries {
			deliveries[t.Line] = append(deliveries[t.Line], t)
			req.After = t.Line
		}

		known, more = !f.FirstSeen.Before(page.CompleteFrom), page.More && len(page.Deliveries) > 0
	}

	err := EachRow(ctx, conn, f, true, func(rows []control.RowState) error {
		for _, row := range rows {
			r.Rows = append(r.Rows, control.Receipt(row, deliveries[row.Line], known))
		}
		return nil
	})

	return r, err
}
