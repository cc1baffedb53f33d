// Package session keeps a service working with a broker that may lose what it held. A session begins with provisioning
// and ends when a stream or a consumer is gone; then the next session begins.
package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/shared/pause"
)

// The waits between sessions.
const (
	firstWait = 500 * time.Millisecond
	maxWait   = 30 * time.Second
	// lasting is how long a session must have lasted for its end not to count as a failed start.
	lasting = time.Minute
)

// CloseTimeout is how long handlers get to finish when a session ends.
const CloseTimeout = 20 * time.Second

// Body is one session. It must return soon after its ctx ends. It calls lost when something that it needs is gone from
// the broker.
type Body func(ctx context.Context, lost func(error)) error

// Keep runs one session after the other until ctx ends, and then returns nil. It logs the reason for each end once.
func Keep(ctx context.Context, log *slog.Logger, body Body) error {
	waits := pause.Doubling(firstWait, maxWait)
	for {
		began := time.Now()

		err := once(ctx, body)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // what the body says of its stop is no failure
		}

		if time.Since(began) > lasting {
			waits.Reset()
		}

		wait := waits.Next()
		log.Warn("the work with the broker has to start over", "error", err, "retry_in", wait.String())

		if err := pause.For(ctx, wait); err != nil {
			return nil //nolint:nilerr // it was stopped
		}
	}
}

func once(ctx context.Context, body Body) error {
	inner, end := context.WithCancelCause(ctx)
	defer end(nil)

	err := body(inner, func(reason error) { end(fmt.Errorf("lost: %w", reason)) })
	lost := context.Cause(inner)
	if lost != nil && !errors.Is(lost, context.Canceled) && (err == nil || errors.Is(err, context.Canceled)) {
		err = lost // a cancellation is not the reason
	}

	if err == nil {
		err = errors.New("it ended without a reason")
	}

	return err
}

// Handle runs a router until ctx ends; all of its handlers have finished when it returns.
func Handle(ctx context.Context, router *message.Router) error {
	if err := router.Run(ctx); err != nil {
		return fmt.Errorf("run the message router: %w", err)
	}
	return nil
}
