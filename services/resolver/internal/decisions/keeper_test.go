package decisions

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/hold"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/bustest"
)

// TestAHoldThatIsTooLargeKeepsNothingElseBack: the hold's copy does not fit into a message, which is reported again and
// again. The other holds and the counts are copied all the same: otherwise the guard would start over after the loss of
// the state store.
func TestAHoldThatIsTooLargeKeepsNothingElseBack(t *testing.T) {
	t.Parallel()
	kv, err := bustest.Start(t).Connect(t).JS.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "state"})
	require.NoError(t, err)

	now := time.Now()

	large := (&guard.Group{ID: "large", Kind: guard.Stale, Since: now}).Clone()
	for i := range 20_000 {
		large.AddRow(fmt.Sprintf("%064x", i), 2)
	}

	small := (&guard.Group{ID: "small", Kind: guard.Off, Since: now}).Clone()
	s := hold.New(guard.Rules{Zone: time.UTC}, bustest.Logger())
	s.Apply(store.GuardChange{
		Since: now, Groups: []*guard.Group{large, small}, Hours: map[string]guard.Hour{"2026-06-17T03": {Off: 7}},
	})

	k := &keeper{kv: kv}
	require.ErrorIs(t, k.keep(t.Context(), s, now), nats.ErrMaxPayload)
	history, groups, err := k.read(t.Context())
	require.NoError(t, err)
	require.Equal(t, 7, history.Hours["2026-06-17T03"].Off)
	require.Len(t, groups, 1)
	require.Equal(t, "small", groups[0].ID)
	require.ErrorIs(t, k.keep(t.Context(), s, now.Add(keepAgain)), nats.ErrMaxPayload)
}
