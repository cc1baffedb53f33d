package check_test

import (
	"bufio"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// notSettings matches variables of other programs: Go's runtime, the broker's configuration, the simulator.
var notSettings = regexp.MustCompile(`^(GOMEMLIMIT|NATS_STORE_DIR|NATS_TLS_.*|NATS_ROUTES|NATS_SERVER_NAME|NATS_KEYS|ATHOCSIM_.*|BOBOSYNC_.*|PUBLISHER_STOP_TIME)$`)

// knownSettings returns the variables that .env.example explains.
func knownSettings(t *testing.T) map[string]bool {
	f, err := os.Open("../../.env.example")
	require.NoError(t, err)

	defer f.Close()

	known := map[string]bool{}
	name := regexp.MustCompile(`^(?:# )?([A-Z][A-Z0-9_]+)=`)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if m := name.FindStringSubmatch(lines.Text()); m != nil {
			known[m[1]] = true
		}
	}

	require.NoError(t, lines.Err())
	require.True(t, known["ATHOC_SERVER_URL"])

	return known
}

// requireKnown checks that programs read a variable. Setting one that nobody reads is a mistake that nothing else
// would show.
func requireKnown(t *testing.T, known map[string]bool, where, name string) {
	t.Helper()

	if !notSettings.MatchString(name) {
		require.True(t, known[name] || known[strings.TrimSuffix(name, "_FILE")], "%s sets %s, which no program reads", where, name)
	}
}
