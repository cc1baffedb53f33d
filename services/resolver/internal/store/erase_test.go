package store

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"bobosync/services/resolver/internal/guard"
	"bobosync/shared/control"
	"bobosync/shared/erase"
	"bobosync/shared/event"
)

// TestWhatIsKeptCanBeReadAfterAnErasure: an employee id that is a number may also occur in a set of rows, in a time and
// in an id, where it names nobody. The store must be readable afterwards, or the resolver could not start.
func TestWhatIsKeptCanBeReadAfterAnErasure(t *testing.T) {
	t.Parallel()

	began := time.Date(2026, 7, 30, 12, 11, 0, 0, time.UTC)
	for _, employee := range []string{"1234", "2026", "30", "7123"} {
		s := fresh(t)

		var rows event.RowSet
		for _, row := range []int{7, 30, 1234, 2026} {
			rows.Add(row)
		}

		hold := &guard.Group{
			ID: "off-20260730-121100", Kind: guard.Off, Since: began, Last: began, Rows: map[string]event.RowSet{"f": rows},
			Users: map[string]int64{"j.bond": 1, "m": 2},
			Decision: &guard.Decision{
				Outcome: guard.Rejected, At: began, By: "me@here", Reason: "worker " + employee + " says so",
			},
		}
		replay := control.ReplayState{ID: "0198592e-1234-7123-8123-0123456789ab", By: "me@here", What: "everyone", Started: began}
		require.NoError(t, s.Save(t.Context(), Change{
			Replay: &replay, Guard: &GuardChange{Since: began, Recent: []guard.Recent{{At: 1, Kind: guard.Off, N: 1}}, Groups: []*guard.Group{hold}},
		}))

		require.NoError(t, s.Erase(t.Context(), erase.Names{Employee: employee, Users: []string{"J.Bond"}}))
		history, groups, _, err := s.Guard()
		require.NoError(t, err, employee)
		require.Equal(t, began, history.Since)
		require.Len(t, groups, 1)

		want := *hold
		want.Users = map[string]int64{"m": 2}
		decision := *hold.Decision
		decision.Reason = erase.Gone
		want.Decision = &decision
		wanted, err := json.Marshal(want)
		require.NoError(t, err)
		got, err := json.Marshal(groups[0])
		require.NoError(t, err)
		require.JSONEq(t, string(wanted), string(got))

		replays, err := s.Replays()
		require.NoError(t, err, employee)
		require.Equal(t, []control.ReplayState{replay}, replays)
		require.NoError(t, s.db.View(func(tx *bbolt.Tx) error {
			return tx.Bucket(guardBucket).ForEach(func(_, data []byte) error {
				require.NotContains(t, strings.ToLower(string(data)), "bond")
				return nil
			})
		}))
	}
}
