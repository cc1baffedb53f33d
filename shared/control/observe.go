package control

import "time"

// Endpoints of the resolver for the janitor, and for questions about workers.
const (
	// Observe takes an ObserveRequest and answers with an ObserveAnswer: the janitor reports what it saw AtHoc hold,
	// and the resolver, which knows what AtHoc should hold, judges it.
	Observe = "observe"
	// MappingList takes a MappingListRequest and answers with a MappingListAnswer.
	MappingList = "mapping-list"
	// WorkerShow takes a WorkerRequest and answers with a WorkerAnswer.
	WorkerShow = "worker"
)

// ObservePurpose says what should be done about what was observed.
type ObservePurpose string

// The purposes of observations.
const (
	// Expire clears duty that is older than AUTO_CLEANUP_HOURS, unless a newer event of the worker is known or under
	// way.
	Expire ObservePurpose = "expire"
	// Compare finds the users for whom AtHoc holds another status than the latest event says.
	Compare ObservePurpose = "compare"
)

// MaxObserved is the most users in one ObserveRequest, so that it and its answer stay below the broker's limit of 1 MB.
const MaxObserved = 4000

// ObserveRequest reports what AtHoc holds for some users.
type ObserveRequest struct {
	Purpose ObservePurpose `json:"purpose"`
	// Seen is a moment just before AtHoc was asked. What was confirmed since then is newer than the observation.
	Seen time.Time `json:"seen"`
	// Apply publishes what follows; otherwise it is only reported.
	Apply bool `json:"apply,omitempty"`
	// Silent are the feeds from which nothing has arrived for unusually long. With Expire, duty that these feeds booked
	// is held.
	Silent []string       `json:"silent,omitempty"`
	Users  []ObservedUser `json:"users"`
}

// ObservedUser is what AtHoc holds for a user.
type ObservedUser struct {
	// User is the username as AtHoc spells it.
	User string `json:"user"`
	// On reports whether the duty status is a date, and At is that date in Unix seconds.
	On bool  `json:"on,omitempty"`
	At int64 `json:"at,omitempty"`
	// At2, if not zero, is the other moment that AtHoc's text can mean: in the hour that autumn repeats, a wall-clock
	// time denotes two moments, and only the sender knows AtHoc's zone. Compare accepts either of them; Expire takes
	// the later one, so that nothing is cleared too early.
	At2 int64 `json:"at2,omitempty"`
	// Odd reports whether the attribute holds something that is not a date; Expire leaves it alone.
	Odd bool `json:"odd,omitempty"`
}

// ObserveAnswer is the resolver's judgement.
type ObserveAnswer struct {
	// Compared counts the users of known workers, including those under way. Unmanaged counts the unmanaged users: they
	// have a status but no known worker.
	Compared  int `json:"compared"`
	Unmanaged int `json:"foreign"`
	// UnderWay counts the users for whom a newer status is on its way or was confirmed after the observation.
	UnderWay int `json:"under_way"`
	// Held counts the users that are left out because they are part of a mass change that waits for a person.
	Held int `json:"held,omitempty"`
	// Published counts the updates that were published.
	Published int `json:"published"`
	// Findings are the users about whom something is, or would be, done; for Compare, those that differ.
	Findings []Finding `json:"findings,omitempty"`
}

// Finding is what the resolver found about one user.
type Finding struct {
	User string `json:"user"`
	// Employee is the worker who is mapped to the user; empty if none is.
	Employee string `json:"emp,omitempty"`
	// WantOn and WantAt are the status that the user should have; WantAt is in Unix seconds.
	WantOn bool  `json:"want_on,omitempty"`
	WantAt int64 `json:"want_at,omitempty"`
	// Why says what has probably happened.
	Why string `json:"why"`
	// Published reports whether an update was published for it.
	Published bool `json:"published,omitempty"`
}

// MappingListRequest asks for a part of the mapping, in the order of employee ids.
type MappingListRequest struct {
	// Text, if not empty, must be part of the employee id or, in any letter case, of the username.
	Text string `json:"text,omitempty"`
	// After is the employee id after which to continue.
	After string `json:"after,omitempty"`
}

// MappingListAnswer is a part of the mapping that the resolver uses.
type MappingListAnswer struct {
	Pairs []MappingPair `json:"pairs"`
	// Next is the employee id after which to continue; empty at the end.
	Next string `json:"next,omitempty"`
}

// MappingPair says which user has an employee id.
type MappingPair struct {
	Employee string `json:"employee"`
	User     string `json:"user"`
}

// WorkerRequest asks for a worker by employee id or by AtHoc username.
type WorkerRequest struct {
	Text string `json:"text"`
}

// WorkerAnswer is all that is known of a worker, and why.
type WorkerAnswer struct {
	Employee string `json:"employee"`
	// User is the user that the mapping in force names; empty if none.
	User string `json:"user,omitempty"`
	// Known reports whether BOBO has reported the worker.
	Known bool `json:"known"`
	// Status says in a sentence what AtHoc should hold and how far that has come.
	Status string `json:"status"`
	// Latest is the worker's latest event, which is the one that counts.
	Latest *WorkerEvent `json:"latest,omitempty"`
	// Stale reports whether the latest event is a booking on older than AUTO_CLEANUP_HOURS.
	Stale bool `json:"stale,omitempty"`
	// Sent is the last update that was published.
	Sent *WorkerStatus `json:"sent,omitempty"`
	// Confirmed is AtHoc's last answer.
	Confirmed *WorkerStatus `json:"confirmed,omitempty"`
	// InDoubt, if not zero, is when the status will be sent again because a call had no answer.
	InDoubt time.Time `json:"unsure,omitzero"`
	// Events are the worker's events in the entries that the broker still keeps, newest first; at most 50.
	Events []WorkerEvent `json:"events,omitempty"`
	// Partial reports that not all entries could be read in time, so that events may be missing.
	Partial bool `json:"partial,omitempty"`
}

// WorkerEvent is a booking.
type WorkerEvent struct {
	On bool      `json:"on"`
	At time.Time `json:"at"`
	// File is the file's id, Row the line in it.
	File string `json:"file"`
	Row  int    `json:"row"`
}

// WorkerStatus is a status on its way to AtHoc, or AtHoc's answer to it.
type WorkerStatus struct {
	User string    `json:"user"`
	On   bool      `json:"on"`
	At   time.Time `json:"at"`
	File string    `json:"file,omitempty"`
	Row  int       `json:"row,omitempty"`
	// Outcome and Answered describe AtHoc's answer, if there is one.
	Outcome  string    `json:"outcome,omitempty"`
	Answered time.Time `json:"answered,omitzero"`
}
