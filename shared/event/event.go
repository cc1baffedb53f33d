// Package event holds the wire types that travel between the services, their JSON form and their versions.
//
// Every payload is JSON with a "v" field. A reader refuses a version that it does not know with ErrVersion, and a
// payload that it cannot read with ErrPayload; both go to the dead letters, since the same bytes would fail for ever.
// The golden files in testdata pin the form: a change to them is a change that running services of the version before
// must be able to read.
//
// Personal data: an event carries the employee id, the username and the time of booking. It never carries the payroll
// id or the place (columns 3 and 7 to 10 of a BOBO file).
package event

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// CurrentVersion is the version that this build writes and the only one that it reads.
const CurrentVersion = 1

// ErrVersion means that an event was written by a version of BOBO Sync that this one does not know.
var ErrVersion = errors.New("unknown event version")

// ErrPayload means that an event cannot be read at all.
var ErrPayload = errors.New("unreadable event")

// Version orders the events of one worker: the latest one wins, for ever. It is a function of the files alone, so it
// comes out the same when a file is read again.
type Version struct {
	// Rank is the event's time as Unix seconds, for comparing only. In the hour that autumn repeats, wall-clock times
	// cannot be ordered, so all of them have the rank of the hour's start and the reading order decides.
	Rank int64 `json:"rank" cbor:"1,keyasint"`
	// Sequence is the place of the file in the order of reading (nanoseconds; see ingest's ledger).
	Sequence int64 `json:"order" cbor:"2,keyasint"`
	// Row is the line of the file, counted from 1, on which the row starts.
	Row int `json:"row" cbor:"3,keyasint"`
}

// Compare is negative when v is older than w, positive when it is newer, and 0 for the same place in the order.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Rank, w.Rank), cmp.Compare(v.Sequence, w.Sequence), cmp.Compare(v.Row, w.Row))
}

// Entries carries consecutive entries of one file from ingest to the resolver, on bobo.entries.<file id>.
type Entries struct {
	V int `json:"v"`
	// File is the file's id: the SHA-256 of its content, in lower-case hex.
	File string `json:"file"`
	// Feed is that which the file came from; empty if it is the only one, or not known any more.
	Feed string `json:"feed,omitempty"`
	// Sequence is the file's place in the order of reading; see Version.Sequence.
	Sequence int64 `json:"order"`
	// Last says that no entries of this file follow.
	Last bool `json:"last,omitempty"`
	// More is for resolvers of earlier versions: as Ahead, but it could be said for ever of a steady stream of files.
	More bool `json:"more,omitempty"`
	// Ahead says that further files are read right after this one which lay in the input directory together with it: their entries are
	// a backlog that is there, though not in the stream yet.
	Ahead bool `json:"ahead,omitempty"`
	// Settled says that every row of this file has its outcome already: the file is read again only so that a resolver
	// which lost its state store learns its events. No outcome is awaited.
	Settled bool    `json:"settled,omitempty"`
	Entries []Entry `json:"entries"`
}

// Entry is one valid row of a BOBO file: this worker booked on or off at this time.
type Entry struct {
	// Row is the line of the file, counted from 1, on which the row starts.
	Row int `json:"row"`
	// Employee is the worker's number in BOBO: a text, leading zeros count.
	Employee string `json:"emp"`
	// At is the event's time in Unix seconds.
	At int64 `json:"at"`
	// Rank is Version.Rank where it differs from At, else 0.
	Rank int64 `json:"rank,omitempty"`
	// On is true for a booking on.
	On bool `json:"on"`
}

// Version returns the entry's place in the order of its worker's events.
func (e Entry) Version(sequence int64) Version {
	rank := e.Rank
	if rank == 0 {
		rank = e.At
	}

	return Version{Rank: rank, Sequence: sequence, Row: e.Row}
}

// Recovered closes a reading-again: ingest sends it on the entries' stream after everything that the resolver with this
// state store had to read again, so that the resolver knows that it may go on to publish.
type Recovered struct {
	V int `json:"v"`
	// Epoch names the resolver's memory that was rebuilt; see StoreEpoch.
	Epoch string `json:"memory"`
}

// StoreEpoch is what the resolver says of its memory, kept in the state bucket: a new name means that the old memory is gone.
type StoreEpoch struct {
	V     int       `json:"v"`
	Epoch string    `json:"memory"`
	Since time.Time `json:"since"`
}

// Reason says why an update was published.
type Reason string

// The reasons for an update.
const (
	// ReasonEvent: a worker booked on or off.
	ReasonEvent Reason = "event"
	// ReasonMapped: the worker was mapped, or mapped to another user, after booking.
	ReasonMapped Reason = "mapped"
	// ReasonExpiry: the duty got older than AUTO_CLEANUP_HOURS.
	ReasonExpiry Reason = "expiry"
	// ReasonReplay: an operator wants it sent again.
	ReasonReplay Reason = "replay"
	// ReasonRepeat: a call was given up without an answer, and AtHoc may have worked on it later than on a newer one.
	ReasonRepeat Reason = "repeat"
	// ReasonReconcile: AtHoc was seen to hold something else.
	ReasonReconcile Reason = "reconcile"
	// ReasonRecovery: what was on its way to AtHoc may have been lost with the broker's store.
	ReasonRecovery Reason = "recovery"
)

// Update is the duty status that one user should have and the event it comes from, on bobo.updates.<partition>.<user key>.
type Update struct {
	V int `json:"v"`
	// User is the AtHoc username (LOGIN_ID), spelt as AtHoc spells it.
	User     string `json:"user"`
	Employee string `json:"emp,omitempty"`
	// On is true for on duty.
	On bool `json:"on"`
	// At is the event's time in Unix seconds: on duty, it is the value that AtHoc gets.
	At      int64   `json:"at"`
	Version Version `json:"version"`
	// File and Version.Row name the row that the status comes from; it may be settled already. File is empty for a user whom
	// no worker is mapped to.
	File   string `json:"file,omitempty"`
	Reason Reason `json:"reason"`
	// Keep: a person wants the duty to stay, so it is sent however old it is.
	Keep bool `json:"keep,omitempty"`
}

// Acks carries the outcomes of many rows to ingest, and AtHoc's answers to the resolver, on bobo.acks.
type Acks struct {
	V int `json:"v"`
	// From is the service that settled the rows.
	From string `json:"from"`
	// Rows are rows that were settled without a call to AtHoc.
	Rows []FileRows `json:"rows,omitempty"`
	// Answers are the outcomes of calls to AtHoc.
	Answers []Answer `json:"answers,omitempty"`
	// InDoubt are updates that AtHoc may have taken, or not, in calls that it is done with: they are sent again in any case.
	InDoubt []Answer `json:"unsure,omitempty"`
	// Calls are the calls that the answers are from. A publisher of an earlier version names none.
	Calls []Call `json:"calls,omitempty"`
}

// CallOf returns the call that an answer is from; nil if that is not known.
func (e *Acks) CallOf(a Answer) *Call {
	if a.Call < 1 || a.Call > len(e.Calls) {
		return nil
	}
	return &e.Calls[a.Call-1]
}

// Call is one call to AtHoc.
type Call struct {
	// ID is a UUIDv7, made by the publisher.
	ID string `json:"id"`
	// Publisher is who made it: host and process.
	Publisher string `json:"publisher"`
	// Sent and Answered are when it was begun and when it was over, by the publisher's clock, in Unix milliseconds.
	Sent     int64 `json:"sent_ms"`
	Answered int64 `json:"answered_ms,omitempty"`
	// Status is that of HTTP; 0 if there was no answer.
	Status int `json:"status,omitempty"`
	// Users is how many were in it.
	Users int `json:"users"`
}

// FileRows are rows of one file with the same outcome.
type FileRows struct {
	File    string  `json:"file"`
	Outcome Outcome `json:"outcome"`
	Rows    RowSet  `json:"rows"`
	// Withheld: the rows are Withheld. The outcome is Dead then, which programs that know no Withheld treat alike.
	Withheld bool `json:"withheld,omitempty"`
}

// Settle says that rows of a file have an outcome.
func Settle(file string, o Outcome, rows RowSet) FileRows {
	if o == Withheld {
		return FileRows{File: file, Outcome: Dead, Rows: rows, Withheld: true}
	}
	return FileRows{File: file, Outcome: o, Rows: rows}
}

// Settled returns the outcome that the rows have.
func (r FileRows) Settled() Outcome {
	if r.Withheld {
		return Withheld
	}
	return r.Outcome
}

// Answer is what became of one update in AtHoc. With the outcome Pending it says that a call with the update was given up
// without an answer: AtHoc may have applied it, or may yet.
type Answer struct {
	User     string  `json:"user"`
	Employee string  `json:"emp,omitempty"`
	File     string  `json:"file,omitempty"`
	Version  Version `json:"version"`
	Outcome  Outcome `json:"outcome"`
	// On says what was written: an update whose duty had expired before it could be sent is written as off duty.
	On bool `json:"on"`
	// At is the event's time in Unix seconds, as in the update.
	At int64 `json:"at"`
	// Answered is the moment of AtHoc's answer, in Unix seconds.
	Answered int64 `json:"answered"`
	// Waited is how long the update had waited for that answer, from when it could be sent on, in milliseconds; 0 if not known.
	Waited int64 `json:"waited_ms,omitempty"`
	// Call is the place of the call in Acks.Calls, counted from 1; 0 if not known.
	Call int `json:"call,omitempty"`
	// Detail is the reason that goes with dead, free of personal data.
	Detail string `json:"detail,omitempty"`
}

// Calling is what a publisher records before it makes a call, in the state bucket, and deletes when the answers are stored. What
// is left of one that was killed are calls without an answer.
type Calling struct {
	V     int       `json:"v"`
	Calls []Attempt `json:"calls"`
}

// Attempt is a call that was begun.
type Attempt struct {
	Call
	// Files are the files that Whom speaks of.
	Files []string `json:"files"`
	Whom  []Sent   `json:"whom"`
}

// Sent is what a call sends to AtHoc for one user. There are as many of them as users in a call, and all must fit into one message: hence
// the short names.
type Sent struct {
	User     string `json:"u"`
	Employee string `json:"e,omitempty"`
	On       bool   `json:"o,omitempty"`
	At       int64  `json:"a"`
	// File is the index of the file in Attempt.Files, counted from 1; 0 if there is none.
	File int `json:"f,omitempty"`
	Row  int `json:"r,omitempty"`
}

// Delivery is what AtHoc was told of one user, as the stream HISTORY keeps it.
type Delivery struct {
	V        int    `json:"v"`
	User     string `json:"user"`
	Employee string `json:"emp,omitempty"`
	// On and At are what was written: on duty since At, in Unix seconds, or off duty since then.
	On bool  `json:"on,omitempty"`
	At int64 `json:"at"`
	// File and Row name the row that it comes from.
	File string `json:"file,omitempty"`
	Row  int    `json:"row,omitempty"`
	// Outcome is AtHoc's answer; Pending if it is not known whether it took the value.
	Outcome Outcome `json:"outcome"`
	// Until, of one without an answer, is until when AtHoc may have been working on the call, in Unix milliseconds.
	Until int64 `json:"until_ms,omitempty"`
	// Call has no id and no name if a publisher of an earlier version made it, and was Sent when it was Answered then.
	Call Call `json:"call"`
}

// HistoryInfo is what is known of the stream HISTORY as a whole.
type HistoryInfo struct {
	V int `json:"v"`
	// From is since when the history is complete.
	From time.Time `json:"from"`
	// Acks is the identity of the stream of answers that it is written from.
	Acks string `json:"acks"`
	// Gaps are the times in which answers may have been lost.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Gap is a time in which answers may have been lost, in Unix milliseconds.
type Gap struct {
	From int64 `json:"from_ms"`
	To   int64 `json:"to_ms"`
}

// Mark is a position in the stream HISTORY from which it can be derived who was on duty without reading what lies before it.
type Mark struct {
	V int `json:"v"`
	// At is the latest moment of anything up to the position, in Unix milliseconds.
	At int64 `json:"at_ms"`
	// Through is the sequence of the place, and Open are those, up to there, of what makes somebody not known to be off duty.
	Through uint64   `json:"through"`
	Open    []uint64 `json:"open"`
	// Parts is of how many messages a mark consists, one right after the other, and Index counts them from 0; 0 is one.
	Parts int `json:"parts,omitempty"`
	Index int `json:"index,omitempty"`
}

// MappingChunk is a part of a whole mapping, on bobo.mapping.snapshot. A reader applies a snapshot when it has all of its
// chunks, and ignores it otherwise.
type MappingChunk struct {
	V int `json:"v"`
	// Snapshot names the refresh that the chunk belongs to.
	Snapshot string `json:"snapshot"`
	// Taken is the moment at which the refresh was complete.
	Taken time.Time `json:"taken"`
	// Index counts from 0 to Chunks-1.
	Index  int `json:"index"`
	Chunks int `json:"chunks"`
	// Users maps employee ids to usernames.
	Users map[string]string `json:"users"`
}

// DeadLetter is what could not be processed, on bobo.dead.<service>.
type DeadLetter struct {
	V int `json:"v"`
	// Service is the one that gave up.
	Service string `json:"service"`
	// Reason says why, free of personal data.
	Reason string `json:"reason"`
	// Subject and Payload are the original message's.
	Subject string `json:"subject"`
	Payload []byte `json:"payload"`
	// File and Row name the row that was lost on the way, if it was one.
	File     string    `json:"file,omitempty"`
	Row      int       `json:"row,omitempty"`
	Attempts uint64    `json:"attempts"`
	First    time.Time `json:"first"`
	Died     time.Time `json:"died"`
}

// Versioned is implemented by pointers to all wire types.
type Versioned interface {
	version() *int
}

func (e *Entries) version() *int      { return &e.V }
func (e *Recovered) version() *int    { return &e.V }
func (e *StoreEpoch) version() *int   { return &e.V }
func (e *Update) version() *int       { return &e.V }
func (e *Acks) version() *int         { return &e.V }
func (e *Calling) version() *int      { return &e.V }
func (e *Delivery) version() *int     { return &e.V }
func (e *HistoryInfo) version() *int  { return &e.V }
func (e *Mark) version() *int         { return &e.V }
func (e *MappingChunk) version() *int { return &e.V }
func (e *DeadLetter) version() *int   { return &e.V }

// Encode sets the version and returns the JSON form.
func Encode(e Versioned) []byte {
	*e.version() = CurrentVersion
	if entries, ok := e.(*Entries); ok {
		return entries.appendJSON(make([]byte, 0, 200+90*len(entries.Entries)))
	}

	data, err := json.Marshal(e)
	if err != nil {
		// The wire types hold nothing that JSON cannot hold; the golden tests encode each of them.
		panic(fmt.Sprintf("encode %T: %v", e, err))
	}

	return data
}

// Decode reads the JSON form into e and checks that it can be worked on. Its errors wrap ErrVersion or ErrPayload, and quote nothing
// of the payload.
func Decode(data []byte, e Versioned) error {
	entries, ok := e.(*Entries)
	if !ok || !entries.readJSON(data) {
		if err := json.Unmarshal(data, e); err != nil {
			return fmt.Errorf("%w: %T of %d bytes: %s", ErrPayload, e, len(data), safe(err))
		}
	}

	if v := *e.version(); v != CurrentVersion {
		return fmt.Errorf("%w: %T has version %d, this program reads %d", ErrVersion, e, v, CurrentVersion)
	}

	if c, ok := e.(checked); ok {
		if err := c.check(); err != nil {
			return fmt.Errorf("%w: %T of %d bytes: %w", ErrPayload, e, len(data), err)
		}
	}

	return nil
}

// checked is implemented by pointers to the wire types whose fields become keys of a store: what a store refuses would be tried again
// for ever.
type checked interface {
	check() error
}

// MaxID is the longest employee id, username or file id that is taken, in bytes.
const MaxID = 1024

var (
	errNoEmployee = errors.New("an employee id is missing")
	errNoFile     = errors.New("the file id is missing")
	errLongID     = fmt.Errorf("an id is longer than %d bytes", MaxID)
	errRow        = errors.New("a row number is below 1")
)

func (e *Entries) check() error {
	if e.File == "" {
		return errNoFile
	}

	if len(e.File) > MaxID {
		return errLongID
	}

	for i := range e.Entries {
		switch entry := &e.Entries[i]; {
		case entry.Employee == "":
			return errNoEmployee
		case len(entry.Employee) > MaxID:
			return errLongID
		case entry.Row < 1:
			return errRow
		}
	}

	return nil
}

func (e *Acks) check() error {
	for _, all := range [][]Answer{e.Answers, e.InDoubt} {
		for i := range all {
			if a := &all[i]; max(len(a.Employee), len(a.User), len(a.File)) > MaxID {
				return errLongID
			}
		}
	}

	return nil
}

func (e *MappingChunk) check() error {
	for employee, user := range e.Users {
		if employee == "" {
			return errNoEmployee
		}

		if max(len(employee), len(user)) > MaxID {
			return errLongID
		}
	}

	return nil
}

// safe describes a JSON error without the value that caused it, which may name a person.
func safe(err error) string {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("not JSON at byte %d", syntax.Offset)
	case errors.As(err, &typ):
		return fmt.Sprintf("wrong type in field %q", typ.Field)
	default:
		return "not readable"
	}
}
