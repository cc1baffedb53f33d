package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"bobosync/shared/audit"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

func provisioned(t *testing.T) *bus.Conn {
	t.Helper()
	conn := bustest.Start(t).Connect(t)
	require.NoError(t, topology.Provision(t.Context(), conn.JS, topology.Settings{EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}, topology.Everyone))
	return conn
}

func entries(t *testing.T, conn *bus.Conn) []audit.Entry {
	t.Helper()
	chains, err := audit.Load(t.Context(), conn.JS)
	require.NoError(t, err)
	require.Empty(t, audit.Verify(chains, nil, time.Now()))

	return chains.Entries()
}

// TestAnOrderIsRecordedBeforeItIsFollowed: with its sender, its content and the forecast; the result is recorded
// afterwards. Reading is not recorded.
func TestAnOrderIsRecordedBeforeItIsFollowed(t *testing.T) {
	t.Parallel()
	conn := provisioned(t)
	var failure error

	stop := serve(t, conn.NC, echo("a"), control.WithForecast(
		control.On(control.Replay, func(_ context.Context, req control.ReplayRequest) (control.ReplayState, error) {
			all := entries(t, conn)
			require.Equal(t, audit.Order, all[0].Kind, "it stands there before anything is done")
			require.JSONEq(t, `{"all":true,"by":"j@pc"}`, string(all[0].What.Request))
			require.JSONEq(t, `{"users":9}`, string(all[0].What.Forecast))

			return control.ReplayState{ID: "1", By: req.By, Users: 9}, failure
		}),
		func(context.Context, control.ReplayRequest) (map[string]int, error) {
			return map[string]int{"users": 9}, nil
		}))
	defer stop()

	replay := func() (control.ReplayState, error) {
		return control.Ask[control.ReplayState](t.Context(), conn.NC, topology.Resolver, control.Replay, control.ReplayRequest{All: true, By: "j@pc"})
	}
	_, err := ask(t, conn.NC, "hello")
	require.NoError(t, err)
	require.Empty(t, entries(t, conn))

	state, err := replay()
	require.NoError(t, err)
	require.Equal(t, "j@pc", state.By, "the broker has one login for all, so there is nothing but what is said")
	all := entries(t, conn)
	require.Len(t, all, 2)
	require.Equal(t, audit.OK, all[0].Outcome)
	require.Equal(t, all[1].ID, all[0].Order)
	require.Contains(t, string(all[0].What.Result), `"users":9`)
	require.Equal(t, audit.Caller{Known: audit.ByLogin, Said: "j@pc"}, all[1].Caller)

	for outcome, err := range map[string]error{audit.Refused: control.Refuse("not now"), audit.Failed: errors.New("no disk")} {
		failure = err
		_, got := replay()
		require.ErrorContains(t, got, err.Error())
		last := entries(t, conn)[0]
		require.Equal(t, outcome, last.Outcome)
		require.Equal(t, err.Error(), last.What.Error)
	}
}

// TestAnOrderThatCannotBeRecordedIsNotGiven: without the stream or the bucket nothing is done.
func TestAnOrderThatCannotBeRecordedIsNotGiven(t *testing.T) {
	t.Parallel()
	conn := provisioned(t)
	serve(t, conn.NC, control.On(control.Replay, func(context.Context, control.ReplayRequest) (control.ReplayState, error) {
		t.Error("it was followed")
		return control.ReplayState{}, nil
	}))

	for _, stream := range []string{topology.StreamAudit, "KV_" + topology.BucketAudit} {
		require.NoError(t, conn.JS.DeleteStream(t.Context(), stream))
		_, err := control.Ask[control.ReplayState](t.Context(), conn.NC, topology.Resolver, control.Replay, control.ReplayRequest{All: true})
		require.ErrorContains(t, err, "the order is not given, since it cannot be recorded in the audit")
		require.NoError(t, topology.Provision(t.Context(), conn.JS, topology.Settings{EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}, topology.Everyone))
	}
}

// TestAnEndpointThatIsNotDeclared: it is not served, because nobody would know whether it is for orders.
func TestAnEndpointThatIsNotDeclared(t *testing.T) {
	t.Parallel()
	nc := bustest.Start(t).Connect(t).NC
	_, err := control.Serve(t.Context(), nc, topology.Publisher, "dev", echo("a"))
	require.ErrorContains(t, err, "offer worker of publisher: shared/topology/permissions.go does not declare it")
}

// TestWhoAsksStandsThereOnce: if there are several headers, one is the client's own.
func TestWhoAsksStandsThereOnce(t *testing.T) {
	t.Parallel()
	const real, forged = `{"acc":"OPERATOR-JSMITH","user":"UABC","host":"192.0.2.7"}`, `{"acc":"OPERATOR-AJONES"}`
	caller, err := control.ReadRequester(nats.Header{"Nats-Request-Info": {real}})
	require.NoError(t, err)
	require.Equal(t, audit.Caller{Name: "jsmith", Known: audit.ByKey, Key: "UABC", Host: "192.0.2.7"}, caller)
	caller, err = control.ReadRequester(nats.Header{"Nats-Request-Info": {`{"acc":"OPERATOR"}`}})
	require.NoError(t, err)
	require.Equal(t, audit.Caller{Name: "operator", Shared: true, Known: audit.ByKey}, caller)

	for name, header := range map[string]nats.Header{
		"none": {}, "twice": {"Nats-Request-Info": {forged, real}}, "in other letters": {"Nats-Request-Info": {real}, "nats-request-info": {forged}},
		"with a blank": {"Nats-Request-Info": {real}, "Nats-Request-Info ": {forged}}, "unreadable": {"Nats-Request-Info": {"x"}}, "no account": {"Nats-Request-Info": {"{}"}},
	} {
		_, err := control.ReadRequester(header)
		require.Error(t, err, name)
	}
}

// TestWhatIsSaidIsNoName: whatever a request claims about its sender, the service gets the sender as the broker knows
// it.
func TestWhatIsSaidIsNoName(t *testing.T) {
	t.Parallel()

	known := audit.Caller{Name: "jsmith", Known: audit.ByKey}
	for request, want := range map[string]string{
		`{"by":"ajones@pc"}`:            "jsmith (ajones@pc)",
		`{"by":"x","BY":"y","bY":"z"}`:  "jsmith (x)",
		`{"all":true}`:                  "jsmith",
		`{"by":""}`:                     "jsmith",
		`{"By":"boss","all":true}`:      "jsmith",
		`{"by":"root (ajones)","x":{}}`: "jsmith (root (ajones))",
	} {
		data, _, err := control.Signed([]byte(request), known)
		require.NoError(t, err)
		var req control.ReplayRequest
		require.NoError(t, json.Unmarshal(data, &req))
		require.Equal(t, want, req.By, request)
	}

	for _, request := range []string{`[]`, `{"by":1}`, ``, `{"by":"` + strings.Repeat("x", 400) + `"}`} {
		_, _, err := control.Signed([]byte(request), known)
		require.Error(t, err)
	}
}

// TestAnOrderThatCouldNotBeRecordedIsNotSaidToBeGiven: not even when it is sent again.
func TestAnOrderThatCouldNotBeRecordedIsNotSaidToBeGiven(t *testing.T) {
	t.Parallel()
	conn := provisioned(t)
	defer serve(t, conn.NC, control.On(control.StopReplay, func(context.Context, control.StopRequest) (control.ReplayState, error) {
		return control.ReplayState{}, errors.New("it was followed")
	}))()

	once := audit.NewFamily()
	stop := func() error {
		_, err := control.Ask[control.ReplayState](t.Context(), conn.NC, topology.Resolver, control.StopReplay, map[string]string{"once": once, "id": "1", "by": "j@pc"})
		return err
	}
	stream, err := conn.JS.Stream(t.Context(), topology.StreamAudit)
	require.NoError(t, err)

	settings := stream.CachedInfo().Config
	settings.MaxMsgSize = 1 // it accepts nothing, as with a full disk
	_, err = conn.JS.UpdateStream(t.Context(), settings)
	require.NoError(t, err)
	require.ErrorContains(t, stop(), "cannot be recorded")

	settings.MaxMsgSize = -1
	_, err = conn.JS.UpdateStream(t.Context(), settings)
	require.NoError(t, err)
	require.ErrorContains(t, stop(), "if it has nothing, nothing was done")
	require.Empty(t, entries(t, conn))
}

// TestAnOrderWithAnIdIsFollowedOnce: whichever instance receives it again and whatever it then says, and even if it was
// refused. The order's parts are found by the id.
func TestAnOrderWithAnIdIsFollowedOnce(t *testing.T) {
	t.Parallel()

	conn := provisioned(t)
	followed := 0
	for range 2 {
		defer serve(t, conn.NC, control.On(control.StopReplay, func(_ context.Context, req control.StopRequest) (control.ReplayState, error) {
			followed++

			if req.ID == "" {
				return control.ReplayState{}, control.Refuse("no such replay")
			}

			return control.ReplayState{ID: req.ID}, nil
		}))()
	}

	stop := func(once, id string) error {
		_, err := control.Ask[control.ReplayState](t.Context(), conn.NC, topology.Resolver, control.StopReplay, map[string]string{"once": once, "id": id, "by": "j@pc"})
		return err
	}
	family, other := audit.NewFamily(), audit.NewFamily()
	require.NoError(t, stop(family, "1"))
	require.NoError(t, stop(audit.Member(family, 1), "2"))
	require.ErrorContains(t, stop(other, ""), "no such replay")

	for range 4 {
		require.ErrorContains(t, stop(family, "3"), "was given already")
		require.ErrorContains(t, stop(other, "3"), "was given already")
	}

	require.ErrorContains(t, stop("twice", "4"), "must be a UUID")
	require.Equal(t, 3, followed)
	require.Len(t, entries(t, conn), 6)

	found, err := audit.Find(t.Context(), conn.JS, family)
	require.NoError(t, err)
	require.Len(t, found, 2)

	for i, part := range found {
		require.Equal(t, audit.Member(family, i), part.ID)
		require.Equal(t, audit.OK, part.Outcome)
		require.Contains(t, string(part.What.Request), `"by":"j@pc"`)
		require.NotEmpty(t, part.Answer.Result)
	}

	found, err = audit.Find(t.Context(), conn.JS, audit.NewFamily())
	require.NoError(t, err)
	require.Empty(t, found)
	_, err = audit.Find(t.Context(), conn.JS, "0")
	require.Error(t, err)
}
