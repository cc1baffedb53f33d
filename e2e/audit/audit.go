// Package audit judges a run of BOBO Sync from the outside: from the files that were dropped, from when they left the
// input directory, and from the call log and the end state of the AtHoc simulator. It shares no code with the
// pipeline, and it is written to be read: where the pipeline is clever, the auditor is simple.
//
// It errs on the side of the pipeline: what could have been right, given all that the auditor knows, is no finding.
package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"bobosync/cmd/athocsim/sim"
)

// Kind says what a finding is about.
type Kind string

// The kinds of findings.
const (
	// EndState: a user's duty status is not that of the worker's latest event.
	EndState Kind = "end_state"
	// Touched: something was changed that must not change: another attribute, a user whom no file mentions, or a user
	// was created or is gone.
	Touched Kind = "touched"
	// WentBack: an older event of a worker was sent after a newer one.
	WentBack Kind = "went_back"
	// Unexplained: a value was sent that no row of any file present at the time accounts for.
	Unexplained Kind = "unexplained"
	// Overlap: a user was in two calls at once.
	Overlap Kind = "overlap"
	// Unconfirmed: a file left the input directory with a row that was not settled.
	Unconfirmed Kind = "unconfirmed"
	// Unaccounted: a file or a row has no outcome, has an impossible outcome, or occurs twice.
	Unaccounted Kind = "unaccounted"
	// Failed: a file was set aside as failed without cause, or was not set aside although there was a cause.
	Failed Kind = "failed"
	// Stuck: a file is still in the input directory.
	Stuck Kind = "stuck"
	// BadCall: a call went to an unknown path, or did not have the parameters that it must have.
	BadCall Kind = "bad_call"
	// Late: a worker's latest status reached AtHoc later than necessary, after the last fault was over.
	Late Kind = "late"
	// Held: what waited for a person was sent, or was treated as rejected, although nobody had ordered it.
	Held Kind = "held"
	// Paused: there was a call during an operator's pause.
	Paused Kind = "paused"
	// Rate: there were more calls in some stretch of time than are allowed.
	Rate Kind = "rate"
)

// Rules are the settings that the pipeline runs with, as far as they matter to the auditor.
type Rules struct {
	// BoboZone and AtHocZone are the zones of the two wall clocks.
	BoboZone, AtHocZone *time.Location
	// Lifetime is the age after which duty is stale; 0 means never.
	Lifetime time.Duration
	// Cleans says that stale duty is cleared even for users whom no file mentions.
	Cleans bool
	// MaxSkew is how far in the future an event may lie.
	MaxSkew time.Duration
	// Duty is the one attribute that may be written.
	Duty string
	// Rate is the most calls a second, searches and updates together; Burst is how many may arrive at once.
	Rate  float64
	Burst int
	// Jitter is what the network and the scheduler of a busy machine may add: how much later than another call a call
	// may arrive although it was sent at the right time.
	Jitter time.Duration
	// Batch is the most users in one call, Settle how long a file must stay unchanged, and Start what a service may
	// need until it works. They bound how late a status may be. A zero Start means that nothing was done to services
	// or network, so that there is nothing to wait for.
	Batch         int
	Settle, Start time.Duration
	// Guard bounds how many users may go off duty without a person's approval.
	Guard Guard
	// CallTimeout is the longest that a client waits: an older call is no longer in flight.
	CallTimeout time.Duration
}

// Guard holds the settings of the pipeline for mass changes: within Window fewer than MinUsers users, or up to
// Percent of those on duty, may go off duty. A zero Window means that there is no bound.
type Guard struct {
	Window            time.Duration
	MinUsers, Percent int
}

// User is a user of AtHoc as the run began.
type User struct {
	Login, Collar string
	// Attributes are the values at the start, including the duty status but not LOGIN_ID.
	Attributes map[string]string
	// Forbidden users cannot be written by this account. Removed users were taken out of AtHoc during the run.
	Forbidden, Removed bool
	// Mapped, if not zero, is when the pipeline may first have learnt of the user: rows from before may be settled as
	// unmapped.
	Mapped time.Time
}

// File is a file that was dropped.
type File struct {
	Name    string
	Content []byte
	// Appeared is when the first part of it could be seen in the input directory.
	Appeared time.Time
}

// Departure says that a file was no longer in the input directory at a time.
type Departure struct {
	File int // index into Input.Files
	Gone time.Time
}

// Kept is a file in the directory of processed or of failed files.
type Kept struct {
	Name    string
	Content []byte
	Failed  bool
}

// Window is a span of time. A zero To means that it has no end.
type Window struct{ From, To time.Time }

// Input is everything known about a run.
type Input struct {
	Rules Rules
	Users []User
	// Files are in the order of reading: of two rows for the same second, the one in the later file wins.
	Files      []File
	Departures []Departure
	Kept       []Kept
	// Loose are the ids (see FileID) of contents that somebody brings and takes away again: these may be kept any
	// number of times, or never.
	Loose map[string]bool
	// Left are the names of the files that are still in the input directory.
	Left  []string
	Calls []sim.Call
	// Final is every user's attributes at the end, by LOGIN_ID.
	Final map[string]map[string]string
	// Started and Ended are the beginning and the end of the run.
	Started, Ended time.Time
	// MappingLost are the times in which the pipeline may not have known which user a worker is mapped to.
	MappingLost []Window
	// Frozen are the times in which AtHoc was frozen: what was sent then arrives, all at once, when it wakes up.
	Frozen []Window
	// Halted are the moments at which a publisher or the broker was killed, went on after being frozen, or reached
	// the other again: answers that had not been read or stored by then may be lost.
	Halted []time.Time
	// Calm is when the last fault was over. If it is zero, the auditor does not judge how fresh AtHoc was.
	Calm time.Time
	// Looks and Decisions are what operators saw and ordered about held mass changes; Pauses are when they wanted no
	// calls.
	Looks     []Look
	Decisions []Decision
	Pauses    []Pause
	// Forgotten are the times in which newly held changes may have been lost again, together with a store that had no
	// copy yet.
	Forgotten []Window
	// Rows, if not nil, is what the pipeline says about the outcome of each row, by SHA-256 of the file's content
	// (hex) and line. The outcomes are those of the row table: "rejected", or how the row was settled.
	Rows map[string]map[int]string
	// Past is what the pipeline says that AtHoc held at some moments of the run.
	Past []Past
}

// Finding is something that was not as it must be.
type Finding struct {
	Kind Kind
	// User, File and Row identify what the finding is about; each is empty if it does not apply.
	User, File string
	Row        int
	// Text explains it.
	Text string
}

// String writes the finding on one line.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:", f.Kind)

	if f.User != "" {
		fmt.Fprintf(&b, " user %s:", f.User)
	}

	if f.File != "" {
		fmt.Fprintf(&b, " file %s:", f.File)
	}

	if f.Row > 0 {
		fmt.Fprintf(&b, " line %d:", f.Row)
	}

	return b.String() + " " + f.Text
}

// Report is the result of an audit.
type Report struct {
	Findings []Finding
	// Rows, Rejected, Updates and Sent count rows, rejected rows, update calls, and the users in those calls.
	Rows, Rejected, Updates, Sent int
}

// auditor holds what the checks need to look up.
type auditor struct {
	in      Input
	read    []reading           // by file
	workers map[string]*history // by employee id
	users   map[string]*person  // by LOGIN_ID in lower case
	fates   map[Row]*fate       // of the rows that were held or decided about
	flips   int                 // users who were sent off duty without a person's approval
	report  Report
}

// person is a user, with everything that was sent for them.
type person struct {
	User
	worker *history // nil: no file mentions them
	sends  []send   // by arrival
}

// Audit judges a run. The findings are ordered by kind, and within a kind in the order in which they were found.
func Audit(in Input) Report {
	a := &auditor{in: in, workers: map[string]*history{}, users: map[string]*person{}}
	a.readFiles()
	a.introduce()
	a.readOrders()
	a.readCalls()
	a.checkCalls()
	a.checkRate()
	a.checkOverlaps()
	a.checkOrder()
	a.checkFlips()
	a.checkPauses()
	a.checkDepartures()
	a.checkKept()
	a.checkRows()
	a.checkEnd()
	a.checkFreshness()
	a.checkPast()
	slices.SortStableFunc(a.report.Findings, func(x, y Finding) int { return cmp.Compare(x.Kind, y.Kind) })

	return a.report
}

func (a *auditor) find(f Finding, format string, args ...any) {
	f.Text = fmt.Sprintf(format, args...)
	a.report.Findings = append(a.report.Findings, f)
}

// introduce connects workers and users.
func (a *auditor) introduce() {
	for _, u := range a.in.Users {
		p := &person{User: u, worker: a.workers[u.Collar]}
		if u.Collar == "" {
			p.worker = nil
		}

		a.users[strings.ToLower(u.Login)] = p
		if p.worker != nil {
			p.worker.user = p
		}
	}
}

// initial returns the duty status that the user had at the start.
func (a *auditor) initial(p *person) string { return p.Attributes[a.in.Rules.Duty] }

// staleValue reports whether a duty status is stale at a time.
func (a *auditor) staleValue(value string, at time.Time) bool {
	if value == "" || a.in.Rules.Lifetime == 0 {
		return false
	}

	since, err := time.ParseInLocation(sim.DateLayout, value, a.in.Rules.AtHocZone)

	return err == nil && at.Sub(since) > a.in.Rules.Lifetime
}

func (a *auditor) staleEvent(e event, at time.Time) bool {
	return e.on && a.in.Rules.Lifetime > 0 && at.Sub(e.at) > a.in.Rules.Lifetime
}

// value returns what AtHoc is sent for an event that is not stale.
func (a *auditor) value(e event) string {
	if !e.on {
		return ""
	}
	return e.at.In(a.in.Rules.AtHocZone).Format(sim.DateLayout)
}
