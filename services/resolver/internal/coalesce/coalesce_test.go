package coalesce

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHolds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		entries Entries
		file    string
		until   uint64
		want    bool
	}{
		"all is read":                             {Entries{Read: 7}, "a", 7, false},
		"all is read, a former run's":             {Entries{}, "a", 0, false},
		"the file is read in part":                {Entries{Read: 7, Partial: map[string]bool{"a": true}}, "a", 7, true},
		"another file is read in part":            {Entries{Read: 7, Partial: map[string]bool{"b": true}}, "a", 7, false},
		"the backlog that was there is read":      {Entries{Read: 7, Behind: true}, "a", 7, false},
		"the backlog that was there is not read":  {Entries{Read: 6, Behind: true}, "a", 7, true},
		"what was there is gone, as after a loss": {Entries{Read: 6}, "a", 7, false},
	} {
		require.Equal(t, c.want, c.entries.Holds(c.file, c.until), name)
	}
}

func TestPick(t *testing.T) {
	t.Parallel()
	all := func() []Waiting {
		return []Waiting{{"c", 3}, {"a", 1}, {"e", 5}, {"b", 2}, {"d", 4}, {"f", 6}, {"x", 0}, {"y", 0}}
	}
	for room, want := range map[int]string{-1: "", 0: "", 1: "f", 2: "fe", 3: "fed", 4: "fedy", 5: "fedcy", 7: "fedcbay", 8: "caebdfxy", 9: "caebdfxy"} {
		got := ""
		for _, w := range Pick(all(), room) {
			got += w.Employee
		}
		require.Equal(t, want, got, "room for %d", room)
	}
}
