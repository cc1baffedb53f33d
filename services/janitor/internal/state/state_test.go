package state_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/services/janitor/internal/state"
	"bobosync/services/janitor/internal/state/statetest"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
)

func leads() error { return nil }

func TestWhatOthersKeptIsNotLost(t *testing.T) {
	t.Parallel()

	entry := &statetest.Fake{}
	mine, err := state.Open(t.Context(), entry, leads, bustest.Logger())
	require.NoError(t, err)
	var lost error
	other, err := state.Open(t.Context(), entry, func() error { return lost }, bustest.Logger())
	require.NoError(t, err)

	now := time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC)
	require.NoError(t, mine.Register(t.Context(), now, "a"))
	require.NoError(t, other.Register(t.Context(), now.Add(time.Hour), "a", "b"))
	assert.Equal(t, map[string]state.Job{"a": {Since: now}, "b": {Since: now.Add(time.Hour)}}, other.Read().Jobs)

	entry.Err = errors.New("the broker is away")
	before := other.Read()
	require.ErrorIs(t, other.Update(t.Context(), func(s *state.State) { s.Held = &state.Held{} }), entry.Err)
	assert.Equal(t, before, other.Read(), "what is not stored is not kept")

	entry.Err = nil
	lost = errors.New("not the janitor any more")
	require.ErrorIs(t, other.Update(t.Context(), func(*state.State) {}), lost)

	entry.Value = []byte(`{"v":99}`)
	again, err := state.Open(t.Context(), entry, leads, bustest.Logger())
	require.NoError(t, err)
	require.NoError(t, again.Register(t.Context(), now, "c"))
	assert.Len(t, again.Read().Jobs, 1, "a state of another form counts as none")
}

// TestAHeldMappingOfAnOlderVersion checks a stored mapping that has no id.
func TestAHeldMappingOfAnOlderVersion(t *testing.T) {
	t.Parallel()

	entry := &statetest.Fake{Value: []byte(`{"v":1,"duties":{"purge":{"since":"2024-06-17T10:00:00Z"}},"held":{` +
		`"hash":"0123456789abcdef","since":"2024-06-17T10:00:00Z","seen":"2024-06-17T10:00:00Z","before":100,"after":80,"removed":20,"reason":"r"}}`)}
	entry.Revision = 1
	s, err := state.Open(t.Context(), entry, leads, bustest.Logger())
	require.NoError(t, err)

	at := time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC)
	assert.Equal(t, at, s.Read().Jobs["purge"].Last())
	assert.Equal(t, &control.HeldMapping{ID: "0123456789ab", Since: at, Seen: at, Before: 100, After: 80, Removed: 20, Reason: "r"},
		s.Read().Held.Report())
}
