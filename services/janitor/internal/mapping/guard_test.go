package mapping

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/services/janitor/internal/state"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

func TestCompare(t *testing.T) {
	t.Parallel()

	before := map[string]string{"1": "a", "2": "b", "3": "c"}
	for _, c := range []struct {
		name          string
		before, after map[string]string
		want          change
	}{
		{"nothing", nil, nil, change{}},
		{"the first", nil, before, change{after: 3, added: 3}},
		{"the same", before, before, change{before: 3, after: 3}},
		{"everybody is gone", before, nil, change{before: 3, removed: 3}},
		{"a little of each", before, map[string]string{"1": "a", "2": "x", "4": "d"}, change{before: 3, after: 3, added: 1, changed: 1, removed: 1}},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, compare(c.before, c.after)) })
	}
}

func TestChangeSinceAMappingWasLost(t *testing.T) {
	t.Parallel()
	assert.Equal(t, change{after: 3, added: 3}, change{after: 3, added: 3}.sinceLost(0), "there was none")
	assert.Equal(t, change{before: 9, after: 3, removed: 6}, change{after: 3, added: 3}.sinceLost(9))
	assert.Equal(t, change{before: 2, after: 3, added: 1}, change{after: 3, added: 3}.sinceLost(2))
}

// TestDifferences checks the lists of removed and changed ids: no more than fit into one answer, and only those of the
// mapping that waits.
func TestDifferences(t *testing.T) {
	t.Parallel()

	before := map[string]string{"1": "a", "2": "b", "3": "c"}
	d := differences(before, map[string]string{"1": "a", "2": "x", "4": "d"})
	require.Equal(t, []control.MappingChange{{Employee: "3", Before: "c"}}, d.Removed)
	require.Equal(t, []control.MappingChange{{Employee: "2", Before: "b", After: "x"}}, d.Changed)

	many := map[string]string{}
	for i := range control.MaxMappingChanges + 1 {
		many[strconv.Itoa(i)] = "u"
	}

	require.Len(t, differences(many, nil).Removed, control.MaxMappingChanges)

	r := &Refresher{}
	_, err := r.Difference(nil)
	require.ErrorContains(t, err, "no mapping is held back")
	r.keepDifference("abcdef", before, nil)
	d, err = r.Difference(&state.Held{Hash: "abcdef"})
	require.NoError(t, err)
	require.Len(t, d.Removed, 3)

	_, err = r.Difference(&state.Held{Hash: "another"})
	require.ErrorContains(t, err, "refresh the mapping")
}

func TestGuard(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name  string
		c     change
		most  int
		holds bool
	}{
		{"the first", change{after: 100, added: 100}, 10, false},
		{"just as many as allowed", change{before: 100, after: 90, removed: 10}, 10, false},
		{"one more", change{before: 100, after: 89, removed: 11}, 10, true},
		{"as many come as go", change{before: 100, after: 100, added: 11, removed: 11}, 10, true},
		{"as many change as allowed", change{before: 100, after: 100, changed: 10}, 10, false},
		{"one more changes", change{before: 100, after: 100, changed: 11}, 10, true},
		{"ids are exchanged", change{before: 100, after: 100, changed: 100}, 10, true},
		{"some go and some change", change{before: 100, after: 94, removed: 6, changed: 5}, 10, true},
		{"none may change", change{before: 1000, after: 1000, changed: 1}, 0, true},
		{"a small mapping", change{before: 9, after: 8, removed: 1}, 10, true},
		{"none may go", change{before: 1000, after: 999, removed: 1}, 0, true},
		{"nothing goes, none may", change{before: 1000, after: 1001, added: 1}, 0, false},
		{"all may go but one", change{before: 1000, after: 1, removed: 999}, 100, false},
		{"empty, whatever is allowed", change{before: 1000, removed: 1000}, 100, true},
		{"empty from the start", change{}, 10, true},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.holds, c.c.guard(c.most) != "") })
	}
}

// TestAnApprovalIsForWhatWasShown checks that any other content needs a new decision, even if it changes less.
func TestAnApprovalIsForWhatWasShown(t *testing.T) {
	t.Parallel()

	approved := &state.Held{Hash: "aa", Approved: time.Now()}

	assert.False(t, approves(nil, "aa"), "nothing is held")
	assert.False(t, approves(&state.Held{Hash: "aa"}, "aa"), "nobody has approved it")
	assert.True(t, approves(approved, "aa"))
	assert.False(t, approves(approved, "bb"))
	assert.False(t, approves(approved, ""))
}

func TestMappingInForceIsReadFromTheStream(t *testing.T) {
	t.Parallel()
	js := bustest.Start(t).Connect(t).JS
	settings := topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}
	require.NoError(t, topology.Provision(t.Context(), js, settings, topology.Everyone))

	put := func(chunks ...event.MappingChunk) {
		for _, c := range chunks {
			_, err := js.Publish(t.Context(), topology.SubjectMapping, event.Encode(&c))
			require.NoError(t, err)
		}
	}
	r := &Refresher{JS: js, Log: bustest.Logger()}
	current := func() map[string]string {
		got, err := r.Current(t.Context())
		require.NoError(t, err)
		return got
	}
	assert.Nil(t, current())
	put(event.MappingChunk{Snapshot: "a", Chunks: 2, Index: 0, Users: map[string]string{"1": "a"}})
	assert.Nil(t, current(), "a part is none")
	put(event.MappingChunk{Snapshot: "a", Chunks: 2, Index: 1, Users: map[string]string{"2": "b"}})
	assert.Equal(t, map[string]string{"1": "a", "2": "b"}, current())
	put(event.MappingChunk{Snapshot: "b", Chunks: 2, Index: 0, Users: map[string]string{"3": "c"}})
	assert.Equal(t, map[string]string{"1": "a", "2": "b"}, current(), "the last whole one counts")
	_, err := js.Publish(t.Context(), topology.SubjectMapping, []byte("nonsense"))
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"1": "a", "2": "b"}, current())
	put(event.MappingChunk{Snapshot: "c", Chunks: 1, Users: map[string]string{}})
	assert.Equal(t, map[string]string{}, current(), "an empty one is one")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	_, err = r.Current(ctx)
	require.Error(t, err)
}
