package client

import (
	"context"
	"sync"

	"bobosync/shared/audit"
	"bobosync/shared/bus"
	"bobosync/shared/check"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// Checked lists the services that check what they need.
var Checked = []topology.Service{topology.Ingest, topology.Resolver, topology.Publisher, topology.Janitor}

// Check has every running service check what it needs, all at once, and returns their results. A service that does not
// answer is a problem. Check fails only if none answers.
func Check(ctx context.Context, conn *bus.Conn, o Order) ([]check.Result, error) {
	answers, errs := make([][]check.Result, len(Checked)), make([]error, len(Checked))
	var asked sync.WaitGroup
	for i, service := range Checked {
		mine := o
		if o.Once != "" {
			mine.Once = audit.Member(o.Once, i)
		}

		asked.Go(func() {
			answers[i], errs[i] = Give[[]check.Result](ctx, conn, mine, service, control.Check, control.RunRequest{})
		})
	}

	asked.Wait()

	var all []check.Result
	silent := 0
	for i, err := range errs {
		all = append(all, answers[i]...)
		if err != nil {
			silent++

			all = append(all, check.NoAnswer(Checked[i], err))
		}
	}

	if silent == len(Checked) {
		return nil, errs[0]
	}

	outcome := control.OutcomeOK
	if check.Count(all, check.Problem) > 0 {
		outcome = control.OutcomeFailed
	}

	o.note(ctx, conn, outcome, "check by the running services: "+check.Summary(all), nil)

	return all, nil
}
