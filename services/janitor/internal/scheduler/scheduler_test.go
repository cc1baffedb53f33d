package scheduler

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"

	"bobosync/services/janitor/internal/mapping"
	"bobosync/shared/athoc"
	"bobosync/shared/control"
)

func TestLevelOfAFailure(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name     string
		err      error
		failures int
		want     slog.Level
	}{
		{"a guard has raised the alarm", fmt.Errorf("x: %w", mapping.ErrHeld), 5, slog.LevelInfo},
		{"the resolver is not ready yet", fmt.Errorf("x: %w", control.Refuse("wait")), 1, slog.LevelInfo},
		{"the resolver still is not", fmt.Errorf("x: %w", control.Refuse("wait")), 2, slog.LevelWarn},
		{"nobody is there yet", fmt.Errorf("x: %w", control.ErrNobody), 1, slog.LevelInfo},
		{"still nobody", fmt.Errorf("x: %w", control.ErrNobody), 2, slog.LevelWarn},
		{"outage", &athoc.CallError{Kind: athoc.Outage}, 1, slog.LevelWarn},
		{"throttled", &athoc.CallError{Kind: athoc.Throttled}, 1, slog.LevelWarn},
		{"forbidden", fmt.Errorf("x: %w", &athoc.CallError{Kind: athoc.Forbidden}), 1, slog.LevelError},
		{"bad request", &athoc.CallError{Kind: athoc.BadRequest}, 3, slog.LevelError},
		{"the broker is away", errors.New("away"), 1, slog.LevelWarn},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, FailureLevel(c.err, c.failures)) })
	}
}
