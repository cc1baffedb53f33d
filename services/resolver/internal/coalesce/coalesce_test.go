package coalesce

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHolds(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		entries Entries
		file    string
		until   uint64
		lot     uint64
		want    bool
	}{
		"all is read":                             {Entries{Read: 7}, "a", 7, 0, false},
		"all is read, a former run's":             {Entries{}, "a", 0, 0, false},
		"the file is read in part":                {Entries{Read: 7, Partial: map[string]bool{"a": true}}, "a", 7, 0, true},
		"another file is read in part":            {Entries{Read: 7, Partial: map[string]bool{"b": true}}, "a", 7, 0, false},
		"the backlog that was there is read":      {Entries{Read: 7, Behind: true}, "a", 7, 0, false},
		"the backlog that was there is not read":  {Entries{Read: 6, Behind: true}, "a", 7, 0, true},
		"what was there is gone, as after a loss": {Entries{Read: 6}, "a", 7, 0, false},
		"files that lay there with it are unread": {Entries{Read: 7, Ahead: map[string]bool{"a": true}, Lot: 2}, "a", 7, 2, true},
		"they were read, those of now came later": {Entries{Read: 7, Ahead: map[string]bool{"a": true}, Lot: 3}, "a", 7, 2, false},
		"a file by itself, which came meanwhile":  {Entries{Read: 7, Ahead: map[string]bool{"a": true}, Lot: 2}, "b", 7, 2, false},
	} {
		require.Equal(t, c.want, c.entries.Holds(c.file, c.until, c.lot), name)
	}
}

func TestTake(t *testing.T) {
	t.Parallel()

	all := func() []Candidate {
		return []Candidate{{"c", 3}, {"a", 1}, {"e", 5}, {"b", 2}, {"d", 4}, {"f", 6}, {"x", 0}, {"y", 0}}
	}
	for room, want := range map[int]string{-1: "", 0: "", 1: "f", 2: "fe", 3: "fed", 4: "fedy", 5: "fedcy", 7: "fedcbay", 8: "caebdfxy", 9: "caebdfxy"} {
		got := ""
		for _, w := range NewQueue(all()).Take(room) {
			got += w.Employee
		}

		require.Equal(t, want, got, "room for %d", room)
	}
}

// TestALineIsTakenPieceByPiece checks that each candidate is taken once, and that the next ones taken are those that a
// new queue of all remaining candidates would give.
func TestALineIsTakenPieceByPiece(t *testing.T) {
	t.Parallel()

	for _, room := range []int{1, 3, 4, 7, 100} {
		var left []Candidate
		for i := range 50 {
			left = append(left, Candidate{fmt.Sprint(i), int64(i * 7 % 50)})
		}

		queue := NewQueue(slices.Clone(left))
		for len(left) > 0 {
			got, want := queue.Take(room), NewQueue(slices.Clone(left)).Take(room)
			require.ElementsMatch(t, want, got)

			left = slices.DeleteFunc(left, func(w Candidate) bool { return slices.Contains(got, w) })
			require.Equal(t, len(left), queue.Len())
		}

		require.Empty(t, queue.Take(room))
	}
}
