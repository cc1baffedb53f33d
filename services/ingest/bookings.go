package ingest

// What a worker has booked, read again from the files, with what became of each row. This includes rows that were
// superseded before anything was sent.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/services/ingest/internal/content"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/control"
)

const (
	// bookingsTime is how long files are read to answer one request.
	bookingsTime = 8 * time.Second
	// maxBookings is the most bookings in an answer. There may be fewer, since they must fit into a message: see
	// rowsBytes.
	maxBookings = 500
)

// errFileGone means that no copy of a file is where the ledger says it is.
var errFileGone = errors.New("the file is not there any more")

// bookings lists a worker's bookings in the files that arrived from req.From to req.To, the latest file first.
func (o *operators) bookings(ctx context.Context, req control.BookingsRequest) (control.BookingsAnswer, error) {
	answer := control.BookingsAnswer{Bookings: []control.Booking{}} // encoded as [], not as null
	if req.Employee == "" {
		return answer, control.Refuse("name a worker by the employee id")
	}

	all, err := o.ledger.Files()
	if err != nil {
		return answer, err
	}

	ctx, cancel := context.WithTimeout(ctx, bookingsTime)
	defer cancel()

	size := 0
	for _, f := range slices.Backward(all) {
		if came := f.Arrival(); came.Before(req.From) || came.After(req.To) || f.Rows == 0 {
			continue
		}

		found, err := o.bookingsIn(ctx, f, req.Employee)
		if errors.Is(err, errFileGone) {
			found, err = o.bookingsOfMoved(ctx, f, req.Employee)
		}

		data, _ := json.Marshal(found) // every field can be encoded
		switch {
		case errors.Is(err, errFileGone):
			answer.Gone++
		case err != nil || len(answer.Bookings)+len(found) > maxBookings || size+len(data) > rowsBytes:
			answer.Unread++
		default:
			answer.Bookings, size = append(answer.Bookings, found...), size+len(data)
		}
	}

	return answer, nil
}

// bookingsIn returns a worker's bookings in a file, read from the first copy that can be read.
func (o *operators) bookingsIn(ctx context.Context, f *ledger.File, employee string) ([]control.Booking, error) {
	failure := errFileGone
	for _, p := range f.Copies {
		path := p.MovedTo
		if p.InInput() {
			dir, _ := o.cfg.Inputs().Dir(p.Name)
			path = filepath.Join(dir, files.Base(p.Name))
		}

		if path == "" {
			continue
		}

		src, err := content.Open(ctx, path, content.Options{MaxSize: o.cfg.MaxFileSize})
		if err != nil {
			continue // another copy may be there
		}

		found, err := o.bookingsFrom(ctx, src, f, employee)
		src.Close()

		if err == nil {
			return found, nil
		}

		failure = err
	}

	if ctx.Err() != nil {
		return nil, ctx.Err()
	}

	return nil, failure
}

// bookingsOfMoved reads a file that was not where its record said, if it has just been moved: the ledger records a
// move only after it was made.
func (o *operators) bookingsOfMoved(ctx context.Context, before *ledger.File, employee string) ([]control.Booking, error) {
	resume := o.mover.Pause() // waits until moves that were made are recorded
	resume()

	now, err := o.ledger.File(before.ID)
	if err != nil {
		return nil, err
	}

	if now == nil || slices.EqualFunc(now.Copies, before.Copies, func(a, b ledger.Copy) bool { return a.Name == b.Name && a.MovedTo == b.MovedTo }) {
		return nil, errFileGone
	}

	return o.bookingsIn(ctx, now, employee)
}

func (o *operators) bookingsFrom(ctx context.Context, src *content.File, f *ledger.File, employee string) ([]control.Booking, error) {
	if src.ID != f.ID {
		return nil, errFileGone // another file is in its place
	}

	text, err := src.Text(ctx)
	if err != nil {
		return nil, err
	}

	var found []control.Booking
	rows := bobocsv.NewReader(text, bobocsv.Options{Zone: o.cfg.Zone.Location()})
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}

		if err != nil {
			return nil, fmt.Errorf("read %s again: %w", ledger.Display(f.Name), err)
		}

		if e := row.Entry; row.Reason == 0 && e.Employee == employee {
			found = append(found, control.Booking{
				File: f.ID, Name: ledger.Display(f.Name), Line: e.Row, On: e.On, At: time.Unix(e.At, 0).UTC(), Arrived: f.Arrival(),
			})
		}
	}

	return found, o.addOutcomes(f.ID, found)
}

// addOutcomes adds to the bookings of one file, which are in the order of their lines, what became of each.
func (o *operators) addOutcomes(id string, found []control.Booking) error {
	if len(found) == 0 {
		return nil
	}

	left := found
	for row, err := range o.ledger.Rows(id, func(ledger.Code) bool { return true }) {
		if err != nil {
			return err
		}

		if row.Line == left[0].Line {
			left[0].Outcome, left[0].Text = row.Code.String(), explain(row)
			if left = left[1:]; len(left) == 0 {
				break
			}
		}
	}

	return nil
}
