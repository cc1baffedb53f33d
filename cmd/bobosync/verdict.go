package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bobosync/shared/breaker"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// facts are what is known of the whole at one moment. Whatever could not be asked is empty.
type facts struct {
	At time.Time `json:"at"`
	// Unreachable, if not nil, says why nothing could be asked at all.
	Unreachable *unreachable `json:"-"`

	Ingest    []control.IngestState    `json:"ingest"`
	Resolver  []control.ResolverState  `json:"resolver"`
	Publisher []control.PublisherState `json:"publisher"`
	Janitor   []control.JanitorState   `json:"janitor"`

	// Missing are the streams and consumers that the broker should have and has not.
	Missing []string `json:"missing,omitempty"`
	// Unread says what could not be looked at, and why.
	Unread []string `json:"unread,omitempty"`
	// Backlog counts the messages that wait for each service.
	Backlog map[topology.Service]uint64 `json:"backlog"`
	// EntriesFull is how full the stream of entries is, from 0 to 1.
	EntriesFull float64 `json:"entries_full"`
	// Lanes says who holds each lane that is lent at this moment.
	Lanes map[int]string `json:"lanes"`
	// Breaker is what all who call AtHoc share; nil if it was not there to be read.
	Breaker *breaker.State `json:"brake,omitempty"`
	// DeadLetters counts what waits for an operator.
	DeadLetters uint64 `json:"dead_letters"`
}

// reached says whether anybody could be asked.
func (f facts) reached() bool { return f.Unreachable == nil }

// limits are from when on something is worth a warning.
type limits struct {
	// SilentAfter is how long no new file may come.
	SilentAfter time.Duration
}

const (
	// defaultSilentAfter is longer than a quiet night.
	defaultSilentAfter = 12 * time.Hour
	// lateWarning and lateProblem are how long a file may wait until AtHoc has all of it. Usually that takes seconds, and
	// thousands of workers at the usual rate a minute.
	lateWarning = 2 * time.Minute
	lateProblem = 15 * time.Minute
	// outageWarning is how long an outage of AtHoc may be a hiccup.
	outageWarning = time.Minute
	// growsAfter is how long a file may be written to.
	growsAfter = 2 * time.Minute
	// mappingOld is the age at which a mapping that is refreshed daily has missed a day.
	mappingOld = 48 * time.Hour
	// recoverWarning is how long reading everything again may take before it is a problem.
	recoverWarning = 15 * time.Minute
	// spaceWarning and spaceProblem are bytes left on the disk.
	spaceWarning = 1 << 30
	spaceProblem = 100 << 20
	// entriesFull is how full the stream of entries may be; ingest waits when it is full.
	entriesFull = 0.9
	// probeMissed is how long after the moment of the next try somebody would have tried, if anything were to be sent.
	probeMissed = time.Minute
)

// level says how bad something is; it is the exit status too.
type level int

const (
	levelOK level = iota
	levelWarning
	levelProblem
)

// String returns the word with which the verdict begins.
func (l level) String() string { return [...]string{"OK", "WARNING", "PROBLEM"}[l] }

// MarshalText writes the level for scripts: ok, warning or problem.
func (l level) MarshalText() ([]byte, error) {
	if l < levelOK || l > levelProblem {
		return nil, fmt.Errorf("there is no level %d", int(l))
	}
	return []byte(strings.ToLower(l.String())), nil
}

// The causes of findings, as scripts know them; beside these no_ingest, no_resolver, no_publisher and no_janitor.
const (
	causeBroker       = "broker_unreachable"
	causeNotAllowed   = "broker_refuses"
	causeJetStream    = "no_jetstream"
	causeMissing      = "stream_missing"
	causeUnread       = "not_readable"
	causeStandby      = "no_janitor_at_work"
	causeDirectory    = "directory"
	causeDisk         = "disk_space"
	causeAtHocRefuses = "athoc_refuses"
	causeAtHocDown    = "athoc_down"
	causeThrottled    = "athoc_throttles"
	causeNoMapping    = "no_mapping"
	causeMappingOld   = "mapping_old"
	causeMappingHeld  = "mapping_held"
	causeDuty         = "duty_failed"
	causeRecovering   = "recovering"
	causeLate         = "late"
	causeFull         = "entries_full"
	causeGrowing      = "file_growing"
	causeUnreadable   = "file_unreadable"
	causeFailedFiles  = "failed_files"
	causeSilent       = "feed_silent"
	causeDead         = "dead_letters"
	causeVersions     = "versions_mixed"
)

// finding is something that is not as it should be.
type finding struct {
	Level level  `json:"level"`
	Cause string `json:"cause"`
	// Text says in plain words what is wrong, Do what to do about it.
	Text string `json:"text"`
	Do   string `json:"do"`
}

// verdict is what an operator is told first.
type verdict struct {
	Level    level     `json:"verdict"`
	Text     string    `json:"text"`
	Findings []finding `json:"findings"`
}

// String returns the line that the operator reads first.
func (v verdict) String() string { return v.Level.String() + ": " + v.Text }

// judge says what is wrong and what to do. The worst comes first, and of what is equally bad the likely cause of the rest.
func judge(f facts, l limits) verdict {
	if u := f.Unreachable; u != nil {
		return verdict{
			Level: levelProblem, Text: "nobody can tell whether duty data is fresh",
			Findings: []finding{{levelProblem, u.Cause, sentence(u.Text), u.Do}},
		}
	}
	findings := slices.Concat(brokerFindings(f), serviceFindings(f), placeFindings(f), athocFindings(f), mappingFindings(f),
		recoveryFindings(f), lateFindings(f), dutyFindings(f), fileFindings(f, l), deadFindings(f), versionFindings(f))
	slices.SortStableFunc(findings, func(a, b finding) int { return cmp.Compare(b.Level, a.Level) })
	v := verdict{Findings: findings}
	for _, found := range findings {
		v.Level = max(v.Level, found.Level)
	}
	v.Text = freshness(f, findings, v.Level)
	if v.Level == levelWarning {
		v.Text += fmt.Sprintf(", but %s", needLook(len(findings)))
	}
	return v
}

func needLook(n int) string {
	if n == 1 {
		return "1 thing needs a look"
	}
	return fmt.Sprintf("%d things need a look", n)
}

func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// blocking are the causes for which nothing new reaches AtHoc while they last.
var blocking = []string{
	"no_" + string(topology.Ingest), "no_" + string(topology.Resolver), "no_" + string(topology.Publisher),
	causeMissing, causeAtHocRefuses, causeAtHocDown, causeNoMapping, causeRecovering,
}

func blocks(found finding) bool {
	return found.Level == levelProblem && slices.Contains(blocking, found.Cause)
}

// freshness says whether AtHoc shows what BOBO has told.
func freshness(f facts, findings []finding, worst level) string {
	late, known := lateness(f)
	switch {
	case !known:
		return "nobody can tell whether duty data is fresh"
	case late >= lateWarning:
		return fmt.Sprintf("duty data is late: AtHoc does not have all of a file that came %s ago", ago(late))
	case slices.ContainsFunc(findings, blocks):
		return "no new duty data reaches AtHoc"
	case worst == levelProblem:
		return "duty data is fresh up to now, but something is broken"
	default:
		return "duty data is fresh"
	}
}

// lateness is how long the oldest file has waited for AtHoc. It is not known without ingest.
func lateness(f facts) (late time.Duration, known bool) {
	for _, s := range f.Ingest {
		if s.Waiting > 0 && !s.Oldest.IsZero() {
			late = max(late, f.At.Sub(s.Oldest))
		}
	}
	return late, len(f.Ingest) > 0
}

func brokerFindings(f facts) (all []finding) {
	if len(f.Missing) > 0 {
		all = append(all, finding{
			levelProblem, causeMissing, fmt.Sprintf("The broker has lost, or never had: %s", strings.Join(f.Missing, ", ")),
			"restart all services: they make anew what is missing, and read the waiting files again; look why the broker lost it (its disk, its store directory)",
		})
	}
	if len(f.Unread) > 0 {
		all = append(all, finding{
			levelWarning, causeUnread, "Not everything could be looked at: " + strings.Join(f.Unread, "; "),
			"check what this login may do at the broker, and whether all servers of the broker run",
		})
	}
	if f.EntriesFull >= entriesFull {
		all = append(all, finding{
			levelWarning, causeFull, fmt.Sprintf("The broker's room for entries is %d %% full; ingest reads no further when it is full", int(f.EntriesFull*100)),
			"look whether the resolver works; a larger ENTRIES_MAX_BYTES gives more room",
		})
	}
	return all
}

// lack says what does not happen without a service.
var lack = map[topology.Service]string{
	topology.Ingest:    "no file is read",
	topology.Resolver:  "no duty status goes on to be sent",
	topology.Publisher: "nothing is sent to AtHoc",
	topology.Janitor:   "the mapping is not refreshed and stale duty is not cleared",
}

func serviceFindings(f facts) (all []finding) {
	for _, s := range []struct {
		service topology.Service
		running int
		level   level
	}{
		{topology.Publisher, len(f.Publisher), levelProblem}, {topology.Resolver, len(f.Resolver), levelProblem},
		{topology.Ingest, len(f.Ingest), levelProblem}, {topology.Janitor, len(f.Janitor), levelWarning},
	} {
		if s.running == 0 {
			all = append(all, finding{
				s.level, "no_" + string(s.service), fmt.Sprintf("No %s is alive: %s", s.service, lack[s.service]),
				fmt.Sprintf("start the %s (or bobosync run, which has all services), or restart it if it runs and does not answer; the end of its log says why. Nothing is lost", s.service),
			})
		}
	}
	if len(f.Janitor) > 0 && !slices.ContainsFunc(f.Janitor, atWork) {
		all = append(all, finding{
			levelWarning, causeStandby, "A janitor stands by, and none is at work",
			"wait half a minute: it takes over when the turn of the one before has ended. If this stays, restart it",
		})
	}
	return all
}

func atWork(s control.JanitorState) bool { return s.AtWork }

// placeFindings are about directories and the disk.
func placeFindings(f facts) (all []finding) {
	for _, s := range f.Ingest {
		for _, name := range slices.Sorted(maps.Keys(s.Directories)) {
			all = append(all, finding{
				levelProblem, causeDirectory, fmt.Sprintf("%s cannot be used: %s", name, s.Directories[name]),
				"mend the directory: is it there, is its disk mounted and not read-only, may bobosync's user write to it? Work goes on by itself then",
			})
		}
		switch {
		case s.FreeBytes < spaceProblem:
			all = append(all, finding{levelProblem, causeDisk, "The disk is full: " + mebibytes(s.FreeBytes) + " are left", makeRoom})
		case s.FreeBytes < spaceWarning:
			all = append(all, finding{levelWarning, causeDisk, "The disk is nearly full: " + mebibytes(s.FreeBytes) + " are left", makeRoom})
		}
	}
	return all
}

const makeRoom = "make room where PROCESSED_DIRECTORY and DATA_DIRECTORY are: delete old processed files and logs; never anything in DATA_DIRECTORY or CSV_DIRECTORY"

func mebibytes(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }

func athocFindings(f facts) []finding {
	if f.Breaker == nil {
		return nil
	}
	b := *f.Breaker
	switch b.Class {
	case breaker.Refused:
		text, do := refusal(b.Cause)
		return []finding{{levelProblem, causeAtHocRefuses, fmt.Sprintf("%s, since %s. AtHoc's answer: %s", text, when(b.Since), b.Cause), do}}
	case breaker.Outage:
		lasted := f.At.Sub(b.Since)
		found := finding{
			levelProblem, causeAtHocDown, fmt.Sprintf("AtHoc is down since %s (%s): %s", when(b.Since), ago(lasted), b.Cause),
			"nothing is lost, and sending goes on by itself when AtHoc is back. Look at the network from here to ATHOC_SERVER_URL; if that is well, call who runs AtHoc",
		}
		switch missed := f.At.Sub(b.ProbeAt); {
		case missed > probeMissed && f.At.Sub(b.ProbeUntil) > probeMissed:
			found.Level, found.Text = levelWarning, fmt.Sprintf("AtHoc was down when it was last called, after %s; nobody has had to call it since: %s", when(b.Since), b.Cause)
		case lasted < outageWarning:
			found.Level = levelWarning
		}
		return []finding{found}
	case breaker.Throttled:
		return []finding{{
			levelWarning, causeThrottled, fmt.Sprintf("AtHoc asks for fewer calls since %s: %s", when(b.Since), b.Cause),
			"nothing need be done: sending is slower until AtHoc takes more. If it stays so, lower ATHOC_RATE_LIMIT or see what else calls AtHoc with this account",
		}}
	default:
		return nil
	}
}

// refusal says in plain words why AtHoc refuses, by what its client says about the call.
func refusal(cause string) (text, do string) {
	const then = "; put the right value into the settings and restart publisher and janitor"
	switch {
	case strings.Contains(cause, "DUTY_STATUS_FIELD"):
		return "AtHoc does not take the duty status of anybody", "check DUTY_STATUS_FIELD against the attribute's common name in AtHoc" + then
	case strings.Contains(cause, ": unauthorized"):
		return "AtHoc refuses the login: wrong user name, password, client or organisation",
			"check APIUSER, PASSWORD, CLIENT_ID, CLIENT_SECRET and ORG_CODE" + then
	case strings.Contains(cause, ": forbidden"):
		return "AtHoc refuses the account: it is locked, its password has expired, or it lacks the role",
			"have an AtHoc administrator unlock APIUSER and check its role and password; sending goes on by itself within five minutes"
	case strings.Contains(cause, ": not_found"):
		return "AtHoc does not know the address or the organisation", "check ATHOC_SERVER_URL and ORG_CODE, and the proxy if there is one" + then
	default:
		return "AtHoc refuses the calls", "read AtHoc's answer, and check the connection's settings" + then
	}
}

func mappingFindings(f facts) (all []finding) {
	for _, s := range f.Resolver {
		if s.Snapshot == "" {
			all = append(all, finding{
				levelProblem, causeNoMapping, "There is no mapping of employee ids to AtHoc users yet: nothing can be sent",
				"the janitor fetches it: see bobosync mapping show, and then bobosync mapping refresh",
			})
		}
	}
	for _, s := range f.Janitor {
		if h := s.Held; h != nil {
			all = append(all, finding{
				levelWarning, causeMappingHeld,
				fmt.Sprintf("A new mapping is held back since %s: %s; it has %d employee ids, the one in force has %d", when(h.Since), h.Reason, h.After, h.Before),
				fmt.Sprintf("look with bobosync mapping show; if AtHoc's users are right, bobosync mapping approve %s", h.ID),
			})
		}
	}
	d, ok := duty(f, control.DutyMapping)
	if ok && !d.Off && !d.LastSuccess.IsZero() && f.At.Sub(d.LastSuccess) >= mappingOld {
		text := fmt.Sprintf("The mapping of employee ids to AtHoc users was last refreshed %s ago: who is new since then has no status", ago(f.At.Sub(d.LastSuccess)))
		if d.Error != "" {
			text += ". The last try said: " + d.Error
		}
		all = append(all, finding{levelWarning, causeMappingOld, text, "bobosync mapping refresh tries now and says what is wrong"})
	}
	return all
}

// duty finds a duty of the janitor at work.
func duty(f facts, name string) (control.Duty, bool) {
	for _, s := range f.Janitor {
		for _, d := range s.Duties {
			if d.Name == name {
				return d, true
			}
		}
	}
	return control.Duty{}, false
}

// dutyWords are what the janitor's duties are to an operator.
var dutyWords = map[string]string{
	control.DutyMapping: "refresh of the mapping", control.DutyCleanup: "clearing of stale duty",
	control.DutyReconcile: "comparison with AtHoc", control.DutyPurge: "deletion of old files",
}

func dutyFindings(f facts) (all []finding) {
	for _, s := range f.Janitor {
		for _, d := range s.Duties {
			if d.Failures == 0 || d.Off || d.Name == control.DutyMapping && s.Held != nil { // that it is held back is told already
				continue
			}
			all = append(all, finding{
				levelWarning, causeDuty, fmt.Sprintf("The %s has failed %s in a row: %s", cmp.Or(dutyWords[d.Name], d.Name), times(d.Failures), d.Error),
				fmt.Sprintf("it is tried again by itself at %s; bobosync journal --kind %s shows each try", when(d.Next), d.Name),
			})
		}
	}
	return all
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func recoveryFindings(f facts) (all []finding) {
	for _, s := range f.Resolver {
		if s.Recovered {
			continue
		}
		found := finding{
			levelWarning, causeRecovering, "The resolver has no memory yet and reads all recent files again; nothing is sent until it has",
			"wait some minutes; ingest has to be alive for it",
		}
		if f.At.Sub(s.Started) > recoverWarning {
			found.Level = levelProblem
			found.Do = "this should be over by now: look at the logs of ingest and resolver, and then restart both"
		}
		all = append(all, found)
	}
	return all
}

func lateFindings(f facts) []finding {
	late, _ := lateness(f)
	if late < lateWarning {
		return nil
	}
	found := finding{
		levelWarning, causeLate, fmt.Sprintf("AtHoc does not have all of a file that came %s ago", ago(late)),
		"bobosync files list --open shows which files wait, bobosync files show NAME why",
	}
	if late >= lateProblem {
		found.Level = levelProblem
	}
	return []finding{found}
}

func fileFindings(f facts, l limits) (all []finding) {
	for _, s := range f.Ingest {
		for _, name := range slices.Sorted(maps.Keys(s.Unsettled)) {
			if lasted := f.At.Sub(s.Unsettled[name]); lasted >= growsAfter {
				all = append(all, finding{
					levelWarning, causeGrowing, fmt.Sprintf("File %s keeps changing since %s and is not read until it stops", name, ago(lasted)),
					"see what writes to it: a copy that hangs, or a program that appends; each export has to be a file of its own",
				})
			}
		}
		for _, name := range slices.Sorted(maps.Keys(s.Problems)) {
			p := s.Problems[name]
			all = append(all, finding{
				levelWarning, causeUnreadable, fmt.Sprintf("%s in CSV_DIRECTORY cannot be read since %s: %s", name, when(p.Since), p.Reason),
				"give bobosync's user the right to read it, or take it away",
			})
		}
		if s.Today.Failed > 0 {
			all = append(all, finding{
				levelWarning, causeFailedFiles, fmt.Sprintf("%s put among the failed files today", wereFiles(s.Today.Failed)),
				"bobosync files list --failed shows them, bobosync files show NAME why",
			})
		}
		all = append(all, silence(f.At, s, l.SilentAfter)...)
	}
	return all
}

func wereFiles(n int) string {
	if n == 1 {
		return "1 file was"
	}
	return fmt.Sprintf("%d files were", n)
}

// silence finds that no new file comes.
func silence(now time.Time, s control.IngestState, after time.Duration) []finding {
	const do = "ask who runs BOBO whether its export works and reaches CSV_DIRECTORY (share mounted, disk not full there)"
	switch {
	case after <= 0:
		return nil
	case !s.LastFile.IsZero() && now.Sub(s.LastFile) >= after:
		return []finding{{levelWarning, causeSilent, fmt.Sprintf("No new file has come for %s, since %s", ago(now.Sub(s.LastFile)), when(s.LastFile)), do}}
	case s.LastFile.IsZero() && now.Sub(s.Started) >= after:
		return []finding{{levelWarning, causeSilent, "No file has ever come", do}}
	default:
		return nil
	}
}

func deadFindings(f facts) []finding {
	if f.DeadLetters == 0 {
		return nil
	}
	return []finding{{
		levelWarning, causeDead, count(f.DeadLetters, "dead letter") + ": what AtHoc or a service will never take as it is",
		"bobosync dead list says why; when that is mended, bobosync dead requeue --all",
	}}
}

func versionFindings(f facts) []finding {
	by := map[string][]string{}
	for _, r := range instances(f) {
		by[r.Version] = append(by[r.Version], string(r.service))
	}
	if len(by) < 2 {
		return nil
	}
	var parts []string
	for _, version := range slices.Sorted(maps.Keys(by)) {
		slices.Sort(by[version])
		parts = append(parts, fmt.Sprintf("%s (%s)", version, strings.Join(slices.Compact(by[version]), ", ")))
	}
	return []finding{{
		levelWarning, causeVersions, "Different versions run side by side: " + strings.Join(parts, ", "),
		"finish the update: restart what still runs the older version",
	}}
}

// instance is a process of a service, and what it does now.
type instance struct {
	service topology.Service
	control.Instance
	does string
}

// instances lists all processes that have answered, by service.
func instances(f facts) (all []instance) {
	for _, s := range f.Ingest {
		all = append(all, instance{topology.Ingest, s.Instance, ingestDoes(s)})
	}
	for _, s := range f.Resolver {
		all = append(all, instance{topology.Resolver, s.Instance, resolverDoes(s)})
	}
	for _, s := range f.Publisher {
		all = append(all, instance{topology.Publisher, s.Instance, publisherDoes(f.At, s)})
	}
	for _, s := range f.Janitor {
		all = append(all, instance{topology.Janitor, s.Instance, janitorDoes(s)})
	}
	return all
}
