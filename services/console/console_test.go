package console

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/await"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/login"
	"bobosync/shared/program"
)

// TestALinkOpensTheConsole checks that a link opens the console as it is served, even while there is no broker, and
// that the console stops serving when the program ends.
func TestALinkOpensTheConsole(t *testing.T) {
	t.Parallel()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	cfg := Config{Addr: bustest.FreeAddr(t), Data: config.Data{Directory: t.TempDir()}, Auth: auth.Config{Mode: auth.ModeLink}}
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg, program.Deps{Log: slog.New(slog.DiscardHandler)}) }()

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)

	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	base := "http://" + cfg.Addr
	status := func(req *http.Request) int {
		res, err := browser.Do(req)
		if err != nil {
			return 0
		}
		defer res.Body.Close()

		_, err = io.Copy(io.Discard, res.Body)
		require.NoError(t, err)

		return res.StatusCode
	}
	get := func(path string) int {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		require.NoError(t, err)
		return status(req)
	}
	await.True(t, func() bool { return get("/login") == http.StatusOK }, time.Minute)
	require.Equal(t, http.StatusUnauthorized, session(t, ctx, base, status))

	link, err := login.NewLink(cfg.Data.Directory, "jo", time.Now())
	require.NoError(t, err)
	u, err := url.Parse(link)
	require.NoError(t, err)

	form := strings.NewReader(url.Values{"t": {u.Query().Get("t")}}.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+login.LinkPath, form)
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", base)
	require.Equal(t, http.StatusSeeOther, status(req))
	require.Equal(t, http.StatusOK, session(t, ctx, base, status))

	cancel()
	require.NoError(t, <-ended)
}

// session asks for the session and returns the status of the answer.
func session(t *testing.T, ctx context.Context, base string, status func(*http.Request) int) int { //nolint:revive // t comes first in tests
	t.Helper()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/session", nil)
	require.NoError(t, err)

	return status(req)
}
