// Package athocconf makes an AtHoc client of the settings that operators write. It stands between the two packages so that
// the client knows nothing of environment variables.
package athocconf

import (
	"log/slog"

	"bobosync/shared/athoc"
	"bobosync/shared/config"
)

// Client returns the client that the settings describe. Tokens is where its access token is kept, nil for the process's own
// memory. Version is the program's, for the User-Agent header; it may be empty. Errors are those of [athoc.New]: they name
// the variables at fault.
func Client(a config.AtHoc, c config.Calls, tokens athoc.TokenStore, version string, log *slog.Logger) (*athoc.Client, error) {
	agent := athoc.DefaultUserAgent
	if version != "" {
		agent += "/" + version
	}
	return athoc.New(athoc.Config{
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
	})
}
