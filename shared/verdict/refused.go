package verdict

// Users that AtHoc does not accept, and messages that the broker does not store.

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/text"
)

const (
	// putOffOften is how many calls with a user alone must have failed for the user to be reported.
	putOffOften = 2
	// unstoredAfter is how long a broker may store nothing before that is a problem: it may be restarting.
	unstoredAfter = 15 * time.Second
)

// refusedFindings reports single users whom AtHoc refuses repeatedly, in its answers about them or because whole calls
// with them fail. It does not name them, because findings go into mails too.
func refusedFindings(f Facts) []Finding {
	var all []control.RefusedUser
	for _, s := range f.Publisher {
		for _, u := range s.Refused {
			same := func(o control.RefusedUser) bool { return o.File == u.File && o.Row == u.Row }
			if at := slices.IndexFunc(all, same); at >= 0 {
				all[at].Times += u.Times
				continue
			}

			all = append(all, u)
		}
	}

	byAnswers := len(all)
	if f.Breaker != nil {
		for _, u := range f.Breaker.PutOff {
			if u.Failures >= putOffOften {
				all = append(all, control.RefusedUser{Times: u.Failures, Since: u.Since, Words: u.Cause})
			}
		}
	}

	if len(all) == 0 {
		return nil
	}

	first := slices.MinFunc(all, func(a, b control.RefusedUser) int { return a.Since.Compare(b.Since) })
	if byAnswers == 0 && !tookOthers(f, first.Since) {
		return []Finding{{
			Warning, CauseAtHocDown, fmt.Sprintf("AtHoc takes no update since %s (%s), of %s who alone had to be sent, though it answers searches: %s",
				text.When(first.Since), text.Times(first.Times), text.Count(len(all), "user"), text.Clean(first.Words)),
			"nothing is lost, and it is tried again by itself. If AtHoc takes the next booking of somebody else, have an AtHoc administrator look at the user (bobosync files list --open); if not, call the people who run AtHoc",
		}}
	}

	return []Finding{{
		Warning, CauseUserRefused, fmt.Sprintf("AtHoc refuses %s again and again, since %s (%s). AtHoc's answer: %s",
			text.Count(len(all), "user"), text.When(first.Since), text.Times(first.Times), text.Clean(cmp.Or(first.Words, "none"))),
		"bobosync files list --open shows the files that wait for it, bobosync files show NAME the rows; have an AtHoc administrator look at the user. It is tried again by itself, and everybody else goes on",
	}}
}

// tookOthers reports whether AtHoc has accepted updates since calls with a user alone began to fail, or within the
// minute before.
func tookOthers(f Facts, since time.Time) bool {
	return slices.ContainsFunc(f.Publisher, func(s control.PublisherState) bool { return since.Sub(s.LastSuccess) <= time.Minute })
}

// unstoredFindings reports a broker that can be read but stores nothing.
func unstoredFindings(f Facts) []Finding {
	stuck := map[string]bus.Unstored{}
	for _, i := range f.Instances() {
		for subject, u := range i.Unstored {
			if was, known := stuck[subject]; !known || u.Since.Before(was.Since) {
				stuck[subject] = u
			}
		}
	}

	if len(stuck) == 0 {
		return nil
	}

	subjects := slices.Sorted(maps.Keys(stuck))

	first := stuck[slices.MinFunc(subjects, func(a, b string) int { return stuck[a].Since.Compare(stuck[b].Since) })]
	level := Problem
	if f.At.Sub(first.Since) < unstoredAfter {
		level = Warning
	}

	return []Finding{{
		level, CauseUnstored, fmt.Sprintf("The broker stores nothing of %s since %s: %s", strings.Join(subjects, ", "), text.When(first.Since), text.Clean(first.Reason)),
		"make room on the disk of the broker, then restart the broker: a stream that a full disk has frozen takes nothing before that. The one inside bobosync run restarts by itself. Nothing is lost",
	}}
}
