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
		"fetched at once":                    {1, nextCall, 100 * time.Millisecond, 2},
		"and again":                          {2, 2 * nextCall, 200 * time.Millisecond, 4},
		"but never without limit":            {maxCalls, maxCalls * nextCall, settling, maxCalls},
		"as many as are fetched in a moment": {maxCalls, maxCalls * nextCall, 800 * time.Millisecond, 5},
		"at two calls a second":              {1, nextCall, 500 * time.Millisecond, 1},
		"fetched late":                       {maxCalls, maxCalls * nextCall, 10 * time.Second, 1},
		"none is fetched":                    {2, 0, time.Second, 1},
		"others wait that it does not know":  {2, -nextCall, time.Second, 1},
		"measured at once":                   {1, nextCall, 0, 2},
	} {
		require.Equal(t, c.calls, calls(c.before, c.fetched, c.took), name)
	}
}
