package control

import (
	"time"

	"bobosync/shared/event"
	"bobosync/shared/history"
)

// Endpoints of the resolver that look into the past. They name persons, so they are for operators alone, and each
// question is recorded in the audit before it is answered.
const (
	// WorkerPast takes a PastRequest and answers with a PastAnswer.
	WorkerPast = "worker-past"
	// OnDuty takes an OnDutyRequest and answers with an OnDutyAnswer.
	OnDuty = "on-duty"
	// FileCalls takes a FileCallsRequest and answers with a FileCallsAnswer.
	FileCalls = "file-calls"
)

// Bookings is ingest's endpoint for what a worker has booked; like those above, it is recorded in the audit. It takes a
// BookingsRequest and answers with a BookingsAnswer.
const Bookings = "bookings"

// BookingsRequest asks for a worker's bookings in the files that arrived within a period.
type BookingsRequest struct {
	Employee string    `json:"employee"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	By       string    `json:"by"`
}

// BookingsAnswer lists bookings: those of the file that arrived last come first, within a file in the order of their
// lines.
type BookingsAnswer struct {
	Bookings []Booking `json:"bookings"`
	// Gone counts the files of that period that no longer exist. Unread counts those that could not be read in time or
	// at all, or whose bookings did not fit into the answer.
	Gone   int `json:"gone,omitempty"`
	Unread int `json:"unread,omitempty"`
}

// Booking is a row of a file, with its outcome.
type Booking struct {
	File string    `json:"file"`
	Name string    `json:"name"`
	Line int       `json:"line"`
	On   bool      `json:"on"`
	At   time.Time `json:"at"`
	// Arrived is when the file arrived.
	Arrived time.Time `json:"arrived"`
	// Outcome is the row's outcome, or pending; Text puts it into words. Both are empty if nothing is known of the row
	// any more.
	Outcome string `json:"outcome,omitempty"`
	Text    string `json:"text,omitempty"`
}

// PastRequest asks what AtHoc held of a worker at a moment.
type PastRequest struct {
	// Text is an employee id or an AtHoc username.
	Text string `json:"text"`
	// At is the moment; the zero time means now.
	At time.Time `json:"at,omitzero"`
	// Most limits how much of what AtHoc was sent before the moment is listed; with 0, only what determines the state
	// is.
	Most int    `json:"most,omitempty"`
	By   string `json:"by"`
}

// PastAnswer is what AtHoc held of a worker at a moment.
type PastAnswer struct {
	Employee string    `json:"employee"`
	User     string    `json:"user,omitempty"`
	At       time.Time `json:"at"`
	// State is on, off, uncertain or unknown.
	State history.State `json:"state"`
	// Confirmed is what AtHoc had last confirmed by then, Next is what it was sent next; nil if nothing.
	Confirmed *DeliveryAnswer `json:"held"`
	Next      *DeliveryAnswer `json:"next"`
	// Doubts are the calls without an answer, and Gaps the periods in which answers were lost, that make the state
	// uncertain.
	Doubts []DeliveryAnswer `json:"doubts"`
	Gaps   []Interval       `json:"gaps"`
	// Deliveries is what AtHoc was sent up to the moment and next after it, newest first.
	Deliveries []DeliveryAnswer `json:"told"`
	// CompleteFrom is since when the history is complete.
	CompleteFrom time.Time `json:"complete_from"`
}

// Interval is a period of time.
type Interval struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// DeliveryAnswer is something that AtHoc was sent for a worker.
type DeliveryAnswer struct {
	User string `json:"user"`
	// On and Booked are what was sent: whether the worker is on duty, and when the worker booked that.
	On     bool      `json:"on"`
	Booked time.Time `json:"booked"`
	// File and Line are the file's id and the line in it from which the status came.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Outcome is AtHoc's answer: applied, expired (off duty was sent, because the duty was too old), unknown_user,
	// forbidden_user, dead, or pending if there is no answer.
	Outcome string `json:"outcome"`
	// Call is the call's id (a UUIDv7), Publisher is the publisher that made it. Both are empty if a program of an
	// older version made it.
	Call      string `json:"call,omitempty"`
	Publisher string `json:"publisher,omitempty"`
	// Sent and Answered are the times of the call, Status is its HTTP status, Users is how many users it carried.
	Sent     time.Time `json:"sent"`
	Answered time.Time `json:"answered,omitzero"`
	Status   int       `json:"status,omitempty"`
	Users    int       `json:"users,omitempty"`
}

// ShowDelivery converts a delivery to the form in which people see it.
func ShowDelivery(t event.Delivery) DeliveryAnswer {
	a := DeliveryAnswer{
		User: t.User, On: t.On, Booked: time.Unix(t.At, 0).UTC(), File: t.File, Line: t.Row, Outcome: t.Outcome.String(),
		Call: t.Call.ID, Publisher: t.Call.Publisher, Sent: time.UnixMilli(t.Call.Sent).UTC(), Status: t.Call.Status, Users: t.Call.Users,
	}
	if t.Call.Answered != 0 {
		a.Answered = time.UnixMilli(t.Call.Answered).UTC()
	}

	return a
}

// OnDutyRequest asks whom AtHoc held as on duty at a moment.
type OnDutyRequest struct {
	// At is the moment; the zero time means now.
	At time.Time `json:"at,omitzero"`
	// After is the last username of the previous page.
	After string `json:"after,omitempty"`
	By    string `json:"by"`
}

// OnDutyAnswer is a page of the workers on duty, by username.
type OnDutyAnswer struct {
	At time.Time `json:"at"`
	// Total and Uncertain count over all pages: the workers on duty, and those for whom that is uncertain.
	Total     int            `json:"total"`
	Uncertain int            `json:"uncertain"`
	Workers   []OnDutyWorker `json:"workers"`
	// More reports whether there is another page.
	More         bool       `json:"more"`
	CompleteFrom time.Time  `json:"complete_from"`
	Gaps         []Interval `json:"gaps"`
}

// OnDutyWorker is a worker who was, or may have been, on duty.
type OnDutyWorker struct {
	Employee string        `json:"employee,omitempty"`
	User     string        `json:"user"`
	State    history.State `json:"state"`
	// Since is when the worker booked on, Answered is when AtHoc confirmed that, in the call Call; all are zero if it
	// is uncertain.
	Since    time.Time `json:"since,omitzero"`
	Answered time.Time `json:"answered,omitzero"`
	Call     string    `json:"call,omitempty"`
}

// FileCallsRequest asks what AtHoc was sent from the rows of a file.
type FileCallsRequest struct {
	// File is the file's id.
	File string `json:"file"`
	// From and To enclose the time in which it was sent: from the file's arrival until it was done. A zero To means
	// now.
	From time.Time `json:"from"`
	To   time.Time `json:"to,omitzero"`
	// After is the last line of the previous page.
	After int    `json:"after,omitempty"`
	By    string `json:"by"`
}

// FileCallsAnswer is a page of what AtHoc was sent, by line.
type FileCallsAnswer struct {
	// Deliveries do not name the workers.
	Deliveries []DeliveryAnswer `json:"told"`
	// More reports whether there is another page.
	More         bool      `json:"more"`
	CompleteFrom time.Time `json:"complete_from"`
}
