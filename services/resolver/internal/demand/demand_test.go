package demand

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRoom(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		calls   int
		waiting uint64
		atOnce  bool
		then    int
		updates int
	}{
		"at first":                {0, 0, false, 1, nextCall},
		"the next call is full":   {1, nextCall, true, 1, 0},
		"it was full of more":     {8, nextCall, true, 1, 0},
		"fetched at once":         {1, nextCall - 1, true, 2, 2 * nextCall},
		"and again":               {2, 0, true, 4, 4 * nextCall},
		"but never without limit": {maxCalls, 0, true, maxCalls, maxCalls * nextCall},
		"fetched late":            {maxCalls, 0, false, 1, nextCall},
	} {
		calls, updates := room(c.calls, c.waiting, c.atOnce)
		require.Equal(t, []int{c.then, c.updates}, []int{calls, updates}, name)
	}
}
