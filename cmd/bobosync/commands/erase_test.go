package commands

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/control"
	"bobosync/shared/erase"
)

// TestTheCommandToScrubIsSafe checks the command line that an operator should run on the broker's servers. The
// usernames of AtHoc's users in it must reach the command unchanged, whatever a shell would make of them: the shell
// once ran a `$(...)` in a name.
func TestTheCommandToScrubIsSafe(t *testing.T) {
	t.Parallel()

	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("there is no shell")
	}

	names := []string{"12 345", "$(echo owned)", "`echo owned`", "o'neil", `a"b\c`, "$HOME", "-x", "müller"}
	args := scrubArgs(control.Scrub(erase.Names{Employee: names[0], Users: names[1:]}, map[string]uint64{"ACKS": 4711, "ENTRIES": 815}))
	out, err := exec.Command("sh", "-c", `printf '%s\n' `+args).Output()
	require.NoError(t, err)

	want := []string{"--through", "ACKS=4711,ENTRIES=815", "--"}
	require.Equal(t, append(want, names...), strings.Split(strings.TrimSuffix(string(out), "\n"), "\n"))
}
