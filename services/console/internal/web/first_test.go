package web

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/services/console/internal/auth"
	"bobosync/services/console/internal/snapshot"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/verdict"
)

// TestNothingIsKnownYet checks that no page says OK until the first poll has ended.
func TestNothingIsKnownYet(t *testing.T) {
	t.Parallel()

	collector := snapshot.New(func(ctx context.Context) (verdict.Facts, error) {
		<-ctx.Done()
		return verdict.Facts{}, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- collector.Run(ctx) }()

	defer func() {
		cancel()
		require.NoError(t, <-ended)
	}()

	connect := func(context.Context) (*bus.Conn, error) { return nil, context.DeadlineExceeded }
	s, err := New(Options{Facts: collector, Reads: connect, Orders: connect, Version: "v1.2.3", Log: bustest.Logger()})
	require.NoError(t, err)

	s.who = func(context.Context) auth.Identity { return auth.Identity{Name: "v", Role: auth.Approver} }
	for _, path := range []string{"/", "/wall", "/system", "/files"} {
		_, body := get(t, s, path)
		require.NotContains(t, body, "<strong>OK</strong>", path)
		require.Contains(t, body, "<strong>PROBLEM</strong>", path)
		require.NotContains(t, body, "0001", path)
		require.NotContains(t, body, "00:00:00", path)
	}
}
