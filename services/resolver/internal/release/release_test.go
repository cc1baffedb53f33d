package release

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/resolver/internal/roster"
)

// TestALotOfFilesIsReadFirst: a worker who became unresolved in a lot is held until its end, or until nothing more
// arrives; nobody is held for a second lot.
func TestALotOfFilesIsReadFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &roster.Roster{}
		x := New(r, nil)
		read := func(file string, ahead bool) {
			x.Part(file, true, ahead)
			x.Reached(x.read+1, 0)
		}
		holds := func(file string, lot uint64) bool { return x.entries().Holds(file, r.Backlog, lot) }

		read("a", true)

		first := r.Lot
		require.True(t, holds("a", first))
		read("alone", false) // as in the gap between two slices of a large file; it ends the lot
		require.False(t, holds("alone", r.Lot))
		require.False(t, holds("a", first))

		read("b", true)
		require.True(t, holds("b", r.Lot))
		require.False(t, holds("b", first), "who was unresolved before this lot waits for no second one")

		for range 10 {
			time.Sleep(lotGap - time.Millisecond)
			read("c", true)
			require.True(t, holds("b", r.Lot))
		}

		time.Sleep(lotGap)
		require.False(t, holds("b", r.Lot), "the last files of the lot had no entries")
	})
}
