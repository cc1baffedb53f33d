package telemetry

import (
	"context"

	"bobosync/shared/breaker"
)

// WatchState has the metrics read off a state that does not change.
func (m *Breaker) WatchState(s breaker.State, rate float64) {
	m.Watch(func(context.Context) (breakerReading, error) { return breakerReading{s, rate, false}, nil })
}
