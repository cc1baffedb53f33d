// Package verdict judges the state of the whole: whether duty data is fresh, what is wrong, and what to do. It only
// judges facts; commands, notices and pages gather them.
package verdict

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"bobosync/shared/breaker"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// Facts are what is known of the whole at one moment. What could not be read is empty.
type Facts struct {
	At time.Time `json:"at"`
	// Unreachable, if not nil, says why no facts could be gathered at all.
	Unreachable *Unreachable `json:"-"`

	Ingest    []control.IngestState    `json:"ingest"`
	Resolver  []control.ResolverState  `json:"resolver"`
	Publisher []control.PublisherState `json:"publisher"`
	Janitor   []control.JanitorState   `json:"janitor"`

	// Missing are the streams, consumers and buckets that the broker should have but lacks.
	Missing []string `json:"missing,omitempty"`
	// Astray are consumers, as stream and name, that were delivered more than their stream holds: the stream has lost
	// its end.
	Astray [][2]string `json:"astray,omitempty"`
	// Unread says what could not be read, and why.
	Unread []string `json:"unread,omitempty"`
	// Backlog counts the messages that wait for each service.
	Backlog map[topology.Service]uint64 `json:"backlog"`
	// EntriesFull is how full the stream of entries is, from 0 to 1.
	EntriesFull float64 `json:"entries_full"`
	// Partitions maps each leased partition to its owner.
	Partitions map[int]string `json:"lanes"`
	// Breaker is the circuit breaker's state, which all callers of AtHoc share; nil if it could not be read.
	Breaker *breaker.State `json:"brake,omitempty"`
	// Pause is the last pause that an operator ordered, in force or not; nil if there was none.
	Pause *breaker.Pause `json:"pause,omitempty"`
	// DeadLetters counts the dead letters, which wait for an operator.
	DeadLetters uint64 `json:"dead_letters"`
	// Files are the latest files, in the order in which they were read.
	Files []control.FileState `json:"-"`
}

// Reached reports whether any facts could be gathered.
func (f Facts) Reached() bool { return f.Unreachable == nil }

// Limits are the thresholds for warnings that can be set.
type Limits struct {
	// SilentAfter is how long no new file may arrive.
	SilentAfter time.Duration
}

const (
	// DefaultSilentAfter is longer than a night with few bookings.
	DefaultSilentAfter = 12 * time.Hour
	// lateWarning and lateProblem are how long a file may wait until AtHoc has all of it. Usually that takes seconds,
	// and a minute for thousands of workers at the usual rate. Ingest's LATE_AFTER takes precedence over lateWarning.
	lateWarning = 2 * time.Minute
	lateProblem = 15 * time.Minute
	// outageWarning is how long an outage of AtHoc may last before it counts as more than a hiccup.
	outageWarning = time.Minute
	// mappingOld is the age at which a mapping that is refreshed daily has missed a day.
	mappingOld = 48 * time.Hour
	// recoverWarning is how long reading everything again may take before it is a problem.
	recoverWarning = 15 * time.Minute
	// spaceWarning and spaceProblem are the free bytes on a disk below which there is a warning or a problem.
	spaceWarning = 1 << 30
	spaceProblem = 100 << 20
	// entriesFull is how full the stream of entries may be before a warning; ingest waits when it is full.
	entriesFull = 0.9
	// probeMissed is how long after the time of the next probe somebody would have tried if anything had to be sent.
	probeMissed = time.Minute
	// pausedProblem is how long workers may wait for the end of a pause before that is a problem.
	pausedProblem = 10 * time.Minute
)

// Level is how serious something is; it is also the exit status.
type Level int

// The levels.
const (
	OK Level = iota
	Warning
	Problem
)

// String returns the word that the verdict begins with.
func (l Level) String() string { return [...]string{"OK", "WARNING", "PROBLEM"}[l] }

// MarshalText writes the level for scripts: ok, warning or problem.
func (l Level) MarshalText() ([]byte, error) {
	if l < OK || l > Problem {
		return nil, fmt.Errorf("there is no level %d", int(l))
	}
	return []byte(strings.ToLower(l.String())), nil
}

// UnmarshalText reads what MarshalText writes.
func (l *Level) UnmarshalText(word []byte) error {
	for level := OK; level <= Problem; level++ {
		if strings.EqualFold(string(word), level.String()) {
			*l = level
			return nil
		}
	}

	return fmt.Errorf("there is no level %q", word)
}

// Finding is something that is not as it should be.
type Finding struct {
	Level Level  `json:"level"`
	Cause string `json:"cause"`
	// Text says in plain words what is wrong; Do says what to do about it.
	Text string `json:"text"`
	Do   string `json:"do"`
}

// Verdict is what an operator reads first.
type Verdict struct {
	// CompleteUpTo is the time up to which AtHoc is complete, see control.Freshness; zero if that is not known.
	CompleteUpTo time.Time `json:"complete_up_to,omitzero"`

	Level    Level     `json:"verdict"`
	Text     string    `json:"text"`
	Findings []Finding `json:"findings"`
}

// String returns the line that the operator reads first.
func (v Verdict) String() string { return v.Level.String() + ": " + v.Text }

// Judge returns what is wrong and what to do. The most serious findings come first; among equals, those that probably
// cause the others.
func Judge(f Facts, l Limits) Verdict {
	if u := f.Unreachable; u != nil {
		return Verdict{
			Level: Problem, Text: "nobody can tell whether duty data is fresh",
			Findings: []Finding{{Problem, u.Cause, sentence(u.Text), u.Do}},
		}
	}

	findings := slices.Concat(brokerFindings(f), unstoredFindings(f), serviceFindings(f), diskFindings(f), athocFindings(f), refusedFindings(f), pauseFindings(f), heldFindings(f), unverifiedFindings(f), mappingFindings(f),
		recoveryFindings(f), lateFindings(f), jobFindings(f), notifyFindings(f), fileFindings(f, l), contentFindings(f), deadFindings(f), versionFindings(f))
	for i := range findings { // findings are shown in many places, mails among them
		findings[i].Text, findings[i].Do = text.Clean(findings[i].Text), text.Clean(findings[i].Do)
	}

	slices.SortStableFunc(findings, func(a, b Finding) int { return cmp.Compare(b.Level, a.Level) })

	v := Verdict{CompleteUpTo: completeUpTo(f), Findings: findings}
	for _, found := range findings {
		v.Level = max(v.Level, found.Level)
	}

	v.Text = freshness(f, findings, v.Level)
	if f.Pause.InForce(f.At) {
		v.Text = fmt.Sprintf("PAUSED until %s: %s; %s", text.When(f.Pause.Until), areWaiting(f), v.Text)
	}

	if v.Level == Warning {
		v.Text += fmt.Sprintf(", but %s", needAttention(len(findings)))
	}

	return v
}

func needAttention(n int) string {
	if n == 1 {
		return "1 thing needs a look"
	}
	return fmt.Sprintf("%d things need a look", n)
}

func sentence(words string) string { return strings.ToUpper(words[:1]) + words[1:] }

// blocking are the causes that keep everything new from AtHoc while they last.
var blocking = []string{
	"no_" + string(topology.Ingest), "no_" + string(topology.Resolver), "no_" + string(topology.Publisher),
	CauseMissing, CauseUnstored, CauseAtHocRefuses, CauseAtHocDown, CausePaused, CauseWebPage, CauseNoMapping, CauseRecovering,
}

func blocks(found Finding) bool {
	return found.Level == Problem && slices.Contains(blocking, found.Cause)
}

// freshness says whether AtHoc shows what BOBO has reported.
func freshness(f Facts, findings []Finding, worst Level) string {
	lag, late, known := lateness(f)
	switch {
	case !known:
		return "nobody can tell whether duty data is fresh"
	case late:
		return fmt.Sprintf("duty data is late: AtHoc does not have all of a file that came %s ago", text.Ago(lag))
	case slices.ContainsFunc(findings, blocks):
		return "no new duty data reaches AtHoc"
	case worst == Problem:
		return "duty data is fresh up to now, but something is broken"
	case len(f.Unread) > 0:
		return "duty data is fresh as far as can be told"
	default:
		return "duty data is fresh"
	}
}

// lateness returns how old the watermark is, by ingest's clock, and whether that is late: older than LATE_AFTER, or
// from before the last interruption. Without ingest it is not known.
func lateness(f Facts) (lag time.Duration, late, known bool) {
	for _, s := range f.Ingest {
		switch {
		case s.Freshness != nil:
			lag = max(lag, s.Freshness.Lag())
			late = late || isLate(f, *s.Freshness)
		case s.Waiting > 0 && !s.Oldest.IsZero(): // from an earlier version
			lag = max(lag, f.At.Sub(s.Oldest))
			late = late || lag >= lateWarning
		}
	}

	return lag, late, len(f.Ingest) > 0
}

// Late reports whether duty data is late.
func Late(f Facts) bool {
	_, late, _ := lateness(f)
	return late
}

// isLate reports whether an ingest's files wait longer than they may. When an interruption ends, the files that it
// delayed are not done yet.
func isLate(f Facts, fresh control.Freshness) bool {
	return fresh.Late() || fresh.Waiting > 0 && fresh.CompleteUpTo.Before(interrupted(f))
}

// interrupted returns when the last interruption between the files and AtHoc ended: since when every service on that
// path has worked without a break, judging by its start and by when it could last use the broker again. Of the
// publishers, one is enough.
func interrupted(f Facts) (last time.Time) {
	var publishing time.Time
	for _, i := range f.Instances() {
		open := i.Started
		if i.Restored.After(open) {
			open = i.Restored
		}

		switch {
		case i.Service == topology.Publisher && (publishing.IsZero() || open.Before(publishing)):
			publishing = open
		case (i.Service == topology.Ingest || i.Service == topology.Resolver) && open.After(last):
			last = open
		}
	}

	if publishing.After(last) {
		return publishing
	}

	return last
}

// completeUpTo returns the time up to which AtHoc is complete; zero if that is not known.
func completeUpTo(f Facts) (mark time.Time) {
	for _, s := range f.Ingest {
		if s.Freshness != nil && (mark.IsZero() || s.Freshness.CompleteUpTo.Before(mark)) {
			mark = s.Freshness.CompleteUpTo
		}
	}

	return mark
}
