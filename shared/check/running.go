// Checks over the broker: a running service checks what it needs, on its own machine and with its own key.

package check

import (
	"context"
	"fmt"

	"bobosync/shared/control"
	"bobosync/shared/program"
	"bobosync/shared/topology"
)

// Endpoint returns the endpoint by which an operator has a service check what it needs.
func Endpoint(s Settings, deps program.Deps) control.Endpoint {
	s.Running, s.InsideAddress = true, deps.InsideAddress
	me := s.Service
	if s.Broker.URL == "" { // all services share the broker inside, which does not distinguish them
		s.Service = topology.Everyone
	}

	return control.On(control.Check, func(ctx context.Context, _ control.RunRequest) ([]Result, error) {
		results := Run(ctx, Options{Settings: s, Version: deps.Version})
		for i := range results {
			results[i].Service = me
		}

		return results, nil
	})
}

// NoAnswer is the result for a service that was asked to check and gave no answer.
func NoAnswer(service topology.Service, err error) Result {
	return Result{
		Service: service, Check: "answer", Level: Problem, Message: err.Error(),
		Advice: fmt.Sprintf("see whether the %s runs, and in this version; on its machine, bobosync check --service %s says more", service, service),
	}
}

// Count returns how many results have the level.
func Count(results []Result, level Level) (n int) {
	for _, r := range results {
		if r.Level == level {
			n++
		}
	}

	return n
}
