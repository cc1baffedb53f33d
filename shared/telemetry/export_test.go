package telemetry

import (
	"context"

	"bobosync/shared/breaker"
)

// WatchState makes m report a state that does not change.
func (m *Breaker) WatchState(s breaker.State, rate float64) {
	m.Watch(func(context.Context) (breakerReading, error) { return breakerReading{s, rate, false}, nil })
}
