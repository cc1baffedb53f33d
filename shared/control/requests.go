package control

import (
	"time"

	"bobosync/shared/breaker"
	"bobosync/shared/event"
)

// Endpoints of the resolver.
const (
	// Replay takes a ReplayRequest and answers with a ReplayState.
	Replay = "replay"
	// ReplayForecast takes a ReplayRequest and answers with the ReplayState that it would have. It changes nothing.
	ReplayForecast = "replay-forecast"
	// Replays takes nothing and answers with []ReplayState, newest first.
	Replays = "replays"
	// StopReplay takes a StopRequest and answers with the ReplayState.
	StopReplay = "stop-replay"
	// Requeue takes a RequeueRequest and answers with a RequeueAnswer.
	Requeue = "requeue"
	// Try takes a TryRequest and answers with a TryAnswer. It changes nothing.
	Try = "try"
	// DeadRequeue and DeadDrop take a DeadRequest and answer with []DeadResult.
	DeadRequeue = "dead-requeue"
	DeadDrop    = "dead-drop"
	// DeadForecast takes a DeadRequest and answers with a RequeueForecast of what DeadRequeue would do. It changes
	// nothing.
	DeadForecast = "dead-forecast"
)

// Endpoints of the publisher.
const (
	// Sending takes nothing and answers with SendingState.
	Sending = "sending"
	// Pause takes a PauseRequest and answers with the breaker.Pause that is then in force.
	Pause = "pause"
	// Resume takes a RunRequest and answers with a ResumeAnswer.
	Resume = "resume"
)

// Endpoints of ingest.
const (
	// FindFile takes a FindRequest and answers with []FoundFile.
	FindFile = "find-file"
)

// Check takes a RunRequest and answers with []check.Result: what the service found when it checked what it needs. Every
// service offers it. It changes nothing, and takes some seconds.
const Check = "check"

// Nothing is a request without content.
type Nothing struct{}

// ReplayRequest asks for the current duty status of workers to be sent again. Exactly one of the ways to choose them
// must be set.
type ReplayRequest struct {
	// All chooses everyone.
	All bool `json:"all,omitempty"`
	// Since chooses those whose status changed, or was confirmed, since then.
	Since time.Time `json:"since,omitzero"`
	// Workers chooses by employee id.
	Workers []string `json:"workers,omitempty"`
	// Users chooses by AtHoc username.
	Users []string `json:"users,omitempty"`
	// File chooses those who have an entry in the file with this id.
	File string `json:"file,omitempty"`
	// EntriesSince chooses those who have an entry that was read since then, and resolves these entries again.
	EntriesSince time.Time `json:"entries_since,omitzero"`
	// DryRun only counts the workers.
	DryRun bool `json:"dry_run,omitempty"`
	// By is the sender, for the record.
	By string `json:"by"`
}

// ReplayState describes a replay.
type ReplayState struct {
	ID string `json:"id"`
	By string `json:"by"`
	// What says who was chosen.
	What    string    `json:"what"`
	Started time.Time `json:"started"`
	// Ended is when the last update was published, or when the replay was stopped.
	Ended   time.Time `json:"ended,omitzero"`
	Stopped bool      `json:"stopped,omitempty"`
	// Entries counts the entries that were read to choose the workers, if any were.
	Entries int `json:"entries,omitempty"`
	// Users counts the users to send, Left those of them that are not published yet. Held counts the users that are
	// left out because they are part of a mass change that waits for a person.
	Users int `json:"users"`
	Left  int `json:"left"`
	Held  int `json:"held,omitempty"`
}

// StopRequest names the replay to stop.
type StopRequest struct {
	ID string `json:"id"`
	By string `json:"by"`
}

// RequeueRequest asks for a dead update to be tried again.
type RequeueRequest struct {
	Update event.Update `json:"update"`
	By     string       `json:"by"`
}

// RequeueAnswer is the result of a RequeueRequest.
type RequeueAnswer struct {
	// Superseded reports that a newer event of the worker has won in the meantime: the row is settled as superseded and
	// nothing is sent.
	Superseded bool `json:"superseded"`
}

// RequeueForecast counts dead letters by what requeueing them would do.
type RequeueForecast struct {
	// Sent would be sent to AtHoc. For those in Overtaken, a newer event of the worker has won, so nothing would be
	// sent. ReadAgain are messages that a service could not read and would try to read again.
	Sent      int `json:"sent"`
	Overtaken int `json:"overtaken"`
	ReadAgain int `json:"read_again"`
	// Refused counts those that would stay as they are, by reason.
	Refused map[string]int `json:"refused,omitempty"`
}

// MaxTryEntries is the most bookings in a TryRequest, so that it stays below the broker's limit of 1 MB.
const MaxTryEntries = 1000

// TryRequest asks what bookings of a file would do if they arrived now.
type TryRequest struct {
	// File is the file's id.
	File string `json:"file"`
	// Entries are the bookings, one for each worker.
	Entries []event.Entry `json:"entries"`
	// Changes is TryGuard's Changes from the answer to the previous part.
	Changes map[string]int `json:"changes,omitempty"`
}

// TryAnswer counts workers by what would happen.
type TryAnswer struct {
	// On and Off would be sent. Unchanged need not be: AtHoc holds that status, or it is on its way.
	On        int `json:"on"`
	Off       int `json:"off"`
	Unchanged int `json:"unchanged"`
	// Unmapped have no AtHoc user. For Beaten, a newer booking is known. Expired are bookings on that are too old to be
	// shown.
	Unmapped int `json:"unmapped"`
	Beaten   int `json:"beaten"`
	Expired  int `json:"expired"`
	// Guard is what the guard against mass changes would do; nil from an earlier version.
	Guard *TryGuard `json:"guard,omitempty"`
}

// TryGuard is what the guard would do with the bookings of all parts so far.
type TryGuard struct {
	// Mode, Holding and HoldsFrom are those of GuardState.
	Mode      string    `json:"mode"`
	Holding   bool      `json:"holding"`
	HoldsFrom time.Time `json:"holds_from,omitzero"`
	// Changes counts the users whose duty status would change, by kind. Unusual are the kinds with too many.
	Changes map[string]int `json:"changes"`
	Unusual []TryUnusual   `json:"unusual"`
}

// TryUnusual is an unusual mass change.
type TryUnusual struct {
	// UnusualChange's Users also counts the users that were sent within GUARD_WINDOW.
	UnusualChange
	// Hold reports whether it would wait for a person; otherwise it would be sent.
	Hold bool `json:"hold"`
}

// Add adds the answer about the next part.
func (a *TryAnswer) Add(b TryAnswer) {
	a.On += b.On
	a.Off += b.Off
	a.Unchanged += b.Unchanged
	a.Unmapped += b.Unmapped
	a.Beaten += b.Beaten
	a.Expired += b.Expired
	a.Guard = b.Guard
}

// MaxDead is the most dead letters in one DeadRequest.
const MaxDead = 100

// DeadRequest names dead letters to requeue or drop.
type DeadRequest struct {
	// IDs are their sequence numbers in the stream DEAD.
	IDs []uint64 `json:"ids"`
	// Of is how many dead letters the whole order concerns, of which these are a part; 0 if that is not given.
	Of int    `json:"of,omitempty"`
	By string `json:"by"`
}

// DeadResult is what was done with a dead letter.
type DeadResult struct {
	ID uint64 `json:"id"`
	// Did says what was done; Error says why nothing was.
	Did   string `json:"did,omitempty"`
	Error string `json:"error,omitempty"`
}

// SendingState says how updates are sent at present.
type SendingState struct {
	BatchSize int           `json:"batch_size"`
	RateLimit float64       `json:"rate_limit"`
	Breaker   breaker.State `json:"brake"`
	// Pause is the last pause that an operator ordered, in force or not; nil if there was none.
	Pause *breaker.Pause `json:"pause,omitempty"`
}

// PauseRequest asks that AtHoc not be called for a while.
type PauseRequest struct {
	By     string `json:"by"`
	Reason string `json:"reason"`
	// Seconds is how long the pause lasts: at most 24 hours.
	Seconds int `json:"seconds"`
	// All also holds back the janitor's reads.
	All bool `json:"all,omitempty"`
}

// ResumeAnswer describes the pause that was ended; nil if there was none.
type ResumeAnswer struct {
	Ended *breaker.Pause `json:"ended"`
}

// FindRequest asks for files by name, id, or the beginning of an id.
type FindRequest struct {
	Text string `json:"text"`
}

// FoundFile is a file that matches.
type FoundFile struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}
