package athoc

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func reachClient(t *testing.T, cfg Config) *Client {
	t.Helper()

	cfg.OrgCode, cfg.ClientID, cfg.ClientSecret, cfg.Username, cfg.Password = "o", "c", "s", "u", "p"
	c, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(c.Close)

	return c
}

func TestReachTellsTheClockAndSendsNoCredentials(t *testing.T) {
	at := time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead || r.Header.Get("Authorization") != "" {
			t.Errorf("%s with authorization %q", r.Method, r.Header.Get("Authorization"))
		}

		w.Header().Set("Date", at.Format(http.TimeFormat))
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()

	c := reachClient(t, Config{ServerURL: server.URL})
	reached, err := c.Reach(t.Context())
	require.NoError(t, err)
	require.Equal(t, Reached{Status: http.StatusNotFound, Date: at}, reached)

	host, err := c.ProxyHost()
	require.NoError(t, err)
	require.Empty(t, host)
}

func TestReachNamesARefusingProxy(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer proxy.Close()

	c := reachClient(t, Config{ServerURL: "https://alerts.example.org", HTTPSProxy: proxy.URL})
	_, err := c.Reach(t.Context())
	status, ok := ProxyRefusal(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, http.StatusForbidden, status)

	host, err := c.ProxyHost()
	require.NoError(t, err)
	require.Equal(t, proxy.Listener.Addr().String(), host)
}

func TestReachEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())

	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()

	_, err := reachClient(t, Config{ServerURL: server.URL}).Reach(ctx)
	call, ok := errors.AsType[*CallError](err)
	require.True(t, ok)
	require.Equal(t, Canceled, call.Kind)
	require.Equal(t, OpReach, call.Op)
}
