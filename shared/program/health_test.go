package program_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/bustest"
)

// TestHealthcheck: the program itself asks the running one, knowing only HTTP_ADDR. A program that waits for its broker
// is alive, but not ready.
func TestHealthcheck(t *testing.T) {
	addr := bustest.FreeAddr(t)
	env := []string{"HTTP_ADDR=" + addr}
	check := func(env []string) (int, string) {
		cmd := command(t, "ends", env, "-healthcheck")
		out, _ := cmd.CombinedOutput() // the exit status says it
		return cmd.ProcessState.ExitCode(), string(out)
	}
	status, text := check(nil)
	require.Equal(t, 1, status)
	require.Contains(t, text, "HTTP_ADDR is not set")
	status, text = check([]string{"HTTP_ADDR=nonsense"})
	require.Equal(t, 2, status)
	require.Contains(t, text, "HTTP_ADDR: must be host:port")
	status, text = check(env)
	require.Equal(t, 1, status)
	require.Contains(t, text, "tester: ask for the health")

	running := command(t, "waits", append(env, "NATS_URL=nats://"+bustest.FreeAddr(t)))
	var log strings.Builder
	running.Stderr = &log
	require.NoError(t, running.Start())
	await.True(t, func() bool {
		status, _ := check(env)
		return status == 0
	}, time.Minute)
	code, answer := get(t, "http://"+addr+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "starting: not connected to the broker\n", answer)
	require.NoError(t, running.Process.Signal(syscall.SIGTERM))
	require.NoError(t, running.Wait(), "it was told to stop while it waited: %s", &log)
	require.Contains(t, log.String(), "metrics and health are served")

	_, err := http.Get("http://" + addr + "/healthz")
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
}

func TestAnAddressThatCannotBeServed(t *testing.T) {
	cmd := command(t, "ends", []string{"HTTP_ADDR=192.0.2.1:80", "NATS_URL=nats://" + bustest.FreeAddr(t)})
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, string(out), "HTTP_ADDR")
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)

	defer resp.Body.Close()

	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)

	return resp.StatusCode, string(text)
}
