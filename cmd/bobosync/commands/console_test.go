package commands

import (
	"bytes"
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"bobosync/shared/login"
)

// TestConsolePasswd checks that the console can read the printed line, and that the password is in no output.
func TestConsolePasswd(t *testing.T) {
	const password = "correct horse battery"
	line, text, status := typing(t, password+"\r\n", "console", "passwd", "j.smith", "--role", "operator")
	require.Equal(t, 0, status, text)
	require.NotContains(t, line+text, password)
	users, err := login.ReadUsers([]byte(line))
	require.NoError(t, err)
	require.Equal(t, "operator", users["j.smith"].Role)
	require.True(t, users["j.smith"].Matches(password))

	for input, args := range map[string][]string{
		"short\n":      {"console", "passwd", "j.smith"},
		"":             {"console", "passwd", "j.smith"},
		password:       {"console", "passwd", "j smith"},
		password + "1": {"console", "passwd", "j.smith", "--role", "root"},
		password + "2": {"console", "passwd"},
	} {
		out, _, status := typing(t, input, args...)
		require.NotEqual(t, 0, status, "%v", args)
		require.Empty(t, out)
	}
}

// TestConsoleOpen checks that a console with the same data directory accepts the link.
func TestConsoleOpen(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DATA_DIRECTORY", dir)
	_, text, status := callHere(t, "console", "open")
	require.Equal(t, 1, status)
	require.Contains(t, text, "no console that is opened by links runs")

	links, err := login.NewLinks(dir, "http://127.0.0.1:8470")
	require.NoError(t, err)
	out, text, status := callHere(t, "console", "open")
	require.Equal(t, 0, status, text)

	link, err := url.Parse(strings.TrimSpace(out))
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:8470", link.Host)
	name, ok := links.Use(link.Query().Get("t"), time.Now())
	require.True(t, ok)
	require.Contains(t, name, "@")
}

// typing runs a command with the given input.
func typing(t *testing.T, input string, args ...string) (out, text string, status int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	root := Root(func(*string) []*cobra.Command { return nil })
	root.SetArgs(args)
	root.SetIn(strings.NewReader(input))
	root.SetOut(&stdout)
	root.SetErr(&stderr)

	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()

	status = Execute(ctx, root)

	return stdout.String(), stderr.String(), status
}
