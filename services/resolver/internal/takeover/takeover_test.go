package takeover

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/resolver/internal/demand"
	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/hold"
	"bobosync/services/resolver/internal/release"
	"bobosync/services/resolver/internal/roster"
	"bobosync/services/resolver/internal/store"
	"bobosync/shared/mapping"
)

// TestFilesAreReadAgainWhateverFails: a worker who was forgotten gets a user, and having the files read again fails at
// first. That they must be read again is not forgotten.
func TestFilesAreReadAgainWhateverFails(t *testing.T) {
	t.Parallel()

	log := slog.New(slog.DiscardHandler)

	s, err := store.Open(filepath.Join(t.TempDir(), "resolver.db"), log)
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()

	require.NoError(t, s.Forget([]string{"00001"}, time.Now().Unix()))
	r := &roster.Roster{
		Holds: hold.New(guard.Rules{}, log), Store: s, Log: log, Now: time.Now, MaxStrangers: 1, Hit: func() error { return nil },
	}
	require.NoError(t, r.Load(t.Context()))

	asked := 0
	x := New(t.Context(), nil, r, release.New(r, demand.New(nil)), func(context.Context) error {
		if asked++; asked == 1 {
			return errors.New("the disk is full")
		}
		return nil
	})
	users := map[string]string{"00001": "one"}
	require.Error(t, x.apply(t.Context(), mapping.NewIndex("m1", users), users))
	require.NoError(t, x.apply(t.Context(), mapping.NewIndex("m1", users), users))
	require.Equal(t, 2, asked)
	require.Equal(t, "one", r.Mapping().User("00001"))
}
