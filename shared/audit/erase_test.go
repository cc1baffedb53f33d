package audit_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/audit"
	"bobosync/shared/erase"
	"bobosync/shared/topology"
)

// TestAWorkerIsErasedAndTheChainsVerify: what names the worker is gone from the details of all services, everything
// else in them remains, the chains verify, and nobody can pass off another change as that erasure.
func TestAWorkerIsErasedAndTheChainsVerify(t *testing.T) {
	t.Parallel()
	js := store(t)
	order(t, js, topology.Resolver, "0007")
	order(t, js, topology.Janitor, "all but j.bond")
	order(t, js, topology.Publisher, "all")

	bond := erase.Names{Employee: "0007", Users: []string{"J.Bond"}}

	log := audit.NewLog(js, topology.Resolver)
	id, err := log.Append(t.Context(), audit.Record{Endpoint: audit.EndpointErase, Kind: audit.Order},
		audit.Detail{Request: json.RawMessage(`{"employee":"0007","reason":"asked for"}`)})
	require.NoError(t, err)
	n, err := audit.Erase(t.Context(), js, bond, id)
	require.NoError(t, err)
	require.Equal(t, 3, n, "two orders, and that to erase")
	require.Empty(t, audit.Verify(load(t, js), nil, time.Now()), "it may be that the service was killed by now")

	result, err := json.Marshal(audit.Erased{Redacted: n})
	require.NoError(t, err)
	_, err = log.Append(t.Context(), audit.Record{Endpoint: audit.EndpointErase, Kind: audit.Result, Order: id, Outcome: audit.OK}, audit.Detail{Result: result})
	require.NoError(t, err)

	chains := load(t, js)
	require.Empty(t, audit.Verify(chains, nil, time.Now()))

	for _, e := range chains.Entries() {
		require.NotNil(t, e.What)
		data, err := json.Marshal(e)
		require.NoError(t, err)
		require.False(t, bond.MentionedIn(data), "%s", data)

		if e.ID == id {
			require.JSONEq(t, `{"employee":"(erased)","reason":"asked for"}`, string(e.What.Request))
			require.Empty(t, e.What.Salt)
		}
	}

	again, err := audit.Erase(t.Context(), js, bond, id)
	require.NoError(t, err)
	require.Zero(t, again)

	kv, err := js.KeyValue(t.Context(), topology.BucketAudit)
	require.NoError(t, err)

	for _, by := range []string{id, "nobody's order"} {
		forge(t, js, kv, by)
		found := audit.Verify(load(t, js), nil, time.Now())
		require.Len(t, found, 1)
		require.Contains(t, found[0].Text, "no order to erase accounts for that")
	}
}

// forge marks a detail of one of the publisher's orders as erased by the given order.
func forge(t *testing.T, js jetstream.JetStream, kv jetstream.KeyValue, by string) {
	t.Helper()

	for _, e := range load(t, js).Entries() {
		if e.Service == string(topology.Publisher) && e.Kind == audit.Order {
			data, err := json.Marshal(audit.Detail{Request: json.RawMessage(`"none"`), Erased: by})
			require.NoError(t, err)
			_, err = kv.Put(t.Context(), topology.AuditDetail(topology.Publisher, e.ID), data)
			require.NoError(t, err)
		}
	}
}
