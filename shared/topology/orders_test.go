package topology_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/topology"
)

// TestWhatPeopleMayChange: whatever an operator's key allows, by whatever program (commands, the console, tools of
// NATS), either changes nothing or is a request to an endpoint whose orders and reads of a person's past are recorded.
// The exceptions are AtHoc's token and the console's ended sessions. A viewer's key allows no request that is recorded,
// since viewers give no orders, and writes nothing at all.
func TestWhatPeopleMayChange(t *testing.T) {
	t.Parallel()

	reads := []string{
		"$JS.API.INFO", "$JS.API.STREAM.INFO.", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES", "$JS.API.CONSUMER.INFO.", "$JS.API.CONSUMER.LIST.", "$JS.API.CONSUMER.NAMES.",
		"$JS.API.DIRECT.GET.", "$SRV.", "$SYS.REQ.USER.INFO", topology.SubjectServers,
	}
	writes := []string{"$KV.bobo_state.athoc.token.*", "$KV.bobo_leases.athoc.token.*", "$KV.bobo_state." + topology.KeyConsoleEnded}
	orders := map[string]bool{}
	for _, user := range topology.Users("jsmith") {
		_, own := topology.OperatorOf(user.Name)
		if !own && user.Name != topology.UserOperator && user.Name != topology.UserViewer {
			continue
		}

		for _, subject := range user.Publish {
			about := user.Name + " may publish " + subject
			if request, is := strings.CutPrefix(subject, "bobo.control."); is {
				service, endpoint, _ := strings.Cut(request, ".")
				kind := topology.KindOf(topology.Service(service), endpoint)
				require.Contains(t, []topology.EndpointKind{topology.Reading, topology.Ordering}, kind, about)

				if kind == topology.Ordering || topology.IsAuditedRead(topology.Service(service), endpoint) {
					require.NotEqual(t, topology.UserViewer, user.Name, about)

					orders[request] = true
				}

				continue
			}

			reading := false
			for _, prefix := range reads {
				reading = reading || strings.HasPrefix(subject, prefix)
			}

			if !reading {
				require.NotEqual(t, topology.UserViewer, user.Name, about)
				require.Contains(t, writes, subject, about)
			}
		}
	}

	require.Greater(t, len(orders), 12)
}
