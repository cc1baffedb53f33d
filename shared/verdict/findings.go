package verdict

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bobosync/shared/breaker"
	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

func brokerFindings(f Facts) (all []Finding) {
	if len(f.Missing) > 0 {
		all = append(all, Finding{
			Problem, CauseMissing, fmt.Sprintf("The broker has lost, or never had: %s", strings.Join(f.Missing, ", ")),
			"run bobosync provision where the services' keys make nothing (bobosync provision --keep does so by itself), or else restart all services: they recreate what is missing. The waiting files are read again. Find out why the broker lost it (its disk, its store directory)",
		})
	}

	for _, c := range f.Astray {
		all = append(all, Finding{
			Problem, CauseMissing, fmt.Sprintf("The broker has lost the end of stream %s: its reader %s was given more than it holds, and is given nothing of what comes", c[0], c[1]),
			fmt.Sprintf("nats consumer rm %s %s deletes the reader; bobosync provision recreates it, and nothing is lost. The broker inside bobosync run does so by itself. Find out why the broker lost it (its disk, its store directory)", c[0], c[1]),
		})
	}

	if len(f.Unread) > 0 {
		all = append(all, Finding{
			Warning, CauseUnread, "Not everything could be read: " + strings.Join(f.Unread, "; "),
			"check what this login may do at the broker, and whether all servers of the broker run",
		})
	}

	if f.EntriesFull >= entriesFull {
		all = append(all, Finding{
			Warning, CauseFull, fmt.Sprintf("The broker's room for entries is %d %% full; ingest reads no further when it is full", int(f.EntriesFull*100)),
			"check whether the resolver works; a larger ENTRIES_MAX_BYTES gives more room",
		})
	}

	return all
}

// lack says what does not happen while a service is down.
var lack = map[topology.Service]string{
	topology.Ingest:    "no file is read",
	topology.Resolver:  "no duty status goes on to be sent",
	topology.Publisher: "nothing is sent to AtHoc",
	topology.Janitor:   "the mapping is not refreshed and stale duty is not cleared",
}

func serviceFindings(f Facts) (all []Finding) {
	for _, s := range []struct {
		service topology.Service
		running int
		level   Level
	}{
		{topology.Publisher, len(f.Publisher), Problem}, {topology.Resolver, len(f.Resolver), Problem},
		{topology.Ingest, len(f.Ingest), Problem}, {topology.Janitor, len(f.Janitor), Warning},
	} {
		if s.running == 0 {
			all = append(all, Finding{
				s.level, "no_" + string(s.service), fmt.Sprintf("No %s is alive: %s", s.service, lack[s.service]),
				fmt.Sprintf("start the %s (or bobosync run, which has all services), or restart it if it runs and does not answer; the end of its log says why. Nothing is lost", s.service),
			})
		}
	}

	all = append(all, twice(f)...)
	if len(f.Janitor) > 0 && !slices.ContainsFunc(f.Janitor, leads) {
		all = append(all, Finding{
			Warning, CauseStandby, "A janitor runs as a follower, and none is the leader",
			"wait half a minute: it takes over when the lease of the previous leader has ended. If this stays, restart it",
		})
	}

	return all
}

// twice finds services with local state that run more than once: each instance would know only a part of what arrived.
func twice(f Facts) (all []Finding) {
	for _, service := range []topology.Service{topology.Ingest, topology.Resolver} {
		var names []string
		for _, i := range f.Instances() {
			if i.Service == service {
				names = append(names, i.Name)
			}
		}

		if len(names) > 1 {
			slices.Sort(names)
			all = append(all, Finding{
				Problem, CauseTwice, fmt.Sprintf("More than one %s runs, on %s: each knows only a part of what came, and AtHoc may be sent older statuses", service, strings.Join(names, ", ")),
				fmt.Sprintf("stop all but one %s; if it stays at more, find out what starts it twice (replicas, a second bobosync run with this NATS_URL). Then bobosync replay sends the latest of everybody again", service),
			})
		}
	}

	return all
}

func leads(s control.JanitorState) bool { return s.Leads }

// diskFindings are about directories and the disk.
func diskFindings(f Facts) (all []Finding) {
	for _, s := range f.Ingest {
		for _, name := range slices.Sorted(maps.Keys(s.Directories)) {
			all = append(all, Finding{
				Problem, CauseDirectory, fmt.Sprintf("%s cannot be used: %s", name, s.Directories[name]),
				"fix the directory: is it there, is its disk mounted and not read-only, may bobosync's user write to it? Work goes on by itself then",
			})
		}

		switch level, left := space(s.FreeBytes, s.NoFiles); level {
		case Problem:
			all = append(all, Finding{Problem, CauseDisk, "The disk is full: " + left, makeRoom})
		case Warning:
			all = append(all, Finding{Warning, CauseDisk, "The disk is nearly full: " + left, makeRoom})
		}
	}

	return append(all, resolverDisk(f, all)...)
}

// resolverDisk reports that the resolver, which may run elsewhere than ingest, cannot save anything any more. It
// reports nothing if a full disk is known already, because it may be the same one.
func resolverDisk(f Facts, known []Finding) (all []Finding) {
	if slices.ContainsFunc(known, func(found Finding) bool { return found.Cause == CauseDisk && found.Level == Problem }) {
		return nil
	}

	for _, s := range f.Resolver {
		if s.FreeBytes == nil {
			continue
		}

		if level, left := space(*s.FreeBytes, s.NoFiles); level == Problem {
			all = append(all, Finding{
				Problem, CauseDisk, "The resolver's disk is full: " + left,
				"make room where the resolver's DATA_DIRECTORY is, and delete nothing in it; nothing is lost, and work goes on by itself then",
			})
		}
	}

	return all
}

// space judges how much room is left on a disk, and describes it.
func space(free uint64, noFiles bool) (Level, string) {
	switch {
	case noFiles:
		return Problem, NoFilesLeft
	case free < spaceProblem:
		return Problem, mebibytes(free) + " are left"
	case free < spaceWarning:
		return Warning, mebibytes(free) + " are left"
	default:
		return OK, ""
	}
}

const makeRoom = "make room where PROCESSED_DIRECTORY and DATA_DIRECTORY are: delete old processed files and logs; never anything in DATA_DIRECTORY or CSV_DIRECTORY"

// NoFilesLeft describes a disk that has room but takes no more files.
const NoFilesLeft = "next to no more files can be made (df -i)"

// InsideFull returns the report for a broker inside bobosync run that is down because the disk of its store is full;
// left describes what is left.
func InsideFull(left string) *Unreachable {
	return &Unreachable{
		Cause: CauseDisk, Text: "the disk is full: " + left + " where DATA_DIRECTORY is, so that the broker inside bobosync run cannot work and nothing is sent",
		Do: makeRoom + ". Work goes on by itself within half a minute of there being room; nothing is lost, the files wait in CSV_DIRECTORY",
	}
}

func mebibytes(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }

func athocFindings(f Facts) []Finding {
	if f.Breaker == nil {
		return nil
	}

	b := *f.Breaker
	switch b.Class {
	case breaker.Refused:
		what, do := refusal(b.Cause)
		return []Finding{{Problem, CauseAtHocRefuses, fmt.Sprintf("%s, since %s. AtHoc's answer: %s", what, text.When(b.Since), b.Cause), do}}
	case breaker.Outage:
		lasted := f.At.Sub(b.Since)
		found := Finding{
			Problem, CauseAtHocDown, fmt.Sprintf("AtHoc is down since %s (%s): %s", text.When(b.Since), text.Ago(lasted), b.Cause),
			"nothing is lost, and sending goes on by itself when AtHoc is back. Look at the network from here to ATHOC_SERVER_URL; if that is well, call the people who run AtHoc",
		}
		missed := f.At.Sub(b.ProbeAt) > probeMissed && f.At.Sub(b.ProbeUntil) > probeMissed
		switch {
		case missed:
			found.Level, found.Text = Warning, fmt.Sprintf("AtHoc was down when it was last called, after %s; nobody has had to call it since: %s", text.When(b.Since), b.Cause)
		case lasted < outageWarning:
			found.Level = Warning
		}

		if !missed && webPage(b.Cause) {
			found.Cause, found.Text = CauseWebPage, fmt.Sprintf("A web page answers in AtHoc's place since %s: %s", text.When(b.Since), b.Cause)
			found.Do = "check ATHOC_SERVER_URL, and whether a proxy or a firewall shows a page of its own (a login, a block, maintenance); nothing is lost, and sending goes on by itself when AtHoc answers"
		}

		return []Finding{found}
	case breaker.Throttled:
		return []Finding{{
			Warning, CauseThrottled, fmt.Sprintf("AtHoc asks for fewer calls since %s: %s", text.When(b.Since), b.Cause),
			"nothing need be done: sending is slower until AtHoc takes more. If it stays so, lower ATHOC_RATE_LIMIT or see what else calls AtHoc with this account",
		}}
	default:
		return nil
	}
}

// webPage reports whether a web page answered instead of an API, judging by what AtHoc's client says about the call.
func webPage(cause string) bool {
	cause = strings.ToLower(cause)
	return slices.ContainsFunc([]string{"a web page came", "<html", "<!doctype", "text/html", "is not the json", "not a json array"}, func(sign string) bool {
		return strings.Contains(cause, sign)
	})
}

// unverifiedFindings warns of a connection to AtHoc that anybody on the path can read and answer.
func unverifiedFindings(f Facts) []Finding {
	var all []Finding
	if slices.ContainsFunc(f.Publisher, func(s control.PublisherState) bool { return s.Unverified }) ||
		slices.ContainsFunc(f.Janitor, func(s control.JanitorState) bool { return s.Unverified }) {
		all = append(all, Finding{
			Warning, CauseUnverified, "AtHoc's certificate is not verified (DISABLE_SSL_VERIFY): anyone in between can read the password and answer in AtHoc's place",
			"unset DISABLE_SSL_VERIFY and restart publisher and janitor; name the certificate of an authority of your own in SSL_CERT_PATH",
		})
	}

	inTheClear := func(settings []string) bool { return slices.Contains(settings, config.InTheClear) }
	if slices.ContainsFunc(f.Publisher, func(s control.PublisherState) bool { return inTheClear(s.Insecure) }) ||
		slices.ContainsFunc(f.Janitor, func(s control.JanitorState) bool { return inTheClear(s.Insecure) }) {
		all = append(all, Finding{
			Warning, CauseInTheClear, "AtHoc is called without TLS (" + config.InTheClear + "): anyone in between can read the password and answer in AtHoc's place",
			"give ATHOC_SERVER_URL an address that begins with https://, unset " + config.InTheClear + " and restart publisher and janitor",
		})
	}

	return all
}

// refusal says in plain words why AtHoc refuses, judging by what its client says about the call.
func refusal(cause string) (what, do string) {
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

func mappingFindings(f Facts) (all []Finding) {
	for _, s := range f.Resolver {
		if s.Snapshot == "" {
			all = append(all, Finding{
				Problem, CauseNoMapping, "There is no mapping of employee ids to AtHoc users yet: nothing can be sent",
				"the janitor fetches it: see bobosync mapping show, and then bobosync mapping refresh",
			})
		}
	}

	for _, s := range f.Janitor {
		if h := s.Held; h != nil {
			all = append(all, Finding{
				Warning, CauseMappingHeld,
				fmt.Sprintf("A new mapping is held back since %s: %s; it has %d employee ids, the one in force has %d", text.When(h.Since), h.Reason, h.After, h.Before),
				fmt.Sprintf("look with bobosync mapping show; if AtHoc's users are right, bobosync mapping approve %s", h.ID),
			})
		}
	}

	d, ok := job(f, control.JobMapping)
	if ok && !d.Off && !d.LastSuccess.IsZero() && f.At.Sub(d.LastSuccess) >= mappingOld {
		what := fmt.Sprintf("The mapping of employee ids to AtHoc users was last refreshed %s ago: users who are new since then have no status", text.Ago(f.At.Sub(d.LastSuccess)))
		if d.Error != "" {
			what += ". The last try said: " + d.Error
		}

		all = append(all, Finding{Warning, CauseMappingOld, what, "bobosync mapping refresh tries now and says what is wrong"})
	}

	return all
}

// job returns a job of the leading janitor.
func job(f Facts, name string) (control.Job, bool) {
	for _, s := range f.Janitor {
		for _, d := range s.Jobs {
			if d.Name == name {
				return d, true
			}
		}
	}

	return control.Job{}, false
}

// jobWords are the words for the janitor's jobs that operators see.
var jobWords = map[string]string{
	control.JobMapping: "refresh of the mapping", control.JobCleanup: "clearing of stale duty",
	control.JobReconcile: "comparison with AtHoc", control.JobPurge: "deletion of old files",
}

func jobFindings(f Facts) (all []Finding) {
	for _, s := range f.Janitor {
		if r := s.ReconcileHeld; r != nil {
			all = append(all, Finding{
				Warning, CauseJob, fmt.Sprintf("The comparison with AtHoc of %s was held back, and nothing was sent: %s", text.When(r.Ended), r.Held),
				"look with bobosync reconcile --last; if AtHoc is wrong and the list right, bobosync reconcile --apply --force. The next comparison that is not held back takes this away",
			})
		}

		for _, d := range s.Jobs {
			if d.Failures == 0 || d.Off || d.Name == control.JobMapping && s.Held != nil { // a held mapping is reported already
				continue
			}

			all = append(all, Finding{
				Warning, CauseJob, fmt.Sprintf("The %s has failed %s in a row: %s", cmp.Or(jobWords[d.Name], d.Name), text.Times(d.Failures), d.Error),
				fmt.Sprintf("it is tried again by itself at %s; bobosync journal --kind %s shows each try", text.When(d.Next), d.Name),
			})
		}
	}

	return all
}

// sinkWords are the words for the sinks of notices that operators see.
var sinkWords = map[string]string{"mail": "The mail server", "webhook": "The webhook", "teams": "The workflow of Teams"}

// notifyFindings reports the sinks that accept no notices.
func notifyFindings(f Facts) (all []Finding) {
	for _, s := range f.Janitor {
		for _, n := range s.Notify {
			if !n.Failing.IsZero() {
				all = append(all, Finding{
					Warning, CauseNotifyFails, fmt.Sprintf("%s takes no notices since %s: %s; %s for it", cmp.Or(sinkWords[n.Sink], n.Sink), text.When(n.Failing), n.Error,
						areNotices(n.Waiting)),
					"look at the settings that begin with NOTIFY_; bobosync notify test tries all at once. Notices are kept for a day and tried again by themselves",
				})
			}
		}
	}

	return all
}

func areNotices(n int) string {
	if n == 1 {
		return "1 notice waits"
	}
	return fmt.Sprintf("%d notices wait", n)
}

func recoveryFindings(f Facts) (all []Finding) {
	for _, s := range f.Resolver {
		if s.Recovered {
			continue
		}

		found := Finding{
			Warning, CauseRecovering, "The resolver has no state yet and reads all recent files again; nothing is sent until it has",
			"wait some minutes; ingest has to be alive for it",
		}

		since := s.Started
		if !s.Recovering.IsZero() {
			since = s.Recovering
		}

		if f.At.Sub(since) > recoverWarning {
			found.Level = Problem
			found.Do = "this should be over by now: look at the logs of ingest and resolver, and then restart both"
		}

		all = append(all, found)
	}

	return all
}

func lateFindings(f Facts) []Finding {
	lag, late, _ := lateness(f)
	if !late {
		return nil
	}

	if mark := completeUpTo(f); !mark.IsZero() && !anyWaits(f) {
		return []Finding{{
			Problem, CauseLate, fmt.Sprintf("Nobody can tell what has come since %s: CSV_DIRECTORY could not be listed", text.When(mark)),
			"fix the directory: does its share answer, may bobosync's user read it? Work goes on by itself then",
		}}
	}

	found := Finding{
		Warning, CauseLate, fmt.Sprintf("AtHoc does not have all of a file that came %s ago%s", text.Ago(lag), firstWaiting(f)),
		"bobosync files list --open shows which files wait, bobosync files show NAME why",
	}
	if lag >= lateProblem {
		found.Level = Problem
	}

	return []Finding{found}
}

func anyWaits(f Facts) bool {
	return slices.ContainsFunc(f.Ingest, func(s control.IngestState) bool { return s.Freshness != nil && s.Freshness.Waiting > 0 })
}

// firstWaiting names the waiting file that arrived first.
func firstWaiting(f Facts) string {
	for _, s := range f.Ingest {
		if fresh := s.Freshness; fresh != nil && isLate(f, *fresh) && fresh.First != "" {
			return fmt.Sprintf(", %s, and is complete up to %s", text.Clean(fresh.First), text.When(fresh.CompleteUpTo))
		}
	}

	return ""
}

func fileFindings(f Facts, l Limits) (all []Finding) {
	for _, s := range f.Ingest {
		for _, name := range slices.Sorted(maps.Keys(s.Unsettled)) {
			if lasted := f.At.Sub(s.Unsettled[name]); lasted >= lateAfter(s) {
				all = append(all, Finding{
					Warning, CauseGrowing, fmt.Sprintf("File %s keeps changing since %s and is not read until it stops", name, text.Ago(lasted)),
					"see what writes to it: a copy that hangs, or a program that appends; each export has to be a file of its own",
				})
			}
		}

		all = append(all, unreadable(s)...)
		all = append(all, blockedFindings(s)...)
		if waited := f.At.Sub(s.UnreadSince); s.Unread > 0 && !s.UnreadSince.IsZero() && waited >= lateAfter(s) {
			all = append(all, Finding{
				Warning, CauseNotRead, fmt.Sprintf("%s in CSV_DIRECTORY not read yet, the first of them found %s ago", areFiles(s.Unread), text.Ago(waited)),
				"look at the log of ingest: a file that is huge, or whose disk does not answer, is named there",
			})
		}

		if s.Today.Failed > 0 {
			all = append(all, Finding{
				Warning, CauseFailedFiles, fmt.Sprintf("%s put among the failed files today", wereFiles(s.Today.Failed)),
				"bobosync files list --failed shows them, bobosync files show NAME why",
			})
		} else if n := noText(f.At, s); n > 0 { // they remain a finding after midnight
			all = append(all, Finding{
				Warning, CauseFailedFiles, fmt.Sprintf("%s put among the failed files yesterday", wereFiles(n)),
				"bobosync files list --failed shows them, bobosync files show NAME why",
			})
		}

		all = append(all, feedFindings(f.At, s, l.SilentAfter)...)
	}

	return all
}

// noText counts the files that were finished within a day and are not text.
func noText(now time.Time, s control.IngestState) (n int) {
	for _, d := range s.Doubtful {
		if d.Rows == 0 && now.Sub(d.Finished) <= contentAge {
			n++
		}
	}

	return n
}

// lateAfter returns how long a file may wait or keep changing: ingest's LATE_AFTER.
func lateAfter(s control.IngestState) time.Duration {
	if s.Freshness == nil {
		return lateWarning
	}
	return time.Duration(s.Freshness.LateAfterMS) * time.Millisecond
}

// unreadableNamed is how many unreadable names get their own finding.
const unreadableNamed = 5

func unreadable(s control.IngestState) (all []Finding) {
	const remedy = "give bobosync's user the right to read it, or take it away; a larger MAX_FILE_SIZE lets a larger file in"
	names := slices.Sorted(maps.Keys(s.Problems))
	for _, name := range names[:min(len(names), unreadableNamed)] {
		p := s.Problems[name]
		all = append(all, Finding{
			Warning, CauseUnreadable, fmt.Sprintf("%s in CSV_DIRECTORY cannot be read since %s: %s", name, text.When(p.Since), p.Reason), remedy,
		})
	}

	if others := max(s.ProblemNames, len(names)) - len(all); others > 0 {
		all = append(all, Finding{
			Warning, CauseUnreadable, fmt.Sprintf("%s in CSV_DIRECTORY cannot be read either", text.Count(others, "other name")),
			"bobosync files list names the first hundred; " + remedy,
		})
	}

	return all
}

// blockedFindings reports the files that are finished but cannot be moved.
func blockedFindings(s control.IngestState) []Finding {
	n := max(s.BlockedFiles, len(s.Blocked))
	if n == 0 {
		return nil
	}

	words := text.Count(n, "finished file") + " cannot be moved out of CSV_DIRECTORY"
	names := slices.SortedFunc(maps.Keys(s.Blocked), func(a, b string) int { return s.Blocked[a].Since.Compare(s.Blocked[b].Since) })
	if len(names) > 0 {
		oldest := s.Blocked[names[0]]
		words += fmt.Sprintf(", %s since %s: %s", text.Clean(names[0]), text.When(oldest.Since), oldest.Reason)
	}

	return []Finding{{
		Warning, CauseBlocked, words,
		"give bobosync's user the right to move files out of CSV_DIRECTORY (a sticky directory keeps those of other owners), and room where they go; AtHoc has all of them",
	}}
}

func areFiles(n int) string {
	if n == 1 {
		return "1 file is"
	}
	return fmt.Sprintf("%d files are", n)
}

func wereFiles(n int) string {
	if n == 1 {
		return "1 file was"
	}
	return fmt.Sprintf("%d files were", n)
}

// silence reports that no new file arrives, by a fixed limit.
func silence(now time.Time, s control.IngestState, after time.Duration) []Finding {
	const do = "ask the people who run BOBO whether its export works and reaches CSV_DIRECTORY (share mounted, disk not full there)"
	switch {
	case after <= 0:
		return nil
	case !s.LastFile.IsZero() && now.Sub(s.LastFile) >= after:
		return []Finding{{Warning, CauseSilent, fmt.Sprintf("No new file has come for %s, since %s", text.Ago(now.Sub(s.LastFile)), text.When(s.LastFile)), do}}
	case s.LastFile.IsZero() && now.Sub(s.Started) >= after:
		return []Finding{{Warning, CauseSilent, "No file has ever come", do}}
	default:
		return nil
	}
}

func deadFindings(f Facts) []Finding {
	if f.DeadLetters == 0 {
		return nil
	}

	return []Finding{{
		Warning, CauseDead, text.Count(f.DeadLetters, "dead letter") + ": what AtHoc or a service will never take as it is",
		"bobosync dead list says why; when that is fixed, bobosync dead requeue --all",
	}}
}

func versionFindings(f Facts) []Finding {
	by := map[string][]string{}
	for _, i := range f.Instances() {
		by[i.Version] = append(by[i.Version], string(i.Service))
	}

	if len(by) < 2 {
		return nil
	}

	var parts []string
	for _, version := range slices.Sorted(maps.Keys(by)) {
		slices.Sort(by[version])
		parts = append(parts, fmt.Sprintf("%s (%s)", version, strings.Join(slices.Compact(by[version]), ", ")))
	}

	return []Finding{{
		Warning, CauseVersions, "Different versions run side by side: " + strings.Join(parts, ", "),
		"finish the update: restart what still runs the older version",
	}}
}
