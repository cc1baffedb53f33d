package mapping_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/event"
	"bobosync/shared/mapping"
)

func chunk(snapshot string, index, of int, users ...string) event.MappingChunk {
	c := event.MappingChunk{Snapshot: snapshot, Index: index, Chunks: of, Users: map[string]string{}}
	for _, u := range users {
		c.Users["id of "+u] = u
	}

	return c
}

func TestAMappingIsPutTogether(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		chunks []event.MappingChunk
		want   []map[string]string
	}{
		"one chunk":        {[]event.MappingChunk{chunk("m", 0, 1, "a")}, []map[string]string{{"id of a": "a"}}},
		"an empty one":     {[]event.MappingChunk{chunk("m", 0, 1)}, []map[string]string{{}}},
		"in order":         {[]event.MappingChunk{chunk("m", 0, 2, "a"), chunk("m", 1, 2, "b")}, []map[string]string{nil, {"id of a": "a", "id of b": "b"}}},
		"the last first":   {[]event.MappingChunk{chunk("m", 1, 2, "b"), chunk("m", 0, 2, "a")}, []map[string]string{nil, {"id of a": "a", "id of b": "b"}}},
		"one twice":        {[]event.MappingChunk{chunk("m", 0, 2, "a"), chunk("m", 0, 2, "a")}, []map[string]string{nil, nil}},
		"another snapshot": {[]event.MappingChunk{chunk("m", 0, 2, "a"), chunk("n", 1, 2, "b"), chunk("n", 0, 2, "c")}, []map[string]string{nil, nil, {"id of b": "b", "id of c": "c"}}},
		"one after the other": {[]event.MappingChunk{chunk("m", 0, 1, "a"), chunk("n", 0, 1, "b"), chunk("n", 0, 1, "b")},
			[]map[string]string{{"id of a": "a"}, {"id of b": "b"}, {"id of b": "b"}}},
	} {
		var a mapping.Assembler
		for i, part := range c.chunks {
			require.Equal(t, c.want[i], a.Add(part), "%s, chunk %d", name, i)
		}
	}
}

func TestAnIndexKnowsBothDirections(t *testing.T) {
	t.Parallel()

	x := mapping.NewIndex("m", map[string]string{"1": "One@example.org", "2": "two@example.org", "3": "three@example.org"})
	require.Equal(t, "One@example.org", x.User("1"))
	require.Equal(t, "1", x.Employee("oNE@example.org"))
	require.Empty(t, x.User("9")+x.Employee("nobody"))
	added, changed, removed := x.Difference(mapping.NewIndex("n", map[string]string{"1": "One@example.org", "2": "renamed", "4": "four"}))
	require.Equal(t, []int{1, 1, 1}, []int{added, changed, removed})
}

// TestAssemblingIsLinear: what the assembler allocates grows with the number of users, not with its square. A mapping
// was once assembled again for each of its chunks.
func TestAssemblingIsLinear(t *testing.T) {
	parts := func(chunks int) (all []event.MappingChunk) {
		for i := range chunks {
			c := event.MappingChunk{Snapshot: "m", Index: i, Chunks: chunks, Users: map[string]string{}}
			for u := range 100 {
				c.Users[fmt.Sprintf("%05d-%03d", i, u)] = "user"
			}

			all = append(all, c)
		}

		return all
	}
	bytes := func(chunks int) float64 {
		all := parts(chunks)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)

		var a mapping.Assembler
		for _, c := range all {
			a.Add(c)
		}

		runtime.ReadMemStats(&after)

		return float64(after.TotalAlloc - before.TotalAlloc)
	}
	n, n2, n4 := bytes(50), bytes(100), bytes(200)
	require.Less(t, n2/n, 3.0)
	require.Less(t, n4/n2, 3.0)
}
