package commands

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/topology"
)

// provisioner calls bobosync provision against a broker.
type provisioner struct {
	t    *testing.T
	conn *bus.Conn
}

func newProvisioner(t *testing.T) *provisioner {
	t.Helper()
	srv := bustest.Start(t)
	t.Setenv("NATS_URL", srv.ClientURL())
	return &provisioner{t: t, conn: srv.Connect(t)}
}

// call runs the command, which must exit with this status and print this text.
func (p *provisioner) call(status int, says string, args ...string) {
	p.t.Helper()
	out, text, got := callHere(p.t, append([]string{"provision"}, args...)...)
	require.Equal(p.t, status, got, "%s%s", out, text)
	require.Contains(p.t, out+text, says)
}

func (p *provisioner) stream(name string) *jetstream.StreamInfo {
	p.t.Helper()
	s, err := p.conn.JS.Stream(p.t.Context(), name)
	require.NoError(p.t, err)
	return s.CachedInfo()
}

// update changes a stream without the command.
func (p *provisioner) update(name string, change func(*jetstream.StreamConfig)) {
	p.t.Helper()
	config := p.stream(name).Config
	change(&config)
	_, err := p.conn.JS.UpdateStream(p.t.Context(), config)
	require.NoError(p.t, err)
}

func TestProvisionMakesWhatIsMissing(t *testing.T) {
	p := newProvisioner(t)
	p.call(1, "stream ENTRIES is missing", "--dry-run")
	_, err := p.conn.JS.Stream(t.Context(), topology.StreamEntries)
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound, "a dry run makes nothing")

	p.call(0, "Everything is as wanted.")
	made := p.stream(topology.StreamEntries).Created
	p.call(0, "consumer publisher-7 is as wanted")
	p.call(0, "does not say whether it syncs", "--dry-run")
	require.Equal(t, made, p.stream(topology.StreamEntries).Created)
}

func TestProvisionChangesWhatDiffers(t *testing.T) {
	p := newProvisioner(t)
	p.call(0, "Everything is as wanted.")
	p.update(topology.StreamEntries, func(c *jetstream.StreamConfig) { c.MaxBytes, c.Metadata = 1<<20, map[string]string{"site": "north"} })
	p.call(1, "max bytes is 1048576, wanted 2147483648", "--dry-run")
	require.EqualValues(t, 1<<20, p.stream(topology.StreamEntries).Config.MaxBytes)
	p.call(0, "1 parts were made or changed.")
	have := p.stream(topology.StreamEntries).Config
	require.EqualValues(t, 2<<30, have.MaxBytes)
	require.Equal(t, "north", have.Metadata["site"], "what somebody else has set stays")
}

// TestProvisionDropsNothing checks that a limit that would drop messages is left as it is, while everything else is
// changed.
func TestProvisionDropsNothing(t *testing.T) {
	p := newProvisioner(t)
	p.call(0, "Everything is as wanted.")
	p.update(topology.StreamUpdates, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject, c.AllowAtomicPublish = 2, false })

	for range 2 {
		_, err := p.conn.JS.Publish(t.Context(), topology.UpdatesSubject("somebody@example.org"), nil)
		require.NoError(t, err)
	}

	p.call(1, "it could drop messages: 2 are stored under 1 subjects")
	have := p.stream(topology.StreamUpdates)
	require.EqualValues(t, 2, have.State.Msgs)
	require.True(t, have.Config.AllowAtomicPublish, "what can be changed is")
}

// TestProvisionCannotMendInPlace checks that a stream of another kind is reported and left alone.
func TestProvisionCannotMendInPlace(t *testing.T) {
	p := newProvisioner(t)
	_, err := p.conn.JS.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: topology.StreamAcks, Subjects: []string{topology.SubjectAcks}, Retention: jetstream.WorkQueuePolicy,
	})
	require.NoError(t, err)
	p.call(1, "retention is WorkQueue, wanted Limits; it stays so", "--dry-run")
}

// TestLeasesAreNotMadeShorterWhileHeld checks that the leases' time to live is not shortened in place: whoever holds a
// lease relies on the time that it was granted for.
func TestLeasesAreNotMadeShorterWhileHeld(t *testing.T) {
	p := newProvisioner(t)
	p.call(0, "Everything is as wanted.")
	kv, err := p.conn.JS.KeyValue(t.Context(), topology.BucketLeases)
	require.NoError(t, err)
	_, err = kv.Create(t.Context(), topology.PartitionLease(0), nil)
	require.NoError(t, err)
	t.Setenv("ATHOC_TIMEOUT", "10s")
	p.call(1, "max age is 33s, wanted 13s; it stays so: leases may be held")
	require.NoError(t, p.conn.JS.DeleteKeyValue(t.Context(), topology.BucketLeases))
	p.call(0, "bucket bobo_leases is missing")
	require.Equal(t, 13*time.Second, p.stream("KV_"+topology.BucketLeases).Config.MaxAge)
}

func TestProvisionAnswersInJSON(t *testing.T) {
	newProvisioner(t)
	out, text, status := callHere(t, "provision", "--dry-run", "--json")
	require.Equal(t, 1, status, text)
	var told provisioned
	require.NoError(t, json.Unmarshal([]byte(out), &told))
	require.Equal(t, server.VERSION, told.Version)
	require.False(t, told.AsWanted)
	require.Len(t, told.Resources, 8+3+13)
	require.True(t, told.Resources[0].Missing)
	require.Equal(t, topology.Ingest, told.Resources[0].Owner)
	t.Setenv("ATHOC_TIMEOUT", "1ms")
	_, _, status = callHere(t, "provision")
	require.Equal(t, 2, status)
}
