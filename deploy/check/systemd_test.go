package check_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSystemdTakesTheUnits lets systemd read the units, and judge how little they let the programs do: at most 2.0 of 10 points
// of exposure.
func TestSystemdTakesTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	// A root of its own, since the programs are not installed here.
	root := t.TempDir()
	for _, program := range []string{"usr/local/bin/bobosync", "usr/local/lib/bobosync/ingest", "usr/local/lib/bobosync/console"} {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, program)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(root, program), []byte("#!/bin/sh\n"), 0o755))
	}
	units := filepath.Join(root, "etc/systemd/system")
	require.NoError(t, os.MkdirAll(units, 0o755))
	for _, unit := range []struct{ from, to, dropIn string }{
		{"bobosync.service", "bobosync.service", "athoc.conf"}, {"bobosync@.service", "bobosync@ingest.service", "athoc.conf"},
		{"bobosync@.service", "bobosync@console.service", "console.conf"}, {"bobosync-provision.service", "bobosync-provision.service", ""},
	} {
		from, to := unit.from, unit.to
		text, err := os.ReadFile("../systemd/" + from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(units, to), text, 0o644))
		if unit.dropIn != "" {
			dropIn := filepath.Join(units, to+".d", unit.dropIn)
			require.NoError(t, os.MkdirAll(filepath.Dir(dropIn), 0o755))
			text, err := os.ReadFile("../systemd/" + unit.dropIn)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(dropIn, text, 0o644))
		}
		for _, args := range [][]string{
			{"verify", "--root=" + root, "--recursive-errors=no", "--man=no", filepath.Join(units, to)},
			{"security", "--root=" + root, "--offline=yes", "--threshold=20", "--no-pager", filepath.Join(units, to)},
		} {
			out, err := exec.Command(analyze, args...).CombinedOutput()
			require.NoError(t, err, "%s %v: %s", from, args, out)
		}
	}
}

// TestEachServiceHasAUserAndItsOwnKey: what one service reads is no other's, and AtHoc's secrets are shown to those that call AtHoc.
func TestEachServiceHasAUserAndItsOwnKey(t *testing.T) {
	users, err := os.ReadFile("../systemd/bobosync.sysusers")
	require.NoError(t, err)
	for _, service := range []string{"ingest", "resolver", "publisher", "janitor", "console", "provision"} {
		require.Contains(t, string(users), "\nu bobosync-"+service+" ")
	}
	for file, user := range map[string]string{"bobosync@.service": "bobosync-%i", "bobosync-provision.service": "bobosync-provision"} {
		unit, err := os.ReadFile("../systemd/" + file)
		require.NoError(t, err)
		for _, line := range []string{"User=" + user, "LimitCORE=0", "Environment=NATS_CREDS=%d/nats.nk"} {
			require.Contains(t, string(unit), "\n"+line, file)
		}
		require.NotContains(t, string(unit), "\nLoadCredential=password", file)
	}
}
