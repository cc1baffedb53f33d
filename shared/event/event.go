// Package event holds the wire types that travel between the services, their JSON form and their versions.
//
// Every payload is JSON with a "v" field. A reader refuses a version that it does not know with ErrVersion, and a
// payload that it cannot read with ErrPayload. Both go to the dead letters, because the same bytes would fail forever.
// The golden files in testdata pin the form: if they change, running services of the previous version must still be
// able to read the result.
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

// Version orders the events of one worker: the latest one always wins. It is a function of the files alone, so it is
// the same when a file is read again.
type Version struct {
	// Rank is the event's time in Unix seconds, for comparison only. In the hour that autumn repeats, wall-clock times
	// cannot be ordered, so all of them have the rank of the hour's start and the reading order decides.
	Rank int64 `json:"rank" cbor:"1,keyasint"`
	// Sequence is the file's position in the order of reading (nanoseconds; see ingest's ledger).
	Sequence int64 `json:"order" cbor:"2,keyasint"`
	// Row is the line of the file, counted from 1, on which the row starts.
	Row int `json:"row" cbor:"3,keyasint"`
}

// Compare is negative if v is older than w, positive if it is newer, and 0 if both have the same place in the order.
func (v Version) Compare(w Version) int {
	return cmp.Or(cmp.Compare(v.Rank, w.Rank), cmp.Compare(v.Sequence, w.Sequence), cmp.Compare(v.Row, w.Row))
}

// Entries carries consecutive entries of one file from ingest to the resolver, on bobo.entries.<file id>.
type Entries struct {
	V int `json:"v"`
	// File is the file's id: the SHA-256 of its content, in lower-case hex.
	File string `json:"file"`
	// Feed is the feed that the file came from; empty if it is that of CSV_DIRECTORY, or if it is no longer known.
	Feed string `json:"feed,omitempty"`
	// Sequence is the file's position in the order of reading; see Version.Sequence.
	Sequence int64 `json:"order"`
	// Last reports that no entries of this file follow.
	Last bool `json:"last,omitempty"`
	// More is the predecessor of Ahead, for resolvers of earlier versions. In a steady stream of files it could be set
	// forever.
	More bool `json:"more,omitempty"`
	// Ahead reports that further files are read right after this one, and that they were in the input directory
	// together with it: their entries are a backlog that exists although it is not in the stream yet.
	Ahead bool `json:"ahead,omitempty"`
	// Settled reports that every row of this file already has its outcome: the file is read again only so that a
	// resolver that lost its state store learns its events. Nobody waits for an outcome.
	Settled bool    `json:"settled,omitempty"`
	Entries []Entry `json:"entries"`
}

// Entry is one valid row of a BOBO file: this worker booked on or off at this time.
type Entry struct {
	// Row is the line of the file, counted from 1, on which the row starts.
	Row int `json:"row"`
	// Employee is the worker's number in BOBO. It is a text: leading zeros count.
	Employee string `json:"emp"`
	// At is the event's time in Unix seconds.
	At int64 `json:"at"`
	// Rank is Version.Rank if it differs from At, else 0.
	Rank int64 `json:"rank,omitempty"`
	// On is true for a booking on.
	On bool `json:"on"`
}

// Version returns the entry's position in the order of its worker's events.
func (e Entry) Version(sequence int64) Version {
	rank := e.Rank
	if rank == 0 {
		rank = e.At
	}

	return Version{Rank: rank, Sequence: sequence, Row: e.Row}
}

// Recovered ends a rebuild: ingest publishes it to the stream of entries after everything that the resolver with this
// state store had to read again. The resolver then knows that it may continue to publish.
type Recovered struct {
	V int `json:"v"`
	// Epoch is the id of the resolver's state store that was rebuilt; see StoreEpoch.
	Epoch string `json:"memory"`
}

// StoreEpoch identifies the resolver's state store, in the state bucket: a new epoch means that the old store is gone.
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
	// ReasonMapped: after booking, the worker was mapped, or mapped to another user.
	ReasonMapped Reason = "mapped"
	// ReasonExpiry: the duty got older than AUTO_CLEANUP_HOURS.
	ReasonExpiry Reason = "expiry"
	// ReasonReplay: an operator wants the status sent again.
	ReasonReplay Reason = "replay"
	// ReasonRepeat: a call was given up without an answer, and AtHoc may have processed it after a newer one.
	ReasonRepeat Reason = "repeat"
	// ReasonReconcile: AtHoc was seen to hold a different status.
	ReasonReconcile Reason = "reconcile"
	// ReasonRecovery: what was on its way to AtHoc may have been lost with the broker's store.
	ReasonRecovery Reason = "recovery"
)

// Update is the duty status that one user should have and the event it comes from, on bobo.updates.<partition>.<user
// key>.
type Update struct {
	V int `json:"v"`
	// User is the AtHoc username (LOGIN_ID), spelt as AtHoc spells it.
	User     string `json:"user"`
	Employee string `json:"emp,omitempty"`
	// On is true for on duty.
	On bool `json:"on"`
	// At is the event's time in Unix seconds; for on duty, it is the value that AtHoc is sent.
	At      int64   `json:"at"`
	Version Version `json:"version"`
	// File and Version.Row name the row that the status comes from; the row may already be settled. File is empty for a
	// user to whom no worker is mapped.
	File   string `json:"file,omitempty"`
	Reason Reason `json:"reason"`
	// Keep means that a person wants the duty to stay, so it is sent however old it is.
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
	// InDoubt are updates that AtHoc may or may not have accepted, in calls that it no longer works on: they are sent
	// again in any case.
	InDoubt []Answer `json:"unsure,omitempty"`
	// Calls are the calls that the answers belong to. A publisher of an earlier version lists none.
	Calls []Call `json:"calls,omitempty"`
}

// CallOf returns the call that an answer belongs to; nil if that is not known.
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
	// Publisher is the publisher that made it: host and process.
	Publisher string `json:"publisher"`
	// Sent and Answered are when it began and ended, by the publisher's clock, in Unix milliseconds.
	Sent     int64 `json:"sent_ms"`
	Answered int64 `json:"answered_ms,omitempty"`
	// Status is the HTTP status; 0 if there was no answer.
	Status int `json:"status,omitempty"`
	// Users is how many users were in it.
	Users int `json:"users"`
}

// FileRows are rows of one file with the same outcome.
type FileRows struct {
	File    string  `json:"file"`
	Outcome Outcome `json:"outcome"`
	Rows    RowSet  `json:"rows"`
	// Withheld means that the rows are Withheld. The outcome is then Dead, because programs that do not know Withheld
	// treat it alike.
	Withheld bool `json:"withheld,omitempty"`
}

// Settle returns the FileRows that give rows of a file an outcome.
func Settle(file string, o Outcome, rows RowSet) FileRows {
	if o == Withheld {
		return FileRows{File: file, Outcome: Dead, Rows: rows, Withheld: true}
	}
	return FileRows{File: file, Outcome: o, Rows: rows}
}

// Settled returns the outcome of the rows.
func (r FileRows) Settled() Outcome {
	if r.Withheld {
		return Withheld
	}
	return r.Outcome
}

// Answer is the outcome of one update in AtHoc. The outcome Pending means that a call with the update was given up
// without an answer: AtHoc may have applied it, or may still do so.
type Answer struct {
	User     string  `json:"user"`
	Employee string  `json:"emp,omitempty"`
	File     string  `json:"file,omitempty"`
	Version  Version `json:"version"`
	Outcome  Outcome `json:"outcome"`
	// On is the status that was written: an update whose duty had expired before it could be sent is written as off
	// duty.
	On bool `json:"on"`
	// At is the event's time in Unix seconds, as in the update.
	At int64 `json:"at"`
	// Answered is the moment of AtHoc's answer, in Unix seconds.
	Answered int64 `json:"answered"`
	// Waited is how long the update had waited for that answer since it could be sent, in milliseconds; 0 if not known.
	Waited int64 `json:"waited_ms,omitempty"`
	// Call is the position of the call in Acks.Calls, counted from 1; 0 if not known.
	Call int `json:"call,omitempty"`
	// Detail is the reason for the outcome dead, free of personal data.
	Detail string `json:"detail,omitempty"`
}

// Calling is what a publisher records in the state bucket before it makes a call, and deletes when the answers are
// stored. What a killed publisher leaves behind are calls without an answer.
type Calling struct {
	V     int       `json:"v"`
	Calls []Attempt `json:"calls"`
}

// Attempt is a call that was begun.
type Attempt struct {
	Call
	// Files are the files that Whom refers to.
	Files []string `json:"files"`
	Whom  []Sent   `json:"whom"`
}

// Sent is what a call sends to AtHoc for one user. A call has one for each of its users, and all must fit into one
// message, hence the short names.
type Sent struct {
	User     string `json:"u"`
	Employee string `json:"e,omitempty"`
	On       bool   `json:"o,omitempty"`
	At       int64  `json:"a"`
	// File is the index of the file in Attempt.Files, counted from 1; 0 if there is none.
	File int `json:"f,omitempty"`
	Row  int `json:"r,omitempty"`
}

// Delivery is what AtHoc was sent for one user, as the stream HISTORY keeps it.
type Delivery struct {
	V        int    `json:"v"`
	User     string `json:"user"`
	Employee string `json:"emp,omitempty"`
	// On and At are the value: on duty since At, in Unix seconds, or off duty since then.
	On bool  `json:"on,omitempty"`
	At int64 `json:"at"`
	// File and Row name the row that it comes from.
	File string `json:"file,omitempty"`
	Row  int    `json:"row,omitempty"`
	// Outcome is AtHoc's answer; Pending if it is not known whether AtHoc accepted the value.
	Outcome Outcome `json:"outcome"`
	// Until is set if there was no answer: it is how long AtHoc may have been working on the call, as a moment in Unix
	// milliseconds.
	Until int64 `json:"until_ms,omitempty"`
	// Call has no ID and no Publisher if a publisher of an earlier version made it; its Sent then equals Answered.
	Call Call `json:"call"`
}

// HistoryInfo describes the stream HISTORY as a whole.
type HistoryInfo struct {
	V int `json:"v"`
	// From is the time since which the history is complete.
	From time.Time `json:"from"`
	// Acks identifies the stream of answers that the history is written from.
	Acks string `json:"acks"`
	// Gaps are the periods in which answers may have been lost.
	Gaps []Gap `json:"gaps,omitempty"`
}

// Gap is a period in which answers may have been lost, in Unix milliseconds.
type Gap struct {
	From int64 `json:"from_ms"`
	To   int64 `json:"to_ms"`
}

// Mark is a position in the stream HISTORY from which one can derive who was on duty without reading what precedes it.
type Mark struct {
	V int `json:"v"`
	// At is the latest moment of anything up to the position, in Unix milliseconds.
	At int64 `json:"at_ms"`
	// Through is the sequence of the position. Open are the sequences, up to it, of the messages because of which
	// somebody is not known to be off duty.
	Through uint64   `json:"through"`
	Open    []uint64 `json:"open"`
	// Parts is the number of messages that make up the mark, one right after the other; 0 means one. Index counts them
	// from 0.
	Parts int `json:"parts,omitempty"`
	Index int `json:"index,omitempty"`
}

// MappingChunk is a part of a whole mapping, on bobo.mapping.snapshot. A reader applies a snapshot once it has all of
// its chunks, and ignores it otherwise.
type MappingChunk struct {
	V int `json:"v"`
	// Snapshot is the id of the refresh that the chunk belongs to.
	Snapshot string `json:"snapshot"`
	// Taken is the moment at which the refresh was complete.
	Taken time.Time `json:"taken"`
	// Index counts from 0 to Chunks-1.
	Index  int `json:"index"`
	Chunks int `json:"chunks"`
	// Users maps employee ids to usernames.
	Users map[string]string `json:"users"`
}

// DeadLetter is a message that could not be processed, on bobo.dead.<service>.
type DeadLetter struct {
	V int `json:"v"`
	// Service is the service that gave up.
	Service string `json:"service"`
	// Reason says why, free of personal data.
	Reason string `json:"reason"`
	// Subject and Payload are those of the original message.
	Subject string `json:"subject"`
	Payload []byte `json:"payload"`
	// File and Row name the row that did not reach AtHoc, if the message was about one.
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

// Decode reads the JSON form into e and checks that it can be processed. Its errors wrap ErrVersion or ErrPayload, and
// quote nothing of the payload.
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

// checked is implemented by pointers to the wire types whose fields become keys of a store: something that a store
// refuses would be tried again forever.
type checked interface {
	check() error
}

// MaxID is the longest employee id, username or file id that is accepted, in bytes.
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
