package verdict

// Findings about unusual mass changes.

import (
	"fmt"
	"time"

	"bobosync/shared/control"
	"bobosync/shared/text"
)

// unusualFor is how long an unusual change that was not held is reported.
const unusualFor = time.Hour

// heldFindings reports mass changes that wait for a person, and those that were let through.
func heldFindings(f Facts) (all []Finding) {
	for _, s := range f.Resolver {
		if s.Guard == nil {
			continue
		}

		for _, g := range s.Guard.Held {
			if g.Kind == "silent" {
				all = append(all, silentHeld(f.At, g))
				continue
			}

			all = append(all, Finding{
				Warning, CauseHeld, fmt.Sprintf("A mass change waits for a decision since %s (%s): %s would %s, where at most %d are allowed; AtHoc goes on showing what it shows of them",
					text.When(g.Since), text.Ago(f.At.Sub(g.Since)), text.Count(g.Users, "user"), would(g.Kind), g.Allowed),
				fmt.Sprintf("look with bobosync held show %s; then bobosync held approve %s or bobosync held reject %s, with --reason", g.ID, g.ID, g.ID),
			})
		}

		for _, t := range s.Guard.Unusual {
			if f.At.Sub(t.At) < unusualFor {
				all = append(all, unusualFinding(s.Guard, t))
			}
		}
	}

	return all
}

// silentHeld reports stale duty that is not cleared because the feed that booked it is silent.
func silentHeld(now time.Time, g control.HeldGroup) Finding {
	return Finding{
		Warning, CauseHeld, fmt.Sprintf("Since %s (%s) duty is not cleared for its age, since the feed that booked it is silent: of %s nobody can tell whether they have booked off",
			text.When(g.Since), text.Ago(now.Sub(g.Since)), text.Count(g.Users, "user")),
		fmt.Sprintf("find out why the feed is silent: bobosync feeds list; what it brings then supersedes them. Otherwise bobosync held show %s, and approve or reject it, with --reason", g.ID),
	}
}

func unusualFinding(s *control.GuardState, t control.UnusualChange) Finding {
	why := "the guard only observes"
	if s.Holding {
		why = "who goes on duty is not held (GUARD_ON)"
	}

	return Finding{
		Warning, CauseUnusual, fmt.Sprintf("An unusual mass change was sent at %s, since %s: %s %s, where at most %d are allowed", text.When(t.At), why,
			text.Count(t.Users, "user"), map[string]string{"off": "went off duty", "stale": "were cleared for their age", "on": "went on duty"}[t.Kind], t.Allowed),
		"check whether the files that came then are right: bobosync files list; if they are, nothing need be done",
	}
}

func would(kind string) string {
	return map[string]string{"off": "go off duty", "stale": "be cleared for their age", "on": "go on duty"}[kind]
}
