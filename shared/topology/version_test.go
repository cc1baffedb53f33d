package topology_test

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"bobosync/shared/topology"
)

func TestServersThatKeepWhatTheyAcknowledge(t *testing.T) {
	t.Parallel()

	for version, want := range map[string]bool{
		"2.12.0": false, "2.12.14": false, "2.14.0": false, "2.14.5": false, "2.14.6": true, "v2.14.5": false, "v2.14.6": true, "2.14.6-RC.1": false, "2.14.10": true, "2.15.0-RC.1": true, "3.0.0": true,
		"2.10.29": false, "2.13.99": false, "2.14.06": true, "2.14.6-beta.2": false, "v2.14.6-preview.1": false, "2.14.7-RC.1": true, "2.14.60": true, "10.0.0": true,
		"2.14.6+build-7": true, "2.14.6-RC.1+build": false, "2.14.5+build": false,
		"1.99.99": false, "dev": true, "": true,
	} {
		require.Equal(t, want, topology.ServerIsSafe(version), version)
	}

	require.True(t, topology.ServerIsSafe(server.VERSION), "the broker inside, and that of the image")
}
