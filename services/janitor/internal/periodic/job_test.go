package periodic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bustest"
	"bobosync/shared/control"
)

// virtual returns a job whose clock begins at start and follows the time of the synctest bubble.
func virtual(start time.Time, p Plan, look time.Duration) *Job {
	epoch := time.Now()

	if p.MaxRetryWait == 0 {
		p.MaxRetryWait = time.Hour
	}

	return New(Settings{
		Name: control.JobMapping, Plan: p, PollInterval: look, Log: bustest.Logger(), CountsRequested: true,
		Level: func(error, int) slog.Level { return slog.LevelWarn },
		Now:   func() time.Time { return start.Add(time.Since(epoch)) },
	})
}

// serve runs a job until stop is called, which returns the result of Serve.
func serve(t *testing.T, d *Job, w Runner) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, w) }()

	return func() error {
		cancel()
		return <-done
	}
}

var evening = Plan{Hour: 20, MaxAgeDays: 2, Zone: time.UTC}

func TestFailuresAreRetriedWithBackOffUntilOneSucceeds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := virtual(time.Date(2024, 6, 17, 20, 0, 0, 0, time.UTC), evening, time.Minute)
		last := d.Now().AddDate(0, 0, -1)
		var tries []time.Time
		var again []bool
		stop := serve(t, d, Runner{
			Last: func(context.Context) (time.Time, error) { return last, nil },
			Do: func(_ context.Context, o *Run) error {
				tries, again = append(tries, d.Now()), append(again, o.Again)
				if len(tries) <= 12 {
					return fmt.Errorf("failed %d", len(tries))
				}

				last = d.Now()

				return nil
			},
		})

		time.Sleep(2 * time.Second)
		synctest.Wait()
		assert.Equal(t, 1, d.State().Failures)
		assert.Equal(t, "failed 1", d.State().Error)
		time.Sleep(23 * time.Hour)
		assert.Zero(t, d.State().Failures)
		assert.Empty(t, d.State().Error)
		require.NoError(t, stop())
		require.Len(t, tries, 13)

		want := 30 * time.Second
		for i := 1; i < len(tries); i++ {
			wait := tries[i].Sub(tries[i-1])
			assert.GreaterOrEqual(t, wait, want*3/4, i)
			assert.LessOrEqual(t, wait, want, i)
			assert.True(t, again[i])

			want = min(2*want, time.Hour)
		}

		assert.False(t, again[0])
	})
}

func TestLostWorkIsDoneAgainAtTheNextLook(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := virtual(time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC), evening, 15*time.Second)

		var mu sync.Mutex
		last, runs := d.Now().Add(-time.Hour), 0
		var brokerError error
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- d.Serve(ctx, Runner{
				Last: func(context.Context) (time.Time, error) {
					mu.Lock()
					defer mu.Unlock()
					return last, brokerError
				},
				Do: func(context.Context, *Run) error {
					mu.Lock()
					defer mu.Unlock()

					runs++
					last = d.Now()

					return nil
				},
			})
		}()

		happens := func(event func(), want int) {
			mu.Lock()
			event()
			mu.Unlock()
			time.Sleep(d.PollInterval)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()

			assert.Equal(t, want, runs)
		}
		happens(func() {}, 0)
		happens(func() { last = time.Time{} }, 1)
		happens(func() { brokerError = errors.New("stream not found") }, 1)
		assert.ErrorIs(t, <-done, brokerError, "a new session has to make the stream again")
		cancel()
	})
}

func TestOrders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := virtual(time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC), evening, time.Hour)
		entries := 0
		begin := func(*Run) (string, error) {
			entries++
			return fmt.Sprint(entries), nil
		}
		any := func(*Run, bool) bool { return true }
		waiting := func(_ *Run, running bool) bool { return !running }
		_, err := d.Enqueue(&Run{Asked: true}, any, begin)
		require.ErrorContains(t, err, "stopping", "nobody is there to do it")

		var did []*Run
		release := make(chan error)
		stop := serve(t, d, Runner{
			Last: func(context.Context) (time.Time, error) { return d.Now(), nil },
			Do: func(ctx context.Context, o *Run) error {
				did = append(did, o)

				select {
				case err := <-release:
					return err
				case <-ctx.Done():
					return ctx.Err()
				}
			},
		})

		synctest.Wait()
		require.Empty(t, did, "it is not due")

		first, err := d.Enqueue(&Run{Asked: true, By: "a"}, any, begin)
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, did, 1, "an order does not wait for the next look")
		assert.False(t, d.State().Running.IsZero())
		joined, err := d.Enqueue(&Run{Asked: true, By: "b"}, any, begin)
		require.NoError(t, err)
		assert.Equal(t, first, joined, "a run that is under way stands for the same order")

		second, err := d.Enqueue(&Run{Asked: true, By: "c"}, waiting, begin)
		require.NoError(t, err)
		assert.NotEqual(t, first, second)

		third, err := d.Enqueue(&Run{Asked: true, By: "d"}, waiting, begin)
		require.NoError(t, err)
		assert.Equal(t, second, third)

		_, err = d.Enqueue(&Run{Asked: true}, nil, begin)
		require.ErrorContains(t, err, "another order")
		assert.Equal(t, 2, entries)

		release <- nil

		synctest.Wait()
		require.Len(t, did, 2)
		assert.Equal(t, "c", did[1].By)
		assert.True(t, d.Shared(did[1]))
		_, err = d.Enqueue(&Run{Asked: true, By: "e"}, waiting, begin)
		require.NoError(t, err)
		require.NoError(t, stop())
		assert.Len(t, did, 2, "what waited is not begun after the end")
		assert.Zero(t, d.State().Failures, "to be cut off is no failure")
	})
}

func TestOrdersThatDoSomethingElseLeaveTheScheduleAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := virtual(time.Date(2024, 6, 17, 3, 0, 0, 0, time.UTC), Plan{Hour: 4, Zone: time.UTC}, time.Hour)
		d.CountsRequested = false
		done := d.Now().AddDate(0, 0, -1).Add(time.Hour)
		var fail atomic.Bool
		runs := 0
		stop := serve(t, d, Runner{
			Last: func(context.Context) (time.Time, error) { return done, nil },
			Do: func(_ context.Context, o *Run) error {
				runs++

				if !o.Asked {
					done = d.Now()
				}

				if fail.Load() {
					return errors.New("no")
				}

				return nil
			},
		})

		synctest.Wait()

		begin := func(*Run) (string, error) { return "x", nil }
		for _, failing := range []bool{false, true} {
			fail.Store(failing)

			_, err := d.Enqueue(&Run{Asked: true}, nil, begin)
			require.NoError(t, err)
			synctest.Wait()
			assert.Zero(t, d.State().Failures)
			assert.Equal(t, time.Date(2024, 6, 17, 4, 0, 0, 0, time.UTC), d.State().Next)
		}

		fail.Store(false)
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		assert.Equal(t, 3, runs)
		require.NoError(t, stop())
	})
}

func TestOffIsOnlyDoneByOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := virtual(time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC), evening, time.Minute)
		d.Off = true
		runs := 0
		stop := serve(t, d, Runner{Do: func(context.Context, *Run) error {
			runs++
			return errors.New("failed")
		}})

		time.Sleep(100 * time.Hour)
		assert.Zero(t, runs)

		_, err := d.Enqueue(&Run{Asked: true}, nil, func(*Run) (string, error) { return "x", nil })
		require.NoError(t, err)
		time.Sleep(100 * time.Hour)
		assert.Equal(t, 1, runs, "what the clock does not do it does not repeat")
		assert.True(t, d.State().Next.IsZero())
		require.NoError(t, stop())
	})
}

func TestResumeTriesAgainSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := virtual(time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC), evening, time.Hour)
		d.Resume(d.Now().Add(-time.Minute), "held")
		assert.Equal(t, "held", d.State().Error)

		runs := 0
		stop := serve(t, d, Runner{
			Last: func(context.Context) (time.Time, error) { return d.Now().Add(-time.Hour), nil },
			Do: func(context.Context, *Run) error {
				runs++
				return nil
			},
		})

		synctest.Wait()
		assert.Equal(t, 1, runs)
		require.NoError(t, stop())
	})
}
