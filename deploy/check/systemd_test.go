package check_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/topology"
)

// TestSystemdTakesTheUnits lets systemd load the units and rate how little they allow the programs to do: at most 2.0
// of 10 points of exposure.
func TestSystemdTakesTheUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}

	// Use another root directory, because the programs are not installed here.
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

// TestEachServiceHasAUserAndItsOwnKey checks that no service can read what belongs to another, and that only services
// that call AtHoc get AtHoc's secrets.
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

// TestTheUnitsCanBeInstalledAsTheySay runs, in another root directory, the install commands at the beginning of the
// units. They must not copy the keys that count as root at the broker to the services' machine.
func TestTheUnitsCanBeInstalledAsTheySay(t *testing.T) {
	command := regexp.MustCompile(`(?m)^#   (install (?:\S+ ?)+)`)
	for _, unit := range []string{"bobosync.service", "bobosync@.service", "bobosync-provision.service", "console.conf"} {
		root, source := t.TempDir(), t.TempDir()
		for _, dir := range []string{"usr/local/bin", "usr/local/lib", "usr/lib/sysusers.d", "etc/systemd/system"} { // every machine has these
			require.NoError(t, os.MkdirAll(filepath.Join(root, dir), 0o755))
		}

		require.NoError(t, os.CopyFS(filepath.Join(source, "deploy/systemd"), os.DirFS("../systemd")))

		stubs := []string{".env"}
		for _, program := range []string{"bobosync", "ingest", "resolver", "publisher", "janitor", "console"} {
			stubs = append(stubs, "bin/"+program)
		}

		for _, u := range topology.Users() {
			stubs = append(stubs, "deploy/nats/creds/"+u.Name+".nk")
		}

		for _, stub := range stubs {
			require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(source, stub)), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(source, stub), nil, 0o600))
		}

		text, err := os.ReadFile("../systemd/" + unit)
		require.NoError(t, err)

		commands := command.FindAllStringSubmatch(string(text), -1)
		require.NotEmpty(t, commands, unit)

		for _, c := range commands {
			line := strings.NewReplacer(" /", " "+root+"/", " -g bobosync", "", "&& systemd-sysusers", "").Replace(c[1])
			cmd := exec.Command("bash", "-c", line)
			cmd.Dir = source
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s: %s", unit, c[1], out)
		}

		if unit == "bobosync@.service" {
			for _, service := range []string{"ingest", "resolver", "publisher", "janitor"} {
				require.FileExists(t, filepath.Join(root, "etc/bobosync", service+".nk"))
				require.FileExists(t, filepath.Join(root, "usr/local/lib/bobosync", service))
			}

			for _, other := range []string{"provision", "backup"} {
				require.NoFileExists(t, filepath.Join(root, "etc/bobosync", other+".nk"))
			}
		}
	}
}
