package session_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/session"
)

// logged collects the log's lines without a lock: Keep logs from the goroutine that runs it.
type logged struct{ strings.Builder }

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func (l *logged) lines() int { return strings.Count(l.String(), "\n") }

// TestKeepGoesOnAfterFailures: the waits between sessions that cannot begin double up to half a minute, and start over
// after a session that has lasted.
func TestKeepGoesOnAfterFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logged
		ctx, cancel := context.WithCancel(t.Context())
		var ended time.Time
		var waits []time.Duration
		err := session.Keep(ctx, log.logger(), func(context.Context, func(error)) error {
			if !ended.IsZero() {
				waits = append(waits, time.Since(ended))
			}

			switch len(waits) {
			case 9:
				time.Sleep(2 * time.Minute)
			case 11:
				cancel()
			}

			ended = time.Now()

			return errors.New("no stream")
		})
		require.NoError(t, err)
		const second = time.Second
		require.Equal(t, []time.Duration{
			second / 2, second, 2 * second, 4 * second, 8 * second, 16 * second, 30 * second, 30 * second, 30 * second,
			second / 2, second,
		}, waits)
		require.Equal(t, 11, log.lines(), "once for each end, and not for the stop")
	})
}

func TestKeepStops(t *testing.T) {
	t.Run("during a session", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var log logged

			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()

			began := time.Now()

			require.NoError(t, session.Keep(ctx, log.logger(), func(ctx context.Context, _ func(error)) error {
				<-ctx.Done()
				return ctx.Err()
			}))
			require.Equal(t, time.Hour, time.Since(began))
			require.Zero(t, log.lines(), "a stop is no failure: %s", &log)
		})
	})
	t.Run("between sessions", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var log logged

			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()

			began, sessions := time.Now(), 0
			require.NoError(t, session.Keep(ctx, log.logger(), func(context.Context, func(error)) error {
				sessions++
				return errors.New("no stream")
			}))
			require.Equal(t, 100*time.Millisecond, time.Since(began), "it does not wait for the next one")
			require.Equal(t, 1, sessions)
		})
	})
}

// TestKeepNamesTheCause: the log says why a session ended, not that something was canceled as a result.
func TestKeepNamesTheCause(t *testing.T) {
	gone := errors.New("stream ENTRIES is gone")
	for name, c := range map[string]struct {
		body session.Body
		want string
	}{
		"lost, and a clean end": {func(ctx context.Context, lost func(error)) error {
			lost(gone)
			<-ctx.Done()
			return nil
		}, "lost: stream ENTRIES is gone"},
		"lost, and canceled by it": {func(ctx context.Context, lost func(error)) error {
			lost(gone)
			<-ctx.Done()
			return ctx.Err()
		}, "lost: stream ENTRIES is gone"},
		"the first loss counts": {func(_ context.Context, lost func(error)) error {
			lost(gone)
			lost(errors.New("a consumer of it too"))
			return nil
		}, "lost: stream ENTRIES is gone"},
		"a failure of its own": {func(context.Context, func(error)) error {
			return errors.New("the disk is full")
		}, "the disk is full"},
		"no reason": {func(context.Context, func(error)) error { return nil }, "without a reason"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logged

				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // during the first wait
				defer cancel()

				require.NoError(t, session.Keep(ctx, log.logger(), c.body))
				require.Equal(t, 1, log.lines(), log.String())
				require.Contains(t, log.String(), c.want)
				require.Contains(t, log.String(), "retry_in=500ms")
			})
		})
	}
}
