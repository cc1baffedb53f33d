package publisher

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/event"
)

// TestWhoIsRefusedAgainAndAgain: a user is listed after many refusals, not after one, until AtHoc takes the user or the
// last refusal is long ago.
func TestWhoIsRefusedAgainAndAgain(t *testing.T) {
	t.Parallel()

	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	update := func(user string, row int) event.Update {
		return event.Update{User: user, File: "f", Version: event.Version{Row: row}}
	}

	var r refusals
	for i := range refusedOften {
		require.Empty(t, r.list(at))
		r.add(update("a", 7), fmt.Sprint("locked ", i), at.Add(time.Duration(i)*time.Second))
	}

	r.add(update("b", 8), "once", at)
	all := r.list(at.Add(time.Minute))
	require.Len(t, all, 1)
	require.Equal(t, 7, all[0].Row)
	require.Equal(t, "locked 4", all[0].Words)
	require.Equal(t, at, all[0].Since)
	require.Equal(t, refusedOften, all[0].Times)
	require.Empty(t, r.list(at.Add(refusedFor+time.Minute)))
	require.Empty(t, r.users, "what is long ago is forgotten")

	for range refusedOften {
		r.add(update("a", 7), "locked", at)
	}

	r.drop("a")
	require.Empty(t, r.list(at))

	for i := range 2 * maxRefused {
		r.add(update(fmt.Sprint(i), 1), "locked", at)
	}

	require.Len(t, r.users, maxRefused)
}
