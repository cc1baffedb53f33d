package verdict

// Words for what is neither right nor wrong: what services do, and how AtHoc is doing.

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"bobosync/shared/breaker"
	"bobosync/shared/control"
	"bobosync/shared/text"
)

// AtHocWords says how AtHoc is doing.
func AtHocWords(f Facts) string {
	var last time.Time
	for _, s := range f.Publisher {
		if s.LastSuccess.After(last) {
			last = s.LastSuccess
		}
	}

	success := "no update taken yet by what runs now"
	if !last.IsZero() {
		success = fmt.Sprintf("last update taken %s ago", text.Ago(f.At.Sub(last)))
	}

	if f.Pause.InForce(f.At) {
		return fmt.Sprintf("PAUSED until %s by %s; %s", text.When(f.Pause.Until), f.Pause.By, success)
	}

	if f.Breaker == nil {
		return "not called yet"
	}

	switch b := *f.Breaker; {
	case b.Class == breaker.Refused:
		return fmt.Sprintf("refuses since %s, next try %s; %s", text.When(b.Since), text.When(b.ProbeAt), success)
	case b.Class == breaker.Outage:
		return fmt.Sprintf("down since %s, next try %s; %s", text.When(b.Since), text.When(b.ProbeAt), success)
	case b.Slow > 0 && b.Slow < 1:
		return fmt.Sprintf("takes %d %% of the usual rate; %s", int(b.Slow*100), success)
	default:
		return "answers; " + success
	}
}

// ApartWords says which rows do not hold back the watermark although AtHoc does not have them; empty if none.
func ApartWords(s control.IngestState) string {
	var words []string
	if f := s.Freshness; f != nil && f.HeldRows > 0 {
		words = append(words, fmt.Sprintf("%s wait for a decision (bobosync held)", text.Count(f.HeldRows, "row")))
	}

	if f := s.Freshness; f != nil && f.Unmapped > 0 {
		words = append(words, fmt.Sprintf("%s of the last hour have no AtHoc user", text.Count(f.Unmapped, "row")))
	}

	return strings.Join(words, "; ")
}

func ingestDoes(s control.IngestState) string {
	if len(s.Directories) > 0 {
		return "cannot use a directory"
	}

	if s.Waiting > 0 {
		return text.Count(s.Waiting, "file") + " in work"
	}

	return "idle"
}

func resolverDoes(s control.ResolverState) string {
	switch {
	case !s.Recovered:
		return "reads everything again"
	case s.Unresolved > 0:
		return text.Count(s.Unresolved, "worker") + " in work"
	default:
		return "idle"
	}
}

func publisherDoes(now time.Time, s control.PublisherState) string {
	does := "idle"
	if len(s.Partitions) > 0 {
		partitions := slices.Sorted(slices.Values(s.Partitions))
		does = "partitions " + strings.Trim(fmt.Sprint(partitions), "[]")
	}

	if !s.Calling.IsZero() {
		does += ", calling for " + text.Ago(now.Sub(s.Calling))
	}

	does += fmt.Sprintf("; %s so far", text.Count(s.Calls, "call"))
	if !s.LastFailure.IsZero() && s.LastFailure.After(s.LastSuccess) {
		does += fmt.Sprintf(", failed %s ago", text.Ago(now.Sub(s.LastFailure)))
	}

	return does
}

func janitorDoes(s control.JanitorState) string {
	if !s.Leads {
		return "follower"
	}

	for _, d := range s.Jobs {
		if !d.Running.IsZero() {
			return "leader: " + d.Name
		}
	}

	return "leader"
}

// Activities returns what the processes do now, in the order of [Facts.Instances].
func Activities(f Facts) (all []string) {
	for _, s := range f.Ingest {
		all = append(all, ingestDoes(s))
	}

	for _, s := range f.Resolver {
		all = append(all, resolverDoes(s))
	}

	for _, s := range f.Publisher {
		all = append(all, publisherDoes(f.At, s))
	}

	for _, s := range f.Janitor {
		all = append(all, janitorDoes(s))
	}

	return all
}

// JobState says how a periodic job is doing.
func JobState(now time.Time, d control.Job) string {
	switch {
	case d.Off:
		return "off"
	case !d.Running.IsZero():
		return "running for " + text.Ago(now.Sub(d.Running))
	case d.Failures > 0:
		return "failed " + text.Times(d.Failures)
	case d.LastSuccess.IsZero():
		return "not yet"
	default:
		return "ok"
	}
}
