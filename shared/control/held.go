package control

import "time"

// Endpoints of the resolver for mass changes that wait for a person.
const (
	// Held takes nothing and answers with a HeldAnswer: counts, but no persons.
	Held = "held"
	// HeldShow takes a HeldRequest and answers with a HeldSet.
	HeldShow = "held-show"
	// HeldDecide takes a HeldDecision and answers with a HeldResult.
	HeldDecide = "held-decide"
	// HeldRequeue takes a HeldDecision, whose Token and Except are ignored, and answers with a HeldResult: what was
	// rejected is taken in after all.
	HeldRequeue = "held-requeue"
)

// GuardState describes the guard against mass changes. It names nobody.
type GuardState struct {
	// Mode is the setting GUARD. Holding reports whether unusual changes are held now.
	Mode    string `json:"mode"`
	Holding bool   `json:"holding"`
	// Since is when the guard began to count. HoldsFrom is when, in mode auto, it has enough history to hold.
	Since     time.Time `json:"since,omitzero"`
	HoldsFrom time.Time `json:"holds_from,omitzero"`
	// Held are the mass changes that wait for a decision, newest first.
	Held []HeldGroup `json:"held,omitempty"`
	// Rows counts the rows that wait for a decision, by file.
	Rows map[string]int `json:"rows,omitempty"`
	// Unusual are the last unusual changes that were not held, at most one of each kind.
	Unusual []UnusualChange `json:"told,omitempty"`
}

// HoldsNow reports whether unusual changes are held.
func (s *GuardState) HoldsNow(now time.Time) bool {
	return s.Mode == "hold" || s.Mode == "auto" && !s.HoldsFrom.IsZero() && !now.Before(s.HoldsFrom)
}

// Users counts the users that are held.
func (s *GuardState) Users() (n int) {
	if s == nil {
		return 0
	}

	for _, g := range s.Held {
		n += g.Users
	}

	return n
}

// Oldest returns since when the oldest held mass change waits; zero if none does.
func (s *GuardState) Oldest() (since time.Time) {
	if s == nil {
		return since
	}

	for _, g := range s.Held {
		if since.IsZero() || g.Since.Before(since) {
			since = g.Since
		}
	}

	return since
}

// UnusualChange is an unusual change that was not held.
type UnusualChange struct {
	Kind    string    `json:"kind"`
	At      time.Time `json:"at"`
	Users   int       `json:"users"`
	Allowed int       `json:"allowed"`
	Usual   int       `json:"usual"`
	OnDuty  int       `json:"on_duty"`
}

// HeldGroup is a mass change that waits or waited for a person's decision.
type HeldGroup struct {
	ID string `json:"id"`
	// Kind is off (booked off), stale (cleared because of the duty's age), silent (cleared because of its age although
	// the feed is silent) or on (booked on).
	Kind string `json:"kind"`
	// Since is when it began, and Last when a user was last added.
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
	// Users is the number of its members.
	Users int `json:"users"`
	// Sent counts the users of the same change whose updates were let through before it became unusual. These are left
	// as they are.
	Sent int `json:"sent"`
	// Allowed is how many may change within GUARD_WINDOW, Usual is the most that usually do, OnDuty is how many were on
	// duty.
	Allowed int `json:"allowed"`
	Usual   int `json:"usual"`
	OnDuty  int `json:"on_duty"`
	// Decision is approved, rejected, requeued or overtaken (all members have newer events); empty while it is awaited.
	Decision string    `json:"decision,omitempty"`
	Decided  time.Time `json:"decided,omitzero"`
	By       string    `json:"by,omitempty"`
	Reason   string    `json:"reason,omitempty"`
}

// HeldAnswer describes all mass changes.
type HeldAnswer struct {
	GuardState
	// OnDuty counts the users whose last status sent to AtHoc is on duty.
	OnDuty int `json:"on_duty"`
	// Decided are the mass changes that were decided within the last 30 days, newest first.
	Decided []HeldGroup `json:"decided"`
}

// HeldRequest asks for the members of a mass change.
type HeldRequest struct {
	// ID is the id of the mass change, or the beginning of it.
	ID string `json:"id"`
	// After is the position after which to continue: 0 at first, then Next of the previous answer.
	After int `json:"after,omitempty"`
}

// HeldSet holds the members of a mass change, with a forecast.
type HeldSet struct {
	HeldGroup
	// Token identifies exactly the current members.
	Token string `json:"token"`
	// OnDutyNow is for how many users the last status sent to AtHoc is on duty, OnDutyAfter for how many it will be
	// after an approval. UsualLeast and UsualMost are how many usually are on duty at this hour of the week; 0 if that
	// is not known.
	OnDutyNow   int `json:"on_duty_now"`
	OnDutyAfter int `json:"on_duty_after"`
	UsualLeast  int `json:"usual_least"`
	UsualMost   int `json:"usual_most"`
	// Files counts the members by the file of their latest event; members without a known worker are under "".
	Files map[string]int `json:"files"`
	// Feeds counts the members by the feed that booked them last, if there are several feeds; those whose feed is not
	// known are under "".
	Feeds map[string]int `json:"feeds,omitempty"`
	// Workers are some of the members; Next is the position after them, 0 at the end.
	Workers []HeldWorker `json:"workers"`
	Next    int          `json:"next,omitempty"`
}

// HeldWorker is a worker or user that is held.
type HeldWorker struct {
	// Employee is empty for a user to whom no known worker is mapped.
	Employee string `json:"employee,omitempty"`
	User     string `json:"user"`
	// On and At are the status that waits; File and Row are the row that booked it.
	On   bool      `json:"on"`
	At   time.Time `json:"at"`
	File string    `json:"file,omitempty"`
	Row  int       `json:"row,omitempty"`
}

// HeldDecision is a person's decision about a mass change.
type HeldDecision struct {
	ID string `json:"id"`
	// Token is that of the HeldSet that was shown. If the members have changed since, nothing is done.
	Token   string `json:"token"`
	Approve bool   `json:"approve,omitempty"`
	// Except are the employee ids, or usernames of users without a known worker, of members that stay held.
	Except []string `json:"except,omitempty"`
	Reason string   `json:"reason"`
	By     string   `json:"by"`
}

// HeldResult says what was done.
type HeldResult struct {
	ID string `json:"id"`
	// Users counts the users it concerned; Superseded counts those of them for whom a newer event has won in the
	// meantime.
	Users      int `json:"users"`
	Superseded int `json:"superseded,omitempty"`
	// Rest is the id of the hold that the excepted members are in.
	Rest string `json:"rest,omitempty"`
}
