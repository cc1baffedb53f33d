package main

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bobosync/cmd/athocsim/sim"

	"github.com/stretchr/testify/require"
)

func lookupIn(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

func TestRunServesUntilStopped(t *testing.T) {
	dir := t.TempDir()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	var out, errs bytes.Buffer
	code := make(chan int, 1)
	addrFile, envFile := filepath.Join(dir, "addr"), filepath.Join(dir, "env")
	go func() {
		code <- run(ctx, []string{"-listen", "127.0.0.1:0", "-addr-file", addrFile, "-env-file", envFile, "-users", "7"},
			lookupIn(map[string]string{"ATHOCSIM_PASSWORD": "hush $1", "ATHOCSIM_ORG": "MYORG"}), &out, &errs)
	}()

	require.Eventually(t, func() bool { _, err := os.Stat(addrFile); return err == nil }, 10*time.Second, 2*time.Millisecond)

	addr, err := os.ReadFile(addrFile)
	require.NoError(t, err)

	base := "http://" + strings.TrimSpace(string(addr))
	res, err := http.Get(base + "/sim/users")
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, 200, res.StatusCode)
	cancel()
	require.Equal(t, 0, <-code)
	require.Contains(t, out.String(), "7 users in organization MYORG")
	require.Contains(t, out.String(), "ATHOC_SERVER_URL="+base+"\n")
	require.Contains(t, out.String(), "CLIENT_SECRET="+sim.DefaultClientSecret+"\n")
	require.NotContains(t, out.String()+errs.String(), "hush")

	env, err := os.ReadFile(envFile)
	require.NoError(t, err)
	require.Contains(t, string(env), "PASSWORD='hush $1'\n")
}

func TestConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		args []string
		env  map[string]string
		want string
	}{
		{[]string{"-nonsense"}, nil, "nonsense"},
		{[]string{"serve"}, nil, "everything is a flag"},
		{nil, map[string]string{"ATHOCSIM_USERS": "x", "ATHOCSIM_LATENCY": "y"}, "ATHOCSIM_LATENCY"},
		{nil, map[string]string{"ATHOCSIM_USERS": "x", "ATHOCSIM_LATENCY": "y"}, "ATHOCSIM_USERS"},
		{nil, map[string]string{"ATHOCSIM_PASSWORD_FILE": "/nonexistent"}, "ATHOCSIM_PASSWORD_FILE"},
		{[]string{"-users", "-1"}, nil, "-users -1"},
		{[]string{"-users-file", "/nonexistent.csv"}, nil, "reading users"},
		{[]string{"-log-format", "xml"}, nil, "-log-format"},
	} {
		var errs bytes.Buffer
		require.Equal(t, 2, run(t.Context(), tc.args, lookupIn(tc.env), &errs, &errs))
		require.Contains(t, errs.String(), tc.want)
	}

	var errs bytes.Buffer
	require.Equal(t, 1, run(t.Context(), []string{"-listen", "nowhere"}, lookupIn(nil), &errs, &errs))
	require.Contains(t, errs.String(), "listening on nowhere")
	require.Equal(t, 0, run(t.Context(), []string{"-help"}, lookupIn(nil), &errs, &errs))
}

func TestFlagsBeatTheEnvironment(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("from file\n"), 0o600))
	c, err := parseConfig([]string{"-org", "FLAG", "-attribute", "A:date,B", "-latency", "5ms"}, lookupIn(map[string]string{
		"ATHOCSIM_ORG": "ENV", "ATHOCSIM_CLIENT_SECRET_FILE": secret, "ATHOCSIM_MANY_TOKENS": "true", "ATHOCSIM_TLS_HOSTS": "a,b",
	}), &bytes.Buffer{})
	require.NoError(t, err)
	require.Equal(t, "FLAG", c.options.OrgCode)
	require.Equal(t, "from file", c.options.ClientSecret)
	require.True(t, c.options.Settings.ManyTokens)
	require.Equal(t, sim.Duration(5*time.Millisecond), c.options.Settings.Latency.Fixed)
	require.Equal(t, []sim.Attribute{{Name: "A", Type: "date"}, {Name: "B", Type: "string"}}, c.options.Attributes)
	require.Equal(t, []string{"a", "b"}, c.options.TLSHosts)
	require.Len(t, c.options.Users, 100)
}
