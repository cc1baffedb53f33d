package control

import (
	"fmt"
	"os"
	"time"

	"bobosync/shared/breaker"
	"bobosync/shared/bus"
)

// State is an endpoint of every service. It takes nothing, and every instance answers, so ask it with AskAll. The
// answers are IngestState, ResolverState, PublisherState and JanitorState.
const State = "state"

// Instance identifies the process that answers.
type Instance struct {
	// Name identifies an instance of a service: host name and process id.
	Name    string `json:"name"`
	Version string `json:"version"`
	// Started is when the process began, in UTC.
	Started time.Time `json:"started"`
	// Unstored is what the broker fails to store of what this process publishes, by subject.
	Unstored map[string]bus.Unstored `json:"unstored,omitempty"`
	// Restored is when the broker last became reachable again, or stored again what it had failed to store; zero if
	// there was no such trouble.
	Restored time.Time `json:"restored,omitzero"`
}

// Me returns the Instance of this process; started is when it began.
func Me(version string, started time.Time) Instance {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}

	return Instance{Name: fmt.Sprintf("%s/%d", host, os.Getpid()), Version: version, Started: started.UTC()}
}

// IngestState describes the files as ingest knows them.
type IngestState struct {
	Instance
	// Freshness says up to when AtHoc is complete; nil from an ingest of an earlier version.
	Freshness *Freshness `json:"freshness,omitempty"`
	// Waiting counts the files in the input directory that are read but not done; Rows counts their rows without an
	// outcome.
	Waiting int `json:"waiting"`
	Rows    int `json:"rows"`
	// Oldest is when the oldest of the waiting files was first seen; zero if none waits.
	Oldest time.Time `json:"oldest,omitzero"`
	// Unsettled are files that are not taken yet because they still change, with the moment since which they do.
	Unsettled map[string]time.Time `json:"unsettled,omitempty"`
	// Problems are the things in the input directory that cannot be read, by name: the oldest hundred. ProblemNames
	// counts all of them.
	Problems     map[string]Problem `json:"problems,omitempty"`
	ProblemNames int                `json:"problem_names,omitempty"`
	// Unread counts the files that were found and are not read yet; UnreadSince is when the first of them was found.
	// Files that cannot be read are among the Problems instead.
	Unread      int       `json:"unread,omitempty"`
	UnreadSince time.Time `json:"unread_since,omitzero"`
	// Blocked are finished files that cannot be moved out of the input directory, by name, with the time since which
	// they could have been moved: the oldest hundred. BlockedFiles counts all of them.
	Blocked      map[string]Problem `json:"blocked,omitempty"`
	BlockedFiles int                `json:"blocked_files,omitempty"`
	// Doubtful are files finished within the last 24 hours that are not text, or of which no rows or unusually few were
	// good: the latest hundred.
	Doubtful []DoubtfulFile `json:"doubtful,omitempty"`
	// Directories are the directories that cannot be used at this moment, by variable, with the reason.
	Directories map[string]string `json:"directories,omitempty"`
	// LastFile is when a file was last found, even if its content was known: the feed has been silent since then.
	LastFile time.Time `json:"last_file,omitzero"`
	// Zone is BOBO_TIMEZONE as ingest reads it. ZoneOffset is how far it is east of UTC at this moment, in seconds.
	Zone       string `json:"zone,omitempty"`
	ZoneOffset int    `json:"zone_offset,omitempty"`
	// Feeds compares what each feed brings with what it usually brings; none from an ingest of an earlier version.
	Feeds []FeedState `json:"feeds,omitempty"`
	// Today counts the files finished since midnight in this machine's zone.
	Today FileCounts `json:"today"`
	// FreeBytes is the space left for the processed files or for the ledger, whichever is less.
	FreeBytes uint64 `json:"free_bytes"`
	// NoFiles reports that next to no more files can be made in one of these places.
	NoFiles bool `json:"no_files,omitempty"`
}

// Freshness says up to when AtHoc is complete, and how long rows took until AtHoc confirmed them.
type Freshness struct {
	// CompleteUpTo is the watermark: the latest time such that every row of every file that arrived until then has its
	// outcome, or waits for a person's decision about a mass change.
	CompleteUpTo time.Time `json:"complete_up_to"`
	// LagMS is how old the watermark is by ingest's own clock, in milliseconds; 0 if nothing waits.
	LagMS int64 `json:"lag_ms"`
	// LateAfterMS is LATE_AFTER, the lag from which duty data counts as late, in milliseconds.
	LateAfterMS int64 `json:"late_after_ms"`
	// Waiting counts the files that AtHoc still lacks, including those that are not read yet. First is the one that
	// arrived first.
	Waiting int    `json:"waiting"`
	First   string `json:"first,omitempty"`
	// Held counts the files that wait for nothing but such a decision, and HeldRows the rows that wait for one.
	// Unmapped counts the rows that were settled after Since without AtHoc, because no AtHoc user has their employee
	// id.
	Held     int `json:"held,omitempty"`
	HeldRows int `json:"held_rows,omitempty"`
	Unmapped int `json:"unmapped,omitempty"`
	// Since is the time from which rows were measured: an hour ago, or when ingest began. Rows counts the rows that
	// AtHoc has confirmed since then.
	Since time.Time `json:"since"`
	Rows  int       `json:"rows"`
	// Total is their time from arrival to confirmation. Settling is the part until the file had stopped changing, AtHoc
	// the part from when the update could be sent until AtHoc's answer, and Us the rest.
	Total    Spread `json:"total"`
	Settling Spread `json:"settling"`
	Us       Spread `json:"us"`
	AtHoc    Spread `json:"athoc"`
	// Worst is the row that took longest; nil without rows.
	Worst *WorstRow `json:"worst,omitempty"`
}

// Lag returns how old the watermark is.
func (f Freshness) Lag() time.Duration { return max(time.Duration(f.LagMS)*time.Millisecond, 0) }

// Late reports whether the watermark is older than LATE_AFTER.
func (f Freshness) Late() bool { return f.LagMS > 0 && f.LagMS >= f.LateAfterMS }

// Spread is a distribution of durations, in milliseconds.
type Spread struct {
	P50   int64 `json:"p50_ms"`
	P95   int64 `json:"p95_ms"`
	P99   int64 `json:"p99_ms"`
	Worst int64 `json:"worst_ms"`
}

// WorstRow is the row of the last hour that took longest. Only the endpoint Slowest names its worker.
type WorstRow struct {
	File      string    `json:"file"`
	ID        string    `json:"id"`
	Line      int       `json:"line"`
	MS        int64     `json:"ms"`
	Settling  int64     `json:"settling_ms"`
	Us        int64     `json:"us_ms"`
	AtHoc     int64     `json:"athoc_ms"`
	Confirmed time.Time `json:"confirmed"`
}

// Slowest is an endpoint of ingest for operators: it takes nothing and answers with a SlowestAnswer.
const Slowest = "slowest"

// SlowestAnswer names the worker whose booking took longest within the last hour.
type SlowestAnswer struct {
	// Employee is empty if AtHoc has confirmed nothing within the last hour.
	Employee string    `json:"employee,omitempty"`
	Row      *WorstRow `json:"row,omitempty"`
}

// DoubtfulFile is a file that may not be what BOBO meant to send.
type DoubtfulFile struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Reason   string    `json:"reason"`
	Finished time.Time `json:"finished"`
	Rows     int       `json:"rows"`
	Rejected int       `json:"rejected"`
}

// FileCounts counts files, and rows by outcome or reason of rejection.
type FileCounts struct {
	Done     int            `json:"done"`
	Failed   int            `json:"failed"`
	Rows     int            `json:"rows"`
	Rejected int            `json:"rejected"`
	Outcomes map[string]int `json:"outcomes,omitempty"`
}

// ResolverState describes the workers as the resolver knows them.
type ResolverState struct {
	Instance
	// Recovered is false while the resolver waits for the files to be read again, which began at Recovering. Recovering
	// is zero from a resolver of an earlier version.
	Recovered  bool      `json:"recovered"`
	Recovering time.Time `json:"recovering,omitzero"`
	// Workers counts the known workers. OnDuty counts those whose latest event is a booking on that is not stale.
	// Unmapped counts those whose employee id no AtHoc user has.
	Workers  int `json:"workers"`
	OnDuty   int `json:"on_duty"`
	Unmapped int `json:"unmapped"`
	// Unresolved counts the workers whose latest event is held back, Unconfirmed those whose update AtHoc has not
	// confirmed.
	Unresolved  int `json:"unresolved"`
	Unconfirmed int `json:"unconfirmed"`
	// Oldest is the time of the oldest of these workers' events; zero if there is none.
	Oldest time.Time `json:"oldest,omitzero"`
	// Snapshot is the id of the mapping in use, and Mapped counts the employee ids in it.
	Snapshot string `json:"snapshot,omitempty"`
	Mapped   int    `json:"mapped"`
	// Replays counts the replays that are under way.
	Replays int `json:"replays"`
	// FreeBytes is the space left where the state store lies; nil if that is not known, for example from a resolver of
	// an earlier version. NoFiles reports that next to no more files can be made there.
	FreeBytes *uint64 `json:"free_bytes,omitempty"`
	NoFiles   bool    `json:"no_files,omitempty"`
	// Guard describes mass changes; nil from a resolver of an older version.
	Guard *GuardState `json:"guard,omitempty"`
}

// PublisherState is how one publisher is doing.
type PublisherState struct {
	Instance
	// Partitions are the partitions that it holds now.
	Partitions []int `json:"lanes"`
	// Calling is since when a call to AtHoc is under way; zero if none is.
	Calling time.Time `json:"calling,omitzero"`
	// LastSuccess is when AtHoc last accepted an update from it. LastFailure is when a call last failed, and Failure is
	// why.
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastFailure time.Time `json:"last_failure,omitzero"`
	Failure     string    `json:"failure,omitempty"`
	// Calls and Users count what it has sent since it began.
	Calls int64 `json:"calls"`
	Users int64 `json:"users"`
	// BatchSize is the most users in a call: BATCH_SIZE, or fewer after AtHoc refused that many.
	BatchSize int           `json:"batch_size"`
	RateLimit float64       `json:"rate_limit"`
	Breaker   breaker.State `json:"brake"`
	// Refused are users whom AtHoc has refused repeatedly within the last minutes: the first hundred.
	Refused []RefusedUser `json:"refused,omitempty"`
	// PauseLost is a pause that would still be in force if the broker had not lost it.
	PauseLost *breaker.Pause `json:"pause_lost,omitempty"`
	// Unverified reports that AtHoc's certificate is not verified, by DISABLE_SSL_VERIFY.
	Unverified bool `json:"unverified,omitempty"`
	// Insecure names the settings that let others on the path to AtHoc read passwords or impersonate AtHoc: a warning.
	Insecure []string `json:"insecure,omitempty"`
}

// RefusedUser is a user whose status AtHoc does not accept, identified by the row that the status comes from.
type RefusedUser struct {
	File  string    `json:"file"`
	Row   int       `json:"row"`
	Times int       `json:"times"`
	Since time.Time `json:"since"`
	// Words are AtHoc's own words, without the user's name.
	Words string `json:"words"`
}

// JanitorState says what the janitor does and did.
type JanitorState struct {
	Instance
	// Leads is true for the leader and false for a follower, which leaves the following fields empty.
	Leads bool `json:"at_work"`
	// Jobs are its periodic jobs: mapping, cleanup, reconcile, purge.
	Jobs []Job `json:"duties,omitempty"`
	// Held is a mapping that the guard holds back and that waits for an approval.
	Held *HeldMapping `json:"held,omitempty"`
	// ReconcileHeld is the last comparison with AtHoc, without the users, if it should have resent the differences but
	// sent nothing.
	ReconcileHeld *ReconcileAnswer `json:"reconcile_held,omitempty"`
	// Notify is the state of the sinks of notices.
	Notify []NotifyState `json:"notify,omitempty"`
	// Unverified reports that AtHoc's certificate is not verified, by DISABLE_SSL_VERIFY.
	Unverified bool `json:"unverified,omitempty"`
	// Insecure is as in PublisherState.
	Insecure []string `json:"insecure,omitempty"`
}

// NotifyState is the state of a sink of notices: mail, webhook or teams.
type NotifyState struct {
	Sink string `json:"sink"`
	// Waiting counts the notices that wait for the sink; they are kept for a day.
	Waiting int `json:"waiting,omitempty"`
	// Failing is since when the sink has accepted none, and Error is why.
	Failing time.Time `json:"failing,omitzero"`
	Error   string    `json:"error,omitempty"`
}

// The names of the janitor's jobs, which are kinds of journal entries too.
const (
	JobMapping   = "mapping"
	JobCleanup   = "cleanup"
	JobReconcile = "reconcile"
	JobPurge     = "purge"
)

// Job is something that the janitor does periodically.
type Job struct {
	Name string `json:"name"`
	// Off reports whether the settings switch it off.
	Off bool `json:"off,omitempty"`
	// LastSuccess is the end of the last run that succeeded; Next is when it runs next.
	LastSuccess time.Time `json:"last_success,omitzero"`
	Next        time.Time `json:"next,omitzero"`
	// Running is since when it has been running; zero if it is not.
	Running time.Time `json:"running,omitzero"`
	// Failures counts the failed runs since the last success; Error is the error of the last of them.
	Failures int    `json:"failures,omitempty"`
	Error    string `json:"error,omitempty"`
}
