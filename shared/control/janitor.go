package control

import (
	"time"

	"bobosync/shared/audit"
)

// Endpoints of the leading janitor; a follower does not offer them.
const (
	// MappingShow takes nothing and answers with a MappingReport.
	MappingShow = "mapping"
	// MappingRefresh takes a RunRequest and answers with a Begun: the refresh goes on by itself, and the journal has its end.
	MappingRefresh = "mapping-refresh"
	// MappingApprove takes an ApproveRequest and answers with a Begun.
	MappingApprove = "mapping-approve"
	// Reconcile takes a ReconcileRequest and answers with a Begun.
	Reconcile = "reconcile"
	// ReconcileReport takes a Page and answers with a ReconcileAnswer: the last comparison.
	ReconcileReport = "reconcile-report"
	// Journal takes a JournalRequest and answers with a JournalAnswer.
	Journal = "journal"
	// JournalNote takes a JournalEntry of kind "operator" and answers with Nothing: what an operator did elsewhere.
	JournalNote = "journal-note"
	// TestNotify takes a RunRequest and answers with a NotifyTest.
	TestNotify = "notify-test"
	// EmergencyLogin takes an EmergencyLoginRequest and answers with Nothing. The console gives it, so that people are notified.
	EmergencyLogin = "emergency-login"
	// MappingHeld takes nothing and answers with a MappingDifference. It names workers, so it is for operators.
	MappingHeld = "mapping-held"
)

// RunRequest asks for something to be done now.
type RunRequest struct {
	// By is the sender, for the record.
	By string `json:"by"`
}

// EmergencyLoginRequest says that somebody came into the console by a password that is kept for when the login service is down.
type EmergencyLoginRequest struct {
	// By is who, as the audit names him, and Role what he may do.
	By   string    `json:"by"`
	Role string    `json:"role"`
	At   time.Time `json:"at"`
}

// NotifyTest is how a test of all sinks went.
type NotifyTest struct {
	Results []NotifyResult `json:"results"`
}

// NotifyResult is how it went with one of them.
type NotifyResult struct {
	Sink string `json:"sink"`
	// Error is what went wrong; empty if it took the notice.
	Error string `json:"error,omitempty"`
}

// Begun says that what was asked for is under way, or was already.
type Begun struct {
	// Entry is the id of its journal entry, now and when it has ended.
	Entry string `json:"entry"`
}

// HeldMapping is a mapping that is not put into force before an operator approves it.
type HeldMapping struct {
	// ID names it, for the approval: the beginning of its content's hash.
	ID string `json:"id"`
	// Since is when it was first held back, Seen when AtHoc last gave the same.
	Since time.Time `json:"since"`
	Seen  time.Time `json:"seen"`
	// Before and After count the employee ids that are mapped in it and in the mapping in force.
	Before  int `json:"before"`
	After   int `json:"after"`
	Added   int `json:"added"`
	Changed int `json:"changed"`
	Removed int `json:"removed"`
	// Reason says which guard holds it back.
	Reason string `json:"reason"`
}

// MaxMappingChanges is how many changes of each kind a MappingDifference has at most.
const MaxMappingChanges = 1000

// MappingDifference is how a mapping that is held back differs from the one in force.
type MappingDifference struct {
	// ID is that of the HeldMapping.
	ID string `json:"id"`
	// Removed lose their AtHoc user, Changed get another one; by employee id, no more than MaxMappingChanges of each.
	Removed []MappingChange `json:"removed"`
	Changed []MappingChange `json:"changed"`
}

// MappingChange is an employee id with the AtHoc user that it has, and the one that it would have; empty for none.
type MappingChange struct {
	Employee string `json:"employee"`
	Before   string `json:"before"`
	After    string `json:"after,omitempty"`
}

// MappingReport describes the mapping in force.
type MappingReport struct {
	// Snapshot names it; empty if there is none.
	Snapshot string `json:"snapshot,omitempty"`
	// Taken is when its content was fetched, Refreshed the end of the last refresh, also of one that found nothing new.
	Taken     time.Time `json:"taken,omitzero"`
	Refreshed time.Time `json:"refreshed,omitzero"`
	// Users counts AtHoc's users, Mapped the employee ids that are mapped, Without the users who have none.
	Users   int `json:"users"`
	Mapped  int `json:"mapped"`
	Without int `json:"without"`
	// Unusable counts the users whose name or employee id is empty, too long or has characters that nobody can see.
	Unusable int `json:"unusable,omitempty"`
	// Ambiguous are the employee ids that several users have, with those users' names: none of them gets its duty status.
	Ambiguous map[string][]string `json:"ambiguous,omitempty"`
	// Alike are groups of employee ids that differ only in blanks or leading zeros.
	Alike [][]string `json:"alike,omitempty"`
	// Left counts what of Ambiguous and Alike is left out, as there is too much of it for an answer.
	Left int          `json:"left,omitempty"`
	Held *HeldMapping `json:"held,omitempty"`
	// Job is when it is refreshed.
	Job Job `json:"duty"`
}

// ApproveRequest lets a mapping into force that was held back.
type ApproveRequest struct {
	// ID is that of the HeldMapping. The mapping is fetched again: another content than the approved one is held back again.
	ID string `json:"id"`
	By string `json:"by"`
}

// ReconcileRequest asks for AtHoc to be compared with what it should say.
type ReconcileRequest struct {
	// Apply resends what is wrong; otherwise it is only reported.
	Apply bool `json:"apply,omitempty"`
	// Force applies even if more differs than RECONCILE_MAX_CHANGE_PERCENT allows.
	Force bool   `json:"force,omitempty"`
	By    string `json:"by"`
}

// Page asks for a part of a list.
type Page struct {
	// After is the place to go on after: 0 at first, then Next of the answer before.
	After int `json:"after,omitempty"`
}

// ReconcileAnswer is a comparison of AtHoc with what it should say.
type ReconcileAnswer struct {
	Entry    string    `json:"entry"`
	Started  time.Time `json:"started,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
	Compared int       `json:"compared"`
	// Unmanaged counts the unmanaged users: with a duty status, but no known worker is mapped to them, so what they should have is unknown.
	Unmanaged int `json:"foreign"`
	// Differing counts the users who differ, Applied those whose status was sent.
	Differing int `json:"differing"`
	Applied   int `json:"applied"`
	// Held says why nothing was applied although that was asked for.
	Held string `json:"held,omitempty"`
	// TooMany says why sending what differs takes an approver, whether it was asked for or not; empty if it does not.
	TooMany string `json:"too_many,omitempty"`
	// Users are a part of those who differ; Next is the place after them, 0 at the end.
	Users []DifferingUser `json:"users"`
	Next  int             `json:"next,omitempty"`
}

// DifferingUser is a user for whom AtHoc holds another status than it should.
type DifferingUser struct {
	User     string `json:"user"`
	Employee string `json:"employee"`
	// Holds is the attribute's text in AtHoc; Wanted is what it should be. Both are empty for off duty.
	Holds  string `json:"holds"`
	Wanted string `json:"wanted"`
	// Why says what has probably happened.
	Why string `json:"why"`
	// Applied says that the wanted status was sent.
	Applied bool `json:"applied,omitempty"`
}

// JournalRequest asks for what was done.
type JournalRequest struct {
	// Kind, if not empty, is the only kind wanted: a job's name, or operator.
	Kind string `json:"kind,omitempty"`
	// Since leaves out what began earlier.
	Since time.Time `json:"since,omitzero"`
	// ID, if not empty, is the only entry wanted.
	ID string `json:"id,omitempty"`
	// Before goes on with what is older than the entry of this id.
	Before string `json:"before,omitempty"`
	// Most is the most entries to return; 0 means 200.
	Most int `json:"most,omitempty"`
}

// JournalAnswer holds some entries, newest first.
type JournalAnswer struct {
	Entries []JournalEntry `json:"entries"`
	// More says that there are older ones.
	More bool `json:"more,omitempty"`
}

// KindOperator is the kind of a journal entry of what an operator did through another service: requeue, drop, replay.
const KindOperator = "operator"

// KindAudit is the kind of an entry that keeps the hashes of the audit at the end of a day.
const KindAudit = "audit"

// KindVerdict is the kind of an entry of a time of a minute and more in which the verdict was WARNING or PROBLEM, which is its outcome.
const KindVerdict = "verdict"

// JournalEntry describes a run of a job, or what an operator did. It holds no personal data.
type JournalEntry struct {
	// ID is a UUIDv7: its order is that of beginning.
	ID string `json:"id"`
	// Kind is a job's name, or operator.
	Kind string `json:"kind"`
	// By is the operator who asked for it; empty for the clock.
	By      string    `json:"by,omitempty"`
	Started time.Time `json:"started"`
	// Ended is zero while it is under way.
	Ended time.Time `json:"ended,omitzero"`
	// Outcome is ok, failed, held or interrupted; warning or problem for a time that was not well.
	Outcome string `json:"outcome,omitempty"`
	// Counts says how many of what, by snake_case names.
	Counts map[string]int `json:"counts,omitempty"`
	// Text says what was done, for an operator's entry, or what a guard said.
	Text string `json:"text,omitempty"`
	// Error is what went wrong.
	Error string `json:"error,omitempty"`
	// Audit holds, in an entry of kind "audit", where the chains of the audit ended that day.
	Audit *audit.Day `json:"audit,omitempty"`
}

// Outcomes of journal entries.
const (
	OutcomeOK          = "ok"
	OutcomeFailed      = "failed"
	OutcomeHeld        = "held"
	OutcomeInterrupted = "interrupted"
)
