package program

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// limitVariable makes TestMemoryLimit print the limit that it sees.
const limitVariable = "BOBOSYNC_PRINT_MEMORY_LIMIT"

// TestMemoryLimit: a program in a control group sees its limit, with either version of control groups.
func TestMemoryLimit(t *testing.T) {
	if os.Getenv(limitVariable) != "" {
		fmt.Printf("limit=%d\n", MemoryLimit())
		return
	}

	t.Parallel()

	const limit = 192 << 20
	group := ""
	for parent, file := range map[string]string{"/sys/fs/cgroup": "memory.max", "/sys/fs/cgroup/memory": "memory.limit_in_bytes"} {
		dir := filepath.Join(parent, fmt.Sprint("bobosync-test-", os.Getpid()))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}

		t.Cleanup(func() { require.NoError(t, os.Remove(dir)) })

		f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0) // exists only if this is a memory control group
		if err != nil {
			continue
		}

		_, err = f.WriteString(strconv.Itoa(limit))
		require.NoError(t, errors.Join(err, f.Close()))

		group = dir
	}

	if group == "" {
		t.Skip("no control group with a limit can be made here: that takes root")
	}

	inside := exec.CommandContext(t.Context(), "sh", "-c", `echo $$ >"$0/cgroup.procs" || exit 77; exec "$@"`, group, os.Args[0], "-test.run", "^TestMemoryLimit$")

	inside.Env = append(os.Environ(), limitVariable+"=1")
	out, err := inside.CombinedOutput()
	if inside.ProcessState.ExitCode() == 77 {
		t.Skipf("no process can be put into a control group here: %s", out)
	}

	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), fmt.Sprintf("limit=%d\n", limit))
}
