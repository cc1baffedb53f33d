// Package notice notifies people of what the status would show them: that it has become worse, that a decision is
// needed, that files failed, that all is well again, and once a day how things stand.
//
// This file decides what is sent and when. It is a function of the state, what is seen and the time; the rest of the
// package does I/O.
package notice

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

// Kind says what a notice is about.
type Kind string

// The kinds of notices.
const (
	Worse    Kind = "worse"
	Changing Kind = "changing"
	Decision Kind = "decision"
	Files    Kind = "files"
	AllClear Kind = "all_clear"
	Digest   Kind = "digest"
	Test     Kind = "test"
	Login    Kind = "login"
)

const (
	// worseAfter is how long a worse verdict must last before a notice, clearAfter how long all must be well before
	// the all-clear.
	worseAfter, clearAfter = time.Minute, 5 * time.Minute
	// manyChanges within changesWithin is flapping: a verdict must then last calmAfter, with at most one flapping
	// notice per flapEvery.
	manyChanges   = 4
	changesWithin = time.Hour
	calmAfter     = 15 * time.Minute
	flapEvery     = 30 * time.Minute
	// filesEvery is the shortest time between two notices about failed files and rejected rows.
	filesEvery = time.Hour
	// maxAnHour is the hourly limit. Notices that are not about the level or a login stop at maxOthers, so that these
	// still get through.
	maxAnHour, maxOthers = 10, 7
	// keptFor is how long a notice waits for a sink that is down. maxPending is how many notices wait at most, and
	// maxWaiting how many bytes of JSON they may take: the state is one message, well below the broker's limit of 1
	// MB.
	keptFor    = 24 * time.Hour
	maxPending = 200
	maxWaiting = 512 << 10
	// maxLogins is how many emergency logins may wait for a notice. The log and the audit record all of them.
	maxLogins = 50
	// forgetAfter is how long a finding must be gone before its return counts as a new decision.
	forgetAfter = 10 * time.Minute
	// maxFiles is how many files a notice names, maxLines how many lines of each.
	maxFiles, maxLines = 10, 20
	// maxText is the longest text of a notice, in bytes.
	maxText = 2000
)

// reminders are the ages of a needed decision at which notices about it are due; after the last of them, one is due
// each hour.
var reminders = []time.Duration{0, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute}

// reminder returns the age at which the n-th reminder is due, counted from 0.
func reminder(n int) time.Duration {
	if last := len(reminders) - 1; n > last {
		return reminders[last] + time.Duration(n-last)*time.Hour
	}
	return reminders[n]
}

// decisions are the causes of findings that need a person's decision.
var decisions = []string{verdict.CauseHeld, verdict.CauseMappingHeld}

// Notice is a message to people. It names no worker, but a notice of an emergency login to the console has the name of
// the login.
type Notice struct {
	ID    string    `json:"id"`
	Kind  Kind      `json:"kind"`
	At    time.Time `json:"at"`
	Title string    `json:"title"`
	Text  string    `json:"text"`
}

// Pending is a notice that waits for the sinks in To.
type Pending struct {
	Notice
	To []string `json:"to"`
}

// Asked is the persisted state of a needed decision.
type Asked struct {
	Since time.Time `json:"since"`
	Seen  time.Time `json:"seen"`
	// Notified is how many reminders are done, including those that were missed.
	Notified int `json:"told"`
}

// State is the persisted state of notices, so that a new leader repeats nothing. The zero value means a first start.
type State struct {
	// Level is the verdict's level at the last check. Since is when the level last changed, and Text is what the
	// verdict said then.
	Level verdict.Level `json:"level"`
	Since time.Time     `json:"since"`
	Text  string        `json:"text,omitempty"`
	// Changes are the times within the last hour at which the level changed, at most 100.
	Changes []time.Time `json:"changes,omitempty"`
	// Notified is the level that people are taken to know of; it falls with the level without a notice. NotifiedAt is
	// when it was last marked as notified.
	Notified   verdict.Level `json:"told"`
	NotifiedAt time.Time     `json:"told_at,omitzero"`
	// UnwellSince is the start of the bad period that people know of; zero if there is none. Meanwhile counts, by
	// kind, the notices since then.
	UnwellSince time.Time    `json:"trouble,omitzero"`
	Meanwhile   map[Kind]int `json:"meanwhile,omitempty"`
	// Decisions are the decisions that are needed, by the cause and the text of their finding.
	Decisions map[string]Asked `json:"decisions,omitempty"`
	// FilesUntil is when the last file that had a notice was finished, and FilesAt is when that notice was made.
	FilesUntil time.Time `json:"files_until,omitzero"`
	FilesAt    time.Time `json:"files_at,omitzero"`
	// Day is the day of the last digest.
	Day string `json:"day,omitempty"`
	// Logins are emergency logins to the console that still wait for a notice, because the hourly limit was reached;
	// at most maxLogins.
	Logins []control.EmergencyLoginRequest `json:"logins,omitempty"`
	// Sent are the times at which notices were made within the last hour.
	Sent []time.Time `json:"sent,omitempty"`
	// Outbox holds the notices that are still to be sent, oldest first.
	Outbox []Pending `json:"outbox,omitempty"`
}

// Seen is what is known at one moment.
type Seen struct {
	Verdict verdict.Verdict
	Facts   verdict.Facts
	// Lines are the lines of files that somebody may have to take care of, by the file's id.
	Lines map[string][]int
	// Sinks are the names of the sinks.
	Sinks []string
	// Zone is the time zone of the texts. DigestHour is the hour of the daily digest in that zone, or negative for
	// none.
	Zone       *time.Location
	DigestHour int
}

// Decide returns the notices to send and the new state, whose outbox holds them.
func Decide(s State, seen Seen, now time.Time) ([]Notice, State) {
	d := newDecider(s, seen, now)
	d.note()

	if len(seen.Sinks) == 0 { // nobody is notified
		d.s.FilesUntil = now
		return nil, d.s
	}

	d.logins()
	d.level()
	d.decisions()
	d.files()
	d.digest()

	return d.made, d.s
}

// NotifyLogin notifies people that somebody logged in to the console with an emergency password: at once, or as soon
// as the hourly limit allows. A login that is already waiting is not added again.
func NotifyLogin(s State, seen Seen, login control.EmergencyLoginRequest, now time.Time) State {
	d := newDecider(s, seen, now)
	if !slices.Contains(s.Logins, login) && len(s.Logins) < maxLogins {
		d.s.Logins = append(d.s.Logins, login)
	}

	d.logins()

	return d.s
}

// logins makes notices of the emergency logins, as many as the hourly limit allows.
func (d *decider) logins() {
	for len(d.s.Logins) > 0 {
		login := d.s.Logins[0]

		made := d.notify(Login, "PROBLEM: emergency login to the console", fmt.Sprintf("%s came in as %s at %s, by a password for when the login service is down.\n"+
			"Do: if nobody knows of it, take the line out of CONSOLE_USERS_FILE, which logs the person out at once; bobosync audit list says what was ordered.",
			text.Clean(login.By), text.Clean(login.Role), d.clock(login.At)))
		if !made {
			return
		}

		d.s.Logins = d.s.Logins[1:]
	}
}

func newDecider(s State, seen Seen, now time.Time) *decider {
	d := &decider{s: s, seen: seen, now: now}
	d.s.Changes, d.s.Sent, d.s.Outbox = slices.Clone(s.Changes), slices.Clone(s.Sent), slices.Clone(s.Outbox)
	d.s.Decisions, d.s.Meanwhile, d.s.Logins = maps.Clone(s.Decisions), maps.Clone(s.Meanwhile), slices.Clone(s.Logins)
	return d
}

type decider struct {
	s    State
	seen Seen
	now  time.Time
	made []Notice
}

// Ended returns the journal entry of the bad period that ends now, or nil if none ends or it was shorter than
// worseAfter.
func Ended(s State, seen Seen, now time.Time) *control.JournalEntry {
	if s.Since.IsZero() || s.Level == verdict.OK || s.Level == seen.Verdict.Level || now.Sub(s.Since) < worseAfter {
		return nil
	}
	return &control.JournalEntry{Kind: control.KindVerdict, Started: s.Since, Ended: now.UTC(), Outcome: strings.ToLower(s.Level.String()), Text: s.Text}
}

// note records the verdict's level, and drops times and notices that are too old.
func (d *decider) note() {
	level := d.seen.Verdict.Level
	if d.s.Since.IsZero() || level != d.s.Level {
		d.s.Text = text.Clean(d.seen.Verdict.Text)
	}

	if d.s.Since.IsZero() {
		d.s.Level, d.s.Since, d.s.FilesUntil = level, d.now, d.now
		d.s.Day = d.today()
	} else if level != d.s.Level {
		d.s.Level, d.s.Since = level, d.now
		d.s.Changes = append(d.s.Changes, d.now)
	}

	old := func(limit time.Duration) func(time.Time) bool {
		return func(at time.Time) bool { return d.now.Sub(at) >= limit }
	}
	d.s.Changes = slices.DeleteFunc(d.s.Changes, old(changesWithin))
	d.s.Changes = d.s.Changes[max(0, len(d.s.Changes)-100):]
	d.s.Sent = slices.DeleteFunc(d.s.Sent, old(time.Hour))
	d.s.Outbox = slices.DeleteFunc(d.s.Outbox, func(p Pending) bool { return d.now.Sub(p.At) >= keptFor })
}

// today returns the current day, or "" before the hour of the digest, or if there is no digest.
func (d *decider) today() string {
	at := d.now.In(d.seen.Zone)
	if d.seen.DigestHour < 0 || at.Hour() < d.seen.DigestHour {
		return ""
	}

	return at.Format(time.DateOnly)
}

// notify queues a notice. It returns false if the hourly limit is reached; the caller tries again later.
func (d *decider) notify(kind Kind, title, words string) bool {
	room := maxOthers
	if kind == Worse || kind == Changing || kind == AllClear || kind == Login {
		room = maxAnHour
	}

	if len(d.s.Sent) >= room {
		return false
	}

	if len(words) > maxText {
		words = strings.ToValidUTF8(words[:maxText], "") + " ..."
	}

	n := Notice{ID: fmt.Sprintf("%s-%s-%d", kind, strconv.FormatInt(d.now.UnixNano(), 36), len(d.made)), Kind: kind, At: d.now, Title: title, Text: words}
	d.made = append(d.made, n)
	d.s.Sent = append(d.s.Sent, d.now)
	d.s.Outbox = append(d.s.Outbox, Pending{Notice: n, To: d.seen.Sinks})
	d.s.Outbox = latestOf(d.s.Outbox)
	if !d.s.UnwellSince.IsZero() && kind != AllClear {
		if d.s.Meanwhile == nil {
			d.s.Meanwhile = map[Kind]int{}
		}

		d.s.Meanwhile[kind]++
	}

	return true
}

// latestOf returns the latest of the pending notices, as many as the limits allow.
func latestOf(all []Pending) []Pending {
	size, first := 0, len(all)
	for first > max(0, len(all)-maxPending) {
		data, _ := json.Marshal(all[first-1]) // the type has nothing that cannot be marshalled
		if size += len(data); size > maxWaiting {
			break
		}

		first--
	}

	return all[first:]
}

// decisions makes a notice of each finding that waits for a person, and reminders of it.
func (d *decider) decisions() {
	for _, f := range d.seen.Verdict.Findings {
		if !slices.Contains(decisions, f.Cause) {
			continue
		}

		key := f.Cause + ": " + f.Do

		asked, known := d.s.Decisions[key]
		if !known {
			asked.Since = d.now
		}

		asked.Seen = d.now
		due := asked.Notified
		for reminder(due) <= d.now.Sub(asked.Since) {
			due++ // after a gap, one reminder makes up for all that were missed
		}

		if due > asked.Notified {
			title := "A decision is needed"
			if asked.Notified > 0 {
				title = "A decision is still needed, since " + d.clock(asked.Since)
			}

			if d.notify(Decision, title, sentences(f)) {
				asked.Notified = due
			}
		}

		if d.s.Decisions == nil {
			d.s.Decisions = map[string]Asked{}
		}

		d.s.Decisions[key] = asked
	}

	maps.DeleteFunc(d.s.Decisions, func(_ string, a Asked) bool { return d.now.Sub(a.Seen) >= forgetAfter })
}

// level makes the notices about the verdict's level: it has become worse, it keeps changing, or all is well again.
func (d *decider) level() {
	s, lasts := &d.s, d.now.Sub(d.s.Since)
	flapping, news := len(s.Changes) >= manyChanges, changesAfter(s.Changes, s.NotifiedAt)
	calm := func(usual time.Duration) bool { return lasts >= usual && (!flapping || lasts >= calmAfter) }
	switch {
	case s.Level > s.Notified && calm(worseAfter):
		d.worse()
	case s.Level == verdict.OK && s.Notified > verdict.OK && calm(clearAfter):
		d.allClear()
	case s.Level < s.Notified && s.Level > verdict.OK && calm(worseAfter):
		s.Notified = s.Level // so that there is a notice if it becomes worse again
	case flapping && lasts < clearAfter && len(news) >= manyChanges && d.now.Sub(s.NotifiedAt) >= flapEvery:
		title := fmt.Sprintf("The status has changed %s since %s; now: %s", text.Times(len(news)), d.clock(news[0]), d.seen.Verdict.Level)
		if d.notify(Changing, title, d.findings()) {
			d.markNotified(max(s.Level, s.Notified, verdict.Warning))
		}
	}
}

func (d *decider) worse() {
	if d.onlyDecisions() { // decisions have notices of their own
		d.markNotified(d.s.Level)
		return
	}

	before := d.s
	d.markNotified(d.s.Level)

	if !d.notify(Worse, d.seen.Verdict.String(), d.findings()) {
		d.s = before // try again when the hourly limit allows
	}
}

// markNotified records that people know of a level.
func (d *decider) markNotified(level verdict.Level) {
	d.s.Notified, d.s.NotifiedAt = level, d.now
	if d.s.UnwellSince.IsZero() {
		d.s.UnwellSince = cmp.Or(d.s.Since, d.now)
	}
}

func (d *decider) onlyDecisions() bool {
	return !slices.ContainsFunc(d.seen.Verdict.Findings, func(f verdict.Finding) bool {
		return f.Level == d.s.Level && !slices.Contains(decisions, f.Cause)
	})
}

func (d *decider) allClear() {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(d.s.Meanwhile)) {
		parts = append(parts, fmt.Sprintf("%d %s", d.s.Meanwhile[kind], strings.ReplaceAll(string(kind), "_", " ")))
	}

	words := fmt.Sprintf("It was not well from %s to %s.", d.clock(d.s.UnwellSince), d.clock(d.s.Since))
	if len(parts) > 0 {
		words += " Sent meanwhile: " + strings.Join(parts, ", ") + "."
	}

	title := fmt.Sprintf("All is well again, after %s: %s", text.Ago(d.s.Since.Sub(d.s.UnwellSince)), d.seen.Verdict)
	if d.notify(AllClear, title, words) {
		d.s.Notified, d.s.NotifiedAt, d.s.UnwellSince, d.s.Meanwhile = verdict.OK, d.now, time.Time{}, nil
	}
}

// changesAfter returns the changes after people were last notified. The changes are sorted, oldest first.
func changesAfter(changes []time.Time, notified time.Time) []time.Time {
	for len(changes) > 0 && !changes[0].After(notified) {
		changes = changes[1:]
	}
	return changes
}

// Unfinished returns the files since the last notice that failed or have rejected rows, or nil if no notice about
// files is due yet.
func Unfinished(s State, files []control.FileState, now time.Time) []control.FileState {
	if s.FilesUntil.IsZero() || now.Sub(s.FilesAt) < filesEvery {
		return nil
	}

	return slices.DeleteFunc(slices.Clone(files), func(f control.FileState) bool {
		return !f.Finished.After(s.FilesUntil) || !f.Failed && f.Rejected == 0
	})
}

// files makes the notice of files that failed or have rejected rows. It gives numbers and lines, and nothing of the
// files' content.
func (d *decider) files() {
	found := Unfinished(d.s, d.seen.Facts.Files, d.now)
	if len(found) == 0 {
		return
	}

	until, failed, rejected := d.s.FilesUntil, 0, 0
	var lines []string
	for i, f := range found {
		if f.Finished.After(until) {
			until = f.Finished
		}

		rejected += f.Rejected
		if f.Failed {
			failed++
		}

		if i >= len(found)-maxFiles {
			lines = append(lines, fileWords(f, d.seen.Lines[f.ID]))
		}
	}

	if more := len(found) - maxFiles; more > 0 {
		lines = append(lines, fmt.Sprintf("And %s before them.", text.Count(more, "file")))
	}

	lines = append(lines, "Do: bobosync files show NAME says why; bobosync files list --failed lists the failed ones.")
	title := fmt.Sprintf("%s failed, %s rejected", text.Count(failed, "file"), text.Count(rejected, "row"))
	if d.notify(Files, title, strings.Join(lines, "\n")) {
		d.s.FilesUntil, d.s.FilesAt = until, d.now
	}
}

func fileWords(f control.FileState, lines []int) string {
	words := fmt.Sprintf("%s: %d of %s rejected", text.Clean(f.Name), f.Rejected, text.Count(f.Rows, "row"))
	if f.Failed {
		words += ", among the failed files"
	}

	if len(lines) == 0 {
		return words
	}

	var numbers []string
	for _, line := range lines[:min(len(lines), maxLines)] {
		numbers = append(numbers, strconv.Itoa(line))
	}

	words += "; lines " + strings.Join(numbers, ", ")
	if len(lines) > maxLines {
		words += " and more"
	}

	return words
}

// digest makes the daily notice of the status, once its hour has come.
func (d *decider) digest() {
	day := d.today()
	if day == "" || day == d.s.Day {
		return
	}

	f := d.seen.Facts
	var lines []string
	for _, s := range f.Ingest {
		lines = append(lines, fmt.Sprintf("Since midnight: %s done, %d failed; %s, %d of them rejected. Waiting: %s.", text.Count(s.Today.Done, "file"),
			s.Today.Failed, text.Count(s.Today.Rows, "row"), s.Today.Rejected, text.Count(s.Waiting, "file")))
	}

	for _, s := range f.Resolver {
		lines = append(lines, fmt.Sprintf("Workers: %d on duty of %d known, %d unmapped, %d not confirmed yet.", s.OnDuty, s.Workers, s.Unmapped, s.Unconfirmed+s.Unresolved))
	}

	lines = append(lines, d.findings())
	if d.notify(Digest, "Daily: "+d.seen.Verdict.String(), strings.Join(lines, "\n")) {
		d.s.Day = day
	}
}

// findings describes what is wrong and what to do.
func (d *decider) findings() string {
	var lines []string
	for _, f := range d.seen.Verdict.Findings {
		lines = append(lines, sentences(f))
	}

	if len(lines) == 0 {
		return "Nothing need be done."
	}

	return strings.Join(lines, "\n")
}

func sentences(f verdict.Finding) string {
	return fmt.Sprintf("%s: %s.\nDo: %s.", f.Level, f.Text, f.Do)
}

func (d *decider) clock(at time.Time) string {
	return at.In(d.seen.Zone).Format("2006-01-02 15:04 MST")
}
