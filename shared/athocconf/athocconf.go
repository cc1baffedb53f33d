// Package athocconf makes an AtHoc client of the settings that operators write. It stands between the two packages so that
// the client knows nothing of environment variables.
package athocconf

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/config"
	"bobosync/shared/telemetry"
)

// Client returns the client that the settings describe. Tokens is where its access token is kept, nil for the process's own
// memory. Version is the program's, for the User-Agent header; it may be empty. Errors are those of [athoc.New]: they name
// the variables at fault.
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

// Option changes a client.
type Option func(*athoc.Config)

// Observed has m count the client's requests.
func Observed(m *telemetry.Calls) Option { return func(c *athoc.Config) { c.Observe = m.Observe } }

// Limits returns the bounds that the settings set to calls.
func Limits(a config.AtHoc, c config.Calls) (breaker.Limits, error) {
	settings, err := fingerprint(a)
	return breaker.Limits{Rate: c.RateLimit, CallTimeout: c.Timeout, Settings: settings}, err
}

// fingerprint tells two sets of settings apart. It is derived from the secrets too, by a function that gives nothing of them
// away to who does not know them all.
func fingerprint(a config.AtHoc) (string, error) {
	secret := a.ClientSecret.Reveal() + "\x00" + a.Password.Reveal()
	open := strings.Join([]string{a.ServerURL, a.OrgCode, a.ClientID, a.Account(), a.Scope, a.DutyStatusField}, "\x00")
	key, err := hkdf.Key(sha256.New, []byte(secret), []byte(open), "bobosync settings 1", 8)
	if err != nil {
		return "", fmt.Errorf("derive the fingerprint of AtHoc's settings: %w", err)
	}
	return hex.EncodeToString(key), nil
}
