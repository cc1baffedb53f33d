package demand

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCalls(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		before, fetched int
		took            time.Duration
		calls           int
	}{
		"at first":                           {0, 0, time.Hour, 1},
		"fetched at once":                    {1, nextCall, 100 * time.Millisecond, 4},
		"and again":                          {4, 4 * nextCall, 200 * time.Millisecond, 10},
		"but never without limit":            {maxCalls, maxCalls * nextCall, settling, maxCalls},
		"as many as are fetched in a moment": {maxCalls, maxCalls * nextCall, 1600 * time.Millisecond, 5},
		"at two calls a second":              {1, nextCall, 500 * time.Millisecond, 1},
		"fetched late":                       {maxCalls, maxCalls * nextCall, 10 * time.Second, 1},
		"none is fetched":                    {2, 0, time.Second, 1},
		"others wait that it does not know":  {2, -nextCall, time.Second, 1},
		"measured at once":                   {1, nextCall, 0, 4},
	} {
		require.Equal(t, c.calls, calls(c.before, c.fetched, c.took), name)
	}
}

// TestRoomIsMadeBeforeTheTableRunsDry checks that with one call at a time there is room again when almost no update
// waits any more, and with many calls when half of them wait. Never more updates wait than AtHoc and the publishers
// take in a moment, plus one call.
func TestRoomIsMadeBeforeTheTableRunsDry(t *testing.T) {
	t.Parallel()

	m := &Meter{}
	for _, step := range []struct {
		waiting int
		took    time.Duration
		room    int
	}{
		{0, time.Hour, 1000},
		{1000, 50 * time.Millisecond, 0},
		{999, 10 * time.Second, 1000}, // AtHoc takes almost nothing
		{0, 200 * time.Millisecond, 4000},
		{2000, 100 * time.Millisecond, 0},
		{1900, 125 * time.Millisecond, 6100},
		{4000, 150 * time.Millisecond, 0},
		{3900, 205 * time.Millisecond, 6100},
		{9000, 10 * time.Second, 0}, // AtHoc is suddenly slow
		{4900, 20 * time.Second, 1000},
	} {
		m.measure(step.waiting, step.took)
		require.Equal(t, step.room, m.room, "%+v", step)
		m.Take(m.room)
	}
}
