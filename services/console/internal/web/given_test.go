package web

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/audit"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/check"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

func ordered(t *testing.T) (*bus.Conn, *Site) {
	t.Helper()
	conn := bustest.Start(t).Connect(t)
	require.NoError(t, topology.Provision(t.Context(), conn.JS, topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20}, topology.Everyone))
	return conn, site(t, conn, well(), auth.Identity{Name: "o", Role: auth.Operator})
}

// TestAServiceThatIsNotThereIsNotOK: it records nothing of an order to check what it needs.
func TestAServiceThatIsNotThereIsNotOK(t *testing.T) {
	t.Parallel()
	conn, s := ordered(t)
	for _, service := range []topology.Service{topology.Ingest, topology.Resolver, topology.Janitor} {
		serve(t, conn, service, control.On(control.Check, func(context.Context, control.RunRequest) ([]check.Result, error) {
			return []check.Result{{Service: service, Check: "broker", Level: check.OK, Message: "it answers"}}, nil
		}))
	}
	once := audit.NewFamily()
	_, err := client.Check(t.Context(), conn, client.Order{Once: once})
	require.NoError(t, err)
	code, body := get(t, s, pathGiven+once)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "3 ok, 0 warnings, 1 problem.")
	require.Contains(t, body, "see whether the publisher runs")
}
