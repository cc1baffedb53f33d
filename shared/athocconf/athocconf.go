// Package athocconf makes an AtHoc client from the settings that operators write. It stands between athoc and config so
// that the client knows nothing of environment variables.
package athocconf

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/config"
	"bobosync/shared/telemetry"
	"bobosync/shared/tokens"
)

// Client returns the client that the settings describe. Tokens is where its access token is kept; nil keeps it in the
// process's own memory. Version is the program's version, for the User-Agent header; it may be empty. Errors are those
// of [athoc.New]: they name the variables at fault.
func Client(a config.AtHoc, c config.Calls, tokens athoc.TokenStore, version string, log *slog.Logger, options ...Option) (*athoc.Client, error) {
	agent := athoc.DefaultUserAgent
	if version != "" {
		agent += "/" + version
	}

	cfg := athoc.Config{
		ServerURL:          a.ServerURL,
		OrgCode:            a.OrgCode,
		ClientID:           a.ClientID,
		ClientSecret:       a.ClientSecret.Reveal(),
		Username:           a.Account(),
		Password:           a.Password.Reveal(),
		Scope:              a.Scope,
		DutyStatusField:    a.DutyStatusField,
		Location:           a.Zone.Location(),
		Timeout:            c.Timeout,
		InsecureSkipVerify: a.DisableSSLVerify,
		CACertPath:         a.SSLCertPath,
		HTTPProxy:          a.HTTPProxy,
		HTTPSProxy:         a.HTTPSProxy,
		NoProxy:            a.NoProxy,
		UserAgent:          agent,
		Tokens:             tokens,
		Logger:             log,
	}
	for _, o := range options {
		o(&cfg)
	}

	return athoc.New(cfg)
}

// Web returns a client for servers other than AtHoc that connects the way that is set for calls to AtHoc; see
// [athoc.NewWeb].
func Web(a config.AtHoc, timeout time.Duration) (*http.Client, error) {
	return athoc.NewWeb(athoc.Config{
		CACertPath: a.SSLCertPath, HTTPProxy: a.HTTPProxy, HTTPSProxy: a.HTTPSProxy, NoProxy: a.NoProxy, Timeout: timeout,
	})
}

// Option changes a client.
type Option func(*athoc.Config)

// Observed records the client's requests in m.
func Observed(m *telemetry.Calls) Option { return func(c *athoc.Config) { c.Observe = m.Observe } }

// Limits returns the bounds that the settings put on calls. The name that the token store has for these settings
// distinguishes them from others.
func Limits(ctx context.Context, a config.AtHoc, c config.Calls, store *tokens.Store) (breaker.Limits, error) {
	settings, err := store.Settings(ctx, a.ServerURL, a.Scope, a.DutyStatusField)
	return breaker.Limits{Rate: c.RateLimit, CallTimeout: c.Timeout, Settings: settings}, err
}
