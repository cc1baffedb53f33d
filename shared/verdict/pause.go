package verdict

// Findings about an operator's pause.

import (
	"fmt"

	"bobosync/shared/text"
)

// pauseFindings reports a pause that is in force, and one that the broker has lost.
func pauseFindings(f Facts) (all []Finding) {
	if p := f.Pause; p.InForce(f.At) {
		what := "nothing is sent to AtHoc"
		if p.All {
			what += ", and nothing is read there"
		}

		found := Finding{
			Warning, CausePaused, fmt.Sprintf("PAUSED by %s since %s, until %s (%s): %s; %s", text.Clean(p.By), text.When(p.At), text.When(p.Until),
				text.Clean(p.Reason), what, areWaiting(f)),
			"nothing is lost, and it ends by itself; bobosync resume ends it now",
		}
		if Waiting(f) > 0 && f.At.Sub(p.At) >= pausedProblem {
			found.Level = Problem
		}

		return []Finding{found}
	}

	for _, s := range f.Publisher {
		if p := s.PauseLost; p.InForce(f.At) {
			return []Finding{{
				Warning, CausePauseLost, fmt.Sprintf("The broker has lost the pause that %s ordered until %s (%s): AtHoc is called again", text.Clean(p.By),
					text.When(p.Until), text.Clean(p.Reason)),
				"bobosync pause orders it again, if it is still wanted; find out why the broker lost its state",
			}}
		}
	}

	return nil
}

// Waiting counts the workers whose latest status AtHoc has not confirmed.
func Waiting(f Facts) (n int) {
	for _, s := range f.Resolver {
		n += s.Unresolved + s.Unconfirmed
	}
	return n
}

func areWaiting(f Facts) string {
	switch n := Waiting(f); {
	case len(f.Resolver) == 0:
		return "nobody can tell how many workers wait"
	case n == 1:
		return "1 worker waits"
	default:
		return fmt.Sprintf("%d workers wait", n)
	}
}
