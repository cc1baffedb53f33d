package check_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

// load reads compose files as `docker compose config` does, and checks them against the compose specification.
func load(t *testing.T, profiles []string, env []string, files ...string) (*types.Project, error) {
	for i := range files {
		files[i] = "../" + files[i]
	}

	o, err := cli.NewProjectOptions(files, cli.WithEnv(env), cli.WithEnvFiles("../try.env"), cli.WithDotEnv, cli.WithProfiles(profiles), cli.WithResolvedPaths(true))
	require.NoError(t, err)

	return o.LoadProject(t.Context())
}

var someVersion = []string{"BOBOSYNC_VERSION=v1"}

func TestComposeFilesKeepTheRules(t *testing.T) {
	known := knownSettings(t)
	for name, files := range map[string][]string{
		"one broker":                 {"compose.yaml"},
		"three brokers":              {"compose.yaml", "compose.cluster.yaml"},
		"with the simulator":         {"compose.yaml", "compose.try.yaml"},
		"three brokers to try it on": {"compose.yaml", "compose.cluster.yaml", "compose.try.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := load(t, []string{"*"}, someVersion, files...)
			require.NoError(t, err)

			for _, s := range p.Services {
				checkService(t, known, s)
			}

			for _, want := range []string{"nats", "provision", "ingest", "resolver", "publisher", "janitor", "operator"} {
				require.Contains(t, p.Services, want)
			}
		})
	}
}

func checkService(t *testing.T, known map[string]bool, s types.ServiceConfig) {
	t.Helper()
	require.True(t, s.ReadOnly, "%s: read_only", s.Name)
	require.Equal(t, []string{"ALL"}, s.CapDrop, "%s: cap_drop", s.Name)
	require.Contains(t, s.SecurityOpt, "no-new-privileges:true", s.Name)
	require.Positive(t, int64(s.MemLimit), "%s: mem_limit", s.Name)
	require.Empty(t, s.ContainerName, "%s: a name of its own would keep it from being scaled", s.Name)
	require.Empty(t, s.User, "%s: the image says who", s.Name)

	mounted := map[string]bool{}
	for _, secret := range s.Secrets {
		mounted["/run/secrets/"+secret.Source] = true
	}

	for name, value := range s.Environment {
		requireKnown(t, known, s.Name, name)

		if value != nil && strings.HasPrefix(*value, "/run/secrets/") {
			require.True(t, mounted[*value], "%s: %s is at %s, where no secret is mounted", s.Name, name, *value)
		}
	}

	if s.Name != "athocsim" {
		require.Empty(t, s.Ports, "%s: nothing is open to other machines", s.Name)
	}
}

// TestPublisherStopsAfterItsCall checks that a call with the default ATHOC_TIMEOUT of 30s can end before the engine
// kills the container.
func TestPublisherStopsAfterItsCall(t *testing.T) {
	p, err := load(t, nil, someVersion, "compose.yaml")
	require.NoError(t, err)

	for _, name := range []string{"publisher", "janitor"} {
		require.Greater(t, time.Duration(*p.Services[name].StopGracePeriod), 40*time.Second, name)
	}
}

// TestOnlyCallersOfAtHocGetOut checks that the broker's network has no way out, and that services that do not call
// AtHoc are on no other.
func TestOnlyCallersOfAtHocGetOut(t *testing.T) {
	p, err := load(t, []string{"*"}, someVersion, "compose.yaml", "compose.cluster.yaml", "compose.try.yaml")
	require.NoError(t, err)
	require.True(t, p.Networks["broker"].Internal)

	for _, s := range p.Services {
		_, out := s.Networks["outside"]
		require.Equal(t, s.Name == "publisher" || s.Name == "janitor" || s.Name == "athocsim", out, s.Name)
		_, secret := s.Environment["PASSWORD_FILE"]
		require.Equal(t, s.Name == "publisher" || s.Name == "janitor", secret, "%s: AtHoc's password", s.Name)
	}
}

// TestClusterTalksToAllBrokers checks that everybody knows all three brokers, and that streams are replicated to all
// of them.
func TestClusterTalksToAllBrokers(t *testing.T) {
	p, err := load(t, []string{"*"}, someVersion, "compose.yaml", "compose.cluster.yaml")
	require.NoError(t, err)

	for _, name := range []string{"provision", "ingest", "resolver", "publisher", "janitor", "operator"} {
		require.Equal(t, 3, strings.Count(*p.Services[name].Environment["NATS_URL"], "tls://nats"), name)
		require.Equal(t, "3", *p.Services[name].Environment["STREAM_REPLICAS"], name)
	}

	stores := map[string]bool{}
	for _, name := range []string{"nats", "nats-1", "nats-2"} {
		require.Len(t, p.Services[name].Volumes, 1, name)
		stores[p.Services[name].Volumes[0].Source] = true
		require.Contains(t, *p.Services[name].Environment["NATS_ROUTES"], "nats://"+name+":6222")
	}

	require.Len(t, stores, 3, "each has a store of its own")
}

func TestComposeSaysWhatIsMissing(t *testing.T) {
	_, err := load(t, nil, nil, "compose.yaml")
	require.ErrorContains(t, err, "BOBOSYNC_VERSION")

	for _, name := range []string{"BOBO_TIMEZONE", "ATHOC_TIMEZONE", "BOBOSYNC_FILES"} {
		_, err := load(t, nil, append([]string{name + "="}, someVersion...), "compose.yaml")
		require.ErrorContains(t, err, name)
	}
}

var withConsole = append([]string{"CONSOLE_URL=https://bobosync.example.org"}, someVersion...)

// TestTheConsoleIsReachedFromThisMachineAlone checks that the console is reached only through a proxy on this
// machine, and that it has keys of its own.
func TestTheConsoleIsReachedFromThisMachineAlone(t *testing.T) {
	p, err := load(t, []string{"*"}, withConsole, "compose.yaml", "compose.console.yaml")
	require.NoError(t, err)

	s := p.Services["console"]
	require.Len(t, s.Ports, 1)
	require.Equal(t, "127.0.0.1", s.Ports[0].HostIP)
	require.Equal(t, ":"+strconv.Itoa(int(s.Ports[0].Target)), *s.Environment["CONSOLE_ADDR"])
	s.Ports = nil
	checkService(t, knownSettings(t), s)
	require.Equal(t, "/run/secrets/nats_viewer", *s.Environment["NATS_CREDS"], "it reads with a key that changes nothing")
	require.NotContains(t, s.Networks, "outside", "which is the way to AtHoc")

	for _, secret := range s.Secrets {
		require.NotContains(t, []string{"client_secret", "password", "nats_provision"}, secret.Source)
	}

	for _, name := range []string{"ingest", "publisher", "nats"} {
		require.NotContains(t, p.Services[name].Networks, "console", name)
	}

	_, err = load(t, nil, someVersion, "compose.yaml", "compose.console.yaml")
	require.ErrorContains(t, err, "CONSOLE_URL")
	alone, err := load(t, []string{"*"}, append([]string{"CONSOLE_USERS_FILE="}, withConsole...), "compose.yaml", "compose.console.yaml")
	require.NoError(t, err)
	require.Empty(t, *alone.Services["console"].Environment["CONSOLE_USERS_FILE"])

	const all = "tls://nats:4222,tls://nats-1:4222,tls://nats-2:4222" // as docs/deploy.md has it
	three, err := load(t, []string{"*"}, append([]string{"NATS_URL=" + all}, withConsole...), "compose.yaml", "compose.cluster.yaml", "compose.console.yaml")
	require.NoError(t, err)
	require.Equal(t, all, *three.Services["console"].Environment["NATS_URL"])
	require.Equal(t, all, *three.Services["ingest"].Environment["NATS_URL"])
}
