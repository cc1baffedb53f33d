package control

import (
	"time"

	"bobosync/shared/audit"
)

// Endpoints of the leading janitor; a follower does not offer them.
const (
	// MappingShow takes nothing and answers with a MappingReport.
	MappingShow = "mapping"
	// MappingRefresh takes a RunRequest and answers with a Begun: the refresh continues on its own, and the journal
	// records its end.
	MappingRefresh = "mapping-refresh"
	// MappingApprove takes an ApproveRequest and answers with a Begun.
	MappingApprove = "mapping-approve"
	// Reconcile takes a ReconcileRequest and answers with a Begun.
	Reconcile = "reconcile"
	// ReconcileReport takes a Page and answers with a ReconcileAnswer about the last comparison.
	ReconcileReport = "reconcile-report"
	// Journal takes a JournalRequest and answers with a JournalAnswer.
	Journal = "journal"
	// JournalNote takes a JournalEntry of kind "operator", for what an operator did elsewhere, and answers with
	// Nothing.
	JournalNote = "journal-note"
	// TestNotify takes a RunRequest and answers with a NotifyTest.
	TestNotify = "notify-test"
	// EmergencyLogin takes an EmergencyLoginRequest and answers with Nothing. The console sends it, so that people are
	// notified.
	EmergencyLogin = "emergency-login"
	// MappingHeld takes nothing and answers with a MappingDifference. It names workers, so it is for operators.
	MappingHeld = "mapping-held"
)

// RunRequest asks for something to be done now.
type RunRequest struct {
	// By is the sender, for the record.
	By string `json:"by"`
}

// EmergencyLoginRequest reports that somebody logged in to the console with a password that is kept for when the login
// service is down.
type EmergencyLoginRequest struct {
	// By is the person, as the audit names them; Role is what they may do.
	By   string    `json:"by"`
	Role string    `json:"role"`
	At   time.Time `json:"at"`
}

// NotifyTest is the result of a test of all sinks.
type NotifyTest struct {
	Results []NotifyResult `json:"results"`
}

// NotifyResult is the result for one sink.
type NotifyResult struct {
	Sink string `json:"sink"`
	// Error is what went wrong; empty if the sink accepted the notice.
	Error string `json:"error,omitempty"`
}

// Begun says that what was asked for is under way, whether or not it already was.
type Begun struct {
	// Entry is the id of its journal entry, both while it runs and afterwards.
	Entry string `json:"entry"`
}

// HeldMapping is a mapping that waits for an operator's approval before it comes into force.
type HeldMapping struct {
	// ID identifies it for the approval: the beginning of its content's hash.
	ID string `json:"id"`
	// Since is when it was first held back; Seen is when AtHoc last returned the same mapping.
	Since time.Time `json:"since"`
	Seen  time.Time `json:"seen"`
	// Before counts the employee ids in the mapping in force, After those in this one. Added, Changed and Removed count
	// how they differ.
	Before  int `json:"before"`
	After   int `json:"after"`
	Added   int `json:"added"`
	Changed int `json:"changed"`
	Removed int `json:"removed"`
	// Reason says which guard holds it back.
	Reason string `json:"reason"`
}

// MaxMappingChanges is the most changes of each kind that a MappingDifference lists.
const MaxMappingChanges = 1000

// MappingDifference is how a mapping that is held back differs from the one in force.
type MappingDifference struct {
	// ID is the id of the HeldMapping.
	ID string `json:"id"`
	// Removed are employee ids that lose their AtHoc user, Changed those that get another one; sorted by employee id,
	// at most MaxMappingChanges of each.
	Removed []MappingChange `json:"removed"`
	Changed []MappingChange `json:"changed"`
}

// MappingChange is an employee id with its current AtHoc user and its future one; empty for none.
type MappingChange struct {
	Employee string `json:"employee"`
	Before   string `json:"before"`
	After    string `json:"after,omitempty"`
}

// MappingReport describes the mapping in force.
type MappingReport struct {
	// Snapshot is the mapping's id; empty if there is no mapping.
	Snapshot string `json:"snapshot,omitempty"`
	// Taken is when its content was fetched. Refreshed is the end of the last refresh, even if that found nothing new.
	Taken     time.Time `json:"taken,omitzero"`
	Refreshed time.Time `json:"refreshed,omitzero"`
	// Users counts AtHoc's users, Mapped the employee ids that are mapped, Without the users that have no employee id.
	Users   int `json:"users"`
	Mapped  int `json:"mapped"`
	Without int `json:"without"`
	// Unusable counts the users whose name or employee id is empty, too long or contains invisible characters.
	Unusable int `json:"unusable,omitempty"`
	// Ambiguous lists the employee ids that several users have, with those users' names: none of these users gets a
	// duty status.
	Ambiguous map[string][]string `json:"ambiguous,omitempty"`
	// Alike are groups of employee ids that differ only in blanks or leading zeros.
	Alike [][]string `json:"alike,omitempty"`
	// Left counts the parts of Ambiguous and Alike that are left out because they do not fit into an answer.
	Left int          `json:"left,omitempty"`
	Held *HeldMapping `json:"held,omitempty"`
	// Job says when the mapping is refreshed.
	Job Job `json:"duty"`
}

// ApproveRequest approves a mapping that was held back.
type ApproveRequest struct {
	// ID is the id of the HeldMapping. The mapping is fetched again; if its content differs from the approved one, it
	// is held back again.
	ID string `json:"id"`
	By string `json:"by"`
}

// ReconcileRequest asks for AtHoc to be compared with what it should say.
type ReconcileRequest struct {
	// Apply resends what is wrong; otherwise the comparison only reports it.
	Apply bool `json:"apply,omitempty"`
	// Force applies even if more differs than RECONCILE_MAX_CHANGE_PERCENT allows.
	Force bool   `json:"force,omitempty"`
	By    string `json:"by"`
}

// Page asks for a part of a list.
type Page struct {
	// After is the position after which to continue: 0 at first, then Next of the previous answer.
	After int `json:"after,omitempty"`
}

// ReconcileAnswer is a comparison of AtHoc with what it should say.
type ReconcileAnswer struct {
	Entry    string    `json:"entry"`
	Started  time.Time `json:"started,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
	Compared int       `json:"compared"`
	// Unmanaged counts the unmanaged users: they have a duty status, but no known worker is mapped to them, so what
	// they should have is unknown.
	Unmanaged int `json:"foreign"`
	// Differing counts the users that differ, Applied those whose status was resent.
	Differing int `json:"differing"`
	Applied   int `json:"applied"`
	// Held says why nothing was applied although that was asked for.
	Held string `json:"held,omitempty"`
	// TooMany says why resending the differences needs an approver, whether or not it was asked for; empty if it does
	// not.
	TooMany string `json:"too_many,omitempty"`
	// Users are some of the users that differ; Next is the position after them, 0 at the end.
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
	// Applied reports whether the wanted status was sent.
	Applied bool `json:"applied,omitempty"`
}

// JournalRequest asks for what was done.
type JournalRequest struct {
	// Kind, if not empty, is the only kind wanted: a job's name, or operator.
	Kind string `json:"kind,omitempty"`
	// Since leaves out entries that began earlier.
	Since time.Time `json:"since,omitzero"`
	// ID, if not empty, is the only entry wanted.
	ID string `json:"id,omitempty"`
	// Before leaves out all entries but those older than the entry with this id.
	Before string `json:"before,omitempty"`
	// Most is the most entries to return; 0 means 200.
	Most int `json:"most,omitempty"`
}

// JournalAnswer holds some entries, newest first.
type JournalAnswer struct {
	Entries []JournalEntry `json:"entries"`
	// More reports whether there are older entries.
	More bool `json:"more,omitempty"`
}

// KindOperator is the kind of a journal entry of what an operator did through another service: requeue, drop, replay.
const KindOperator = "operator"

// KindAudit is the kind of an entry that keeps the hashes of the audit at the end of a day.
const KindAudit = "audit"

// KindVerdict is the kind of an entry for a period of at least a minute in which the verdict was WARNING or PROBLEM,
// which is its outcome.
const KindVerdict = "verdict"

// JournalEntry describes a run of a job, or what an operator did. It holds no personal data.
type JournalEntry struct {
	// ID is a UUIDv7, so ids sort by the time of beginning.
	ID string `json:"id"`
	// Kind is a job's name, or operator.
	Kind string `json:"kind"`
	// By is the operator who asked for it; empty if the clock started it.
	By      string    `json:"by,omitempty"`
	Started time.Time `json:"started"`
	// Ended is zero while it is under way.
	Ended time.Time `json:"ended,omitzero"`
	// Outcome is ok, failed, held or interrupted; for a period of trouble it is warning or problem.
	Outcome string `json:"outcome,omitempty"`
	// Counts holds numbers by snake_case names.
	Counts map[string]int `json:"counts,omitempty"`
	// Text says what was done, in an operator's entry, or what a guard reported.
	Text string `json:"text,omitempty"`
	// Error is what went wrong.
	Error string `json:"error,omitempty"`
	// Audit holds the ends of the audit's chains on that day, in an entry of kind "audit".
	Audit *audit.Day `json:"audit,omitempty"`
}

// Outcomes of journal entries.
const (
	OutcomeOK          = "ok"
	OutcomeFailed      = "failed"
	OutcomeHeld        = "held"
	OutcomeInterrupted = "interrupted"
)
