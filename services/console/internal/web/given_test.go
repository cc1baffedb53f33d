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

// TestAServiceThatIsNotThereIsNotOK checks that a service that is not there does not count as OK: it records nothing of
// an order to check what it needs.
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

// TestAPartOfAnOrderIsNotAll checks an order about many dead letters, which is given in parts. When the resolver is
// gone after the first part, the page says that the others were not ordered.
func TestAPartOfAnOrderIsNotAll(t *testing.T) {
	t.Parallel()
	conn, s := ordered(t)
	var stop func()
	gone := make(chan struct{})
	stop, err := control.Serve(t.Context(), conn.NC, topology.Resolver, "v1.2.3",
		control.On(control.DeadDrop, func(ctx context.Context, req control.DeadRequest) (done []control.DeadResult, _ error) {
			go func() { defer close(gone); stop() }()

			<-ctx.Done() // no request after this one is answered

			for _, id := range req.IDs {
				done = append(done, control.DeadResult{ID: id, Did: "dropped"})
			}

			return done, nil
		}))
	require.NoError(t, err)

	ids := make([]uint64, 250)
	for i := range ids {
		ids[i] = uint64(i + 1)
	}

	once := audit.NewFamily()
	_, err = client.Letters(t.Context(), conn, client.Order{Once: once}, control.DeadDrop, ids)
	require.Error(t, err)
	<-gone

	_, body := get(t, s, pathGiven+once)
	require.NotContains(t, body, "the service has done it")
	require.Contains(t, body, "100 of 250")
}

// TestWhatAnOrderSaidIsGone checks an order whose record is there, while the details that belong to it were lost with
// their bucket.
func TestWhatAnOrderSaidIsGone(t *testing.T) {
	t.Parallel()
	conn, s := ordered(t)
	serve(t, conn, topology.Publisher, control.On(control.Resume, func(context.Context, control.RunRequest) (control.ResumeAnswer, error) {
		return control.ResumeAnswer{}, control.Refuse("not now")
	}))

	once := audit.NewFamily()
	_, err := client.Resume(t.Context(), conn, client.Order{Once: once})
	require.ErrorContains(t, err, "not now")
	stream, err := conn.JS.Stream(t.Context(), "KV_"+topology.BucketAudit)
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	code, body := get(t, s, pathGiven+once)
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "Nothing was done")
}
