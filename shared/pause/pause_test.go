package pause

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()

		require.NoError(t, For(t.Context(), time.Minute))
		require.Equal(t, time.Minute, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()

		require.ErrorIs(t, For(ctx, time.Minute), context.DeadlineExceeded)
		require.Equal(t, time.Minute+time.Second, time.Since(began))
	})
}

func TestDelayStaysInRange(t *testing.T) {
	t.Parallel()

	const first, longest = 2 * time.Second, 5 * time.Minute
	for failures := 1; failures < 2000; failures++ {
		for _, jitter := range []float64{0, 0.5, 1} {
			got := Delay(first, longest, failures, jitter)
			require.GreaterOrEqual(t, got, first*3/4)
			require.LessOrEqual(t, got, longest)
		}
	}

	require.Equal(t, 8*time.Second, Delay(first, longest, 3, 1))
}
