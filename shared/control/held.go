package control

import "time"

// Endpoints of the resolver for mass changes that wait for a person.
const (
	// Held takes nothing and answers with a HeldAnswer: counts, and no persons.
	Held = "held"
	// HeldShow takes a HeldRequest and answers with a HeldSet.
	HeldShow = "held-show"
	// HeldDecide takes a HeldDecision and answers with a HeldResult.
	HeldDecide = "held-decide"
	// HeldRequeue takes a HeldDecision, of which Token and Except count nothing, and answers with a HeldResult: what was rejected is
	// taken in after all.
	HeldRequeue = "held-requeue"
)

// GuardState describes the guard against mass changes. It names no persons.
type GuardState struct {
	// Mode is GUARD, and Holding whether unusual changes are held now.
	Mode    string `json:"mode"`
	Holding bool   `json:"holding"`
	// Since is when it began to count, and HoldsFrom, with auto, when it has enough history to hold.
	Since     time.Time `json:"since,omitzero"`
	HoldsFrom time.Time `json:"holds_from,omitzero"`
	// Held are the mass changes that wait for a decision, the newest first.
	Held []HeldGroup `json:"held,omitempty"`
	// Rows counts the rows that wait for a decision, by file.
	Rows map[string]int `json:"rows,omitempty"`
	// Unusual are the last unusual changes that were not held, one of a kind.
	Unusual []UnusualChange `json:"told,omitempty"`
}

// HoldsNow reports whether unusual changes are held.
func (s *GuardState) HoldsNow(now time.Time) bool {
	return s.Mode == "hold" || s.Mode == "auto" && !s.HoldsFrom.IsZero() && !now.Before(s.HoldsFrom)
}

// Users counts the users who are held.
func (s *GuardState) Users() (n int) {
	if s == nil {
		return 0
	}

	for _, g := range s.Held {
		n += g.Users
	}

	return n
}

// Oldest is since when the oldest of what is held waits; zero if nothing does.
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

// HeldGroup is a mass change that waits for a person, or did.
type HeldGroup struct {
	ID string `json:"id"`
	// Kind is off (booked off), stale (cleared for their age), silent (cleared for their age although their feed is silent) or on (booked on).
	Kind string `json:"kind"`
	// Since is when it began, and Last when somebody was last added.
	Since time.Time `json:"since"`
	Last  time.Time `json:"last"`
	// Users counts its members.
	Users int `json:"users"`
	// Sent counts those of the same change who were let go before it became unusual. They stay as they are.
	Sent int `json:"sent"`
	// Allowed is how many may change within GUARD_WINDOW, Usual the most who usually do, OnDuty how many were on duty.
	Allowed int `json:"allowed"`
	Usual   int `json:"usual"`
	OnDuty  int `json:"on_duty"`
	// Decision is approved, rejected, requeued or overtaken (by newer events of all of them); empty as long as it is awaited.
	Decision string    `json:"decision,omitempty"`
	Decided  time.Time `json:"decided,omitzero"`
	By       string    `json:"by,omitempty"`
	Reason   string    `json:"reason,omitempty"`
}

// HeldAnswer describes all mass changes.
type HeldAnswer struct {
	GuardState
	// OnDuty counts the users whom AtHoc was sent to be on duty.
	OnDuty int `json:"on_duty"`
	// Decided are those about which was decided within the last 30 days, the newest first.
	Decided []HeldGroup `json:"decided"`
}

// HeldRequest asks for the members of a mass change.
type HeldRequest struct {
	// ID is the mass change's, or the beginning of it.
	ID string `json:"id"`
	// After is the place to go on after: 0 at first, then Next of the answer before.
	After int `json:"after,omitempty"`
}

// HeldSet is the members of a mass change, with the forecast.
type HeldSet struct {
	HeldGroup
	// Token names exactly those who are in it now.
	Token string `json:"token"`
	// OnDutyNow is how many users AtHoc was sent to be on duty, OnDutyAfter how many they are after an approval. UsualLeast and UsualMost
	// are how many they usually are at this hour of the week; 0 if that is not known.
	OnDutyNow   int `json:"on_duty_now"`
	OnDutyAfter int `json:"on_duty_after"`
	UsualLeast  int `json:"usual_least"`
	UsualMost   int `json:"usual_most"`
	// Files counts them by the file of their latest event; those without a known worker are under "".
	Files map[string]int `json:"files"`
	// Feeds counts them by the feed that booked them last, where there are several; under "" are those of whom that is not known.
	Feeds map[string]int `json:"feeds,omitempty"`
	// Workers are a part of them; Next is the place after them, 0 at the end.
	Workers []HeldWorker `json:"workers"`
	Next    int          `json:"next,omitempty"`
}

// HeldWorker is a worker or user who is held.
type HeldWorker struct {
	// Employee is empty for a user whom no known worker is mapped to.
	Employee string `json:"employee,omitempty"`
	User     string `json:"user"`
	// On and At are the status that waits, and File and Row its booking.
	On   bool      `json:"on"`
	At   time.Time `json:"at"`
	File string    `json:"file,omitempty"`
	Row  int       `json:"row,omitempty"`
}

// HeldDecision is what a person decides about a mass change.
type HeldDecision struct {
	ID string `json:"id"`
	// Token is that of the HeldSet that was shown. If its members have changed since, nothing is done.
	Token   string `json:"token"`
	Approve bool   `json:"approve,omitempty"`
	// Except are employee ids, or usernames of users without a known worker, who stay held.
	Except []string `json:"except,omitempty"`
	Reason string   `json:"reason"`
	By     string   `json:"by"`
}

// HeldResult says what was done.
type HeldResult struct {
	ID string `json:"id"`
	// Users counts whom it was about, Superseded those of them of whom a newer event has won meanwhile.
	Users      int `json:"users"`
	Superseded int `json:"superseded,omitempty"`
	// Rest names the hold that those are in who were excepted.
	Rest string `json:"rest,omitempty"`
}
