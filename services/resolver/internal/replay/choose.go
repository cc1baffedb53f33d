package replay

// Choosing the workers of a replay.

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// choice says which workers a replay takes.
type choice struct {
	what  string
	takes func(employee, user string, w latest.Worker) bool
	// entries counts the entries that were read for the choice.
	entries int
}

// choose turns a request into a choice.
func choose(ctx context.Context, js jetstream.JetStream, req control.ReplayRequest) (choice, error) {
	ways := 0
	for _, set := range []bool{
		req.All, !req.Since.IsZero(), len(req.Workers) > 0, len(req.Users) > 0, req.File != "", !req.EntriesSince.IsZero(),
	} {
		if set {
			ways++
		}
	}

	if ways != 1 {
		return choice{}, control.Refuse("choose the workers in exactly one way; %d were given", ways)
	}

	switch {
	case req.All:
		return choice{what: "everyone", takes: func(string, string, latest.Worker) bool { return true }}, nil
	case !req.Since.IsZero():
		since := req.Since.Unix()
		return choice{what: "changed since " + req.Since.Format(time.RFC3339), takes: func(_, _ string, w latest.Worker) bool {
			return w.Latest.At >= since || w.Confirmed != nil && w.Confirmed.Answered >= since
		}}, nil
	case len(req.Workers) > 0:
		return choice{what: fmt.Sprintf("%d workers", len(req.Workers)), takes: func(employee, _ string, _ latest.Worker) bool {
			return slices.Contains(req.Workers, employee)
		}}, nil
	case len(req.Users) > 0:
		users := map[string]bool{}
		for _, u := range req.Users {
			users[topology.NormalUsername(u)] = true
		}

		return choice{what: fmt.Sprintf("%d users", len(users)), takes: func(_, user string, _ latest.Worker) bool {
			return users[topology.NormalUsername(user)]
		}}, nil
	case req.File != "":
		return chooseByEntries(ctx, js, "file "+req.File[:min(len(req.File), 12)], bus.ReadFrom{
			Subject: topology.EntriesSubject(req.File),
		}, func(w latest.Worker) bool { return w.Latest.File == req.File })
	default:
		return chooseByEntries(ctx, js, "entries since "+req.EntriesSince.Format(time.RFC3339), bus.ReadFrom{
			Since: req.EntriesSince,
		}, func(latest.Worker) bool { return false })
	}
}

// chooseByEntries takes the workers of those entries that the broker still keeps, and the workers for whom also returns
// true.
func chooseByEntries(ctx context.Context, js jetstream.JetStream, what string, from bus.ReadFrom,
	also func(latest.Worker) bool,
) (choice, error) {
	employees := map[string]bool{}
	entries := 0

	err := bus.Read(ctx, js, topology.StreamEntries, from, func(data []byte, subject string) {
		var m event.Entries
		if subject == topology.SubjectRecovered || event.Decode(data, &m) != nil {
			return
		}

		entries += len(m.Entries)
		for _, e := range m.Entries {
			employees[e.Employee] = true
		}
	})
	if err != nil {
		return choice{}, err
	}

	return choice{what: what, entries: entries, takes: func(employee, _ string, w latest.Worker) bool {
		return employees[employee] || also(w)
	}}, nil
}
