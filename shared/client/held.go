package client

// Mass changes that are held, and words for them.

import (
	"context"
	"fmt"
	"strings"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// HeldSet asks for a hold with all workers in it.
func HeldSet(ctx context.Context, conn *bus.Conn, id string) (control.HeldSet, error) {
	var set control.HeldSet
	for after := 0; ; {
		part, err := Ask[control.HeldSet](ctx, conn, topology.Resolver, control.HeldShow, control.HeldRequest{ID: id, After: after})
		switch {
		case err != nil:
			return set, err
		case after == 0:
			set = part
		case part.Token != set.Token: // it has changed in the meantime
			after, set = 0, control.HeldSet{}
			continue
		default:
			set.Workers = append(set.Workers, part.Workers...)
		}

		if after = part.Next; after == 0 {
			set.Next = 0
			return set, nil
		}
	}
}

// GuardWords says in a sentence what the guard does.
func GuardWords(s control.GuardState) string {
	switch {
	case s.Mode == "off":
		return "The guard is off (GUARD)."
	case s.Holding:
		return "The guard holds what is not usual."
	case s.Mode == "observe":
		return "The guard only observes (GUARD)."
	case s.HoldsFrom.IsZero():
		return "The guard observes until it has 14 days of history."
	default:
		return "The guard observes; it holds from " + text.When(s.HoldsFrom) + " on."
	}
}

// TrialWords says what the guard would do with a file.
func TrialWords(g *control.TryGuard) string {
	if g == nil {
		return "not known: the resolver is of an earlier version"
	}

	var words []string
	for _, u := range g.Unusual {
		does := "would be sent all the same"
		if u.Hold {
			does = "would wait for a decision (bobosync held)"
		}

		unusual := fmt.Sprintf("%s %s, which %s", text.Count(g.Changes[u.Kind], "user"), HeldKind(u.Kind), does)
		if u.Kind != "silent" { // these are held whatever their number
			unusual += fmt.Sprintf(": with those of just now they are %d, where at most %d are allowed", u.Users, u.Allowed)
		}

		words = append(words, unusual)
	}

	if len(words) == 0 {
		words = append(words, "nothing unusual")
	}

	return strings.Join(words, "; ") + ". " + GuardWords(control.GuardState{Mode: g.Mode, Holding: g.Holding, HoldsFrom: g.HoldsFrom})
}

// HeldKind says what the users in a mass change do.
func HeldKind(kind string) string {
	switch kind {
	case "off":
		return "go off duty"
	case "stale":
		return "are cleared for their age"
	case "silent":
		return "are cleared for their age, of a silent feed"
	default:
		return "go on duty"
	}
}

// WouldWords says what the users in a mass change would do.
func WouldWords(kind string) string {
	switch kind {
	case "off":
		return "go off duty"
	case "stale":
		return "be cleared for their age"
	case "silent":
		return "be cleared for their age, though their feed is silent"
	default:
		return "go on duty"
	}
}

// UsualWords says how many are usually on duty; empty if that is not known.
func UsualWords(s control.HeldSet) string {
	if s.UsualMost == 0 {
		return ""
	}
	return fmt.Sprintf("; usually %d to %d at this hour of the week", s.UsualLeast, s.UsualMost)
}
