package latest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestWhatWasLostIsSentAfterARejection: the status before was lost with the broker's store, and then a newer event was held. When that is
// rejected, or a person wants the duty to stay, the one before is sent again: else it would be taken for under way for ever.
func TestWhatWasLostIsSentAfterARejection(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		lost  bool
		sends bool
	}{"it is out": {false, false}, "it was lost": {true, true}} {
		var w Worker
		before, _ := resolveNow(&w, booking(2, 1, true), "user")
		require.NotNil(t, before, name)
		if c.lost {
			w.Unresolved, w.Sending = true, true // as after the loss of the broker's store
		}
		off := booking(1, 2, false)
		w.Take(off, false)
		w.Keep(Hold{Group: "g"})
		require.Equal(t, &off, w.Reject(), name)
		require.Equal(t, c.sends, w.Unresolved, name)
		again, _ := w.Resolve("1", "user", "event", noon, rules)
		require.Equal(t, c.sends, again != nil, name)
		if again != nil {
			require.Equal(t, before.Version, again.Version, name)
			require.True(t, again.On, name)
		}
	}
	w := Worker{}
	resolveNow(&w, booking(2, 1, true), "user")
	w.Unresolved, w.Sending = true, true
	w.Keep(Hold{Group: "g"})
	w.KeepDuty()
	require.True(t, w.Unresolved)
}
