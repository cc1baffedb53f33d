package nats_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/deploy/nats/setup"
	"bobosync/shared/await"
	"bobosync/shared/topology"
)

// TestTheOldRightsAreReplacedWhileItRuns checks that a broker with the rights from before accounts can load the new
// ones: a service that keeps publishing goes on within a minute, what is stored remains, and the old boundary is
// gone.
func TestTheOldRightsAreReplacedWhileItRuns(t *testing.T) {
	t.Parallel()
	in := install(t)
	file := filepath.Join(in.dir, setup.AccountsFile)
	wanted, err := os.ReadFile(file)
	require.NoError(t, err)
	old, err := os.ReadFile("testdata/accounts-8e1707d.conf")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, old, 0o600))
	program := in.program(t)
	ingest := in.login(t, "ingest")
	_, err = ingest.JS.CreateStream(t.Context(), settings.Streams()[0])
	require.NoError(t, err, "a service made its streams itself")
	require.Equal(t, topology.StreamEntries, settings.Streams()[0].Name)

	publish := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()

		_, err := ingest.JS.Publish(ctx, topology.EntriesSubject("f00"), []byte("x"))

		return err
	}
	require.NoError(t, publish())

	began := time.Now()

	require.NoError(t, os.WriteFile(file, wanted, 0o600))
	in.reloadTwice(t, program)
	require.NoError(t, topology.Provision(t.Context(), in.login(t, topology.UserProvision).JS, settings, topology.Everyone))
	await.True(t, func() bool { return publish() == nil }, time.Minute-time.Since(began))
	t.Logf("it goes on after %s", time.Since(began))
	stream, err := ingest.JS.Stream(t.Context(), topology.StreamEntries)
	require.NoError(t, err)
	require.GreaterOrEqual(t, stream.CachedInfo().State.Msgs, uint64(2), "what was there is there")
	config := stream.CachedInfo().Config
	config.Description = "mine"

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()

	_, err = ingest.JS.UpdateStream(ctx, config)
	require.Error(t, err, "it changes no stream any more")
}
