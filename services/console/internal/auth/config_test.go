package auth

import (
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/config"
)

// TestSettingsThatContradict checks that each contradictory setting is refused, by its name.
func TestSettingsThatContradict(t *testing.T) {
	t.Parallel()

	const here, everywhere = "127.0.0.1:8470", "0.0.0.0:8470"
	file := Config{Mode: ModeFile, UsersFile: "users"}
	proxy := Config{Mode: ModeProxy, Header: "Remote-User", GroupsHeader: "Remote-Groups", TrustedProxies: []string{"10.1.2.3", "fd00::/64"}, Operators: []string{"duty"}}
	with := func(c Config, change func(*Config)) Config { change(&c); return c }
	for _, c := range []struct {
		about, addr string
		cfg         Config
		names       string // empty if the settings are valid
	}{
		{"a link on this machine", here, Config{Mode: ModeLink}, ""},
		{"a link on localhost", "localhost:0", Config{Mode: ModeLink}, ""},
		{"a link on this machine, IPv6", "[::1]:8470", Config{Mode: ModeLink}, ""},
		{"a link for all", everywhere, Config{Mode: ModeLink}, "CONSOLE_ADDR"},
		{"a link for all by an empty host", ":8470", Config{Mode: ModeLink}, "CONSOLE_ADDR"},
		{"a link for all, with TLS", everywhere, Config{Mode: ModeLink, Cert: "c", Key: "k"}, "CONSOLE_ADDR"},
		{"no way to log in", here, Config{Mode: "none"}, "CONSOLE_AUTH"},
		{"users here", here, file, ""},
		{"users in the clear", everywhere, file, "CONSOLE_ADDR"},
		{"users in the clear on a name", "console.example.org:80", file, "CONSOLE_ADDR"},
		{"users by TLS", everywhere, with(file, func(c *Config) { c.Cert, c.Key = "c", "k" }), ""},
		{"users behind TLS", everywhere, with(file, func(c *Config) { c.URL = "https://bobosync.example.org" }), ""},
		{"users behind no TLS", everywhere, with(file, func(c *Config) { c.URL = "http://bobosync.example.org" }), "CONSOLE_URL"},
		{"a file that nobody reads", here, Config{Mode: ModeLink, UsersFile: "users"}, "CONSOLE_USERS_FILE"},
		{"no file", here, Config{Mode: ModeFile}, "CONSOLE_USERS_FILE"},
		{"roles beside a file", here, with(file, func(c *Config) { c.Operators = []string{"x"} }), "CONSOLE_OPERATORS"},
		{"a header beside a file", here, with(file, func(c *Config) { c.Header = "Remote-User" }), "CONSOLE_AUTH_HEADER"},
		{"a proxy", here, proxy, ""},
		{"a proxy that anybody can be", here, with(proxy, func(c *Config) { c.TrustedProxies = nil }), "CONSOLE_TRUSTED_PROXIES"},
		{"a proxy that everybody is", here, with(proxy, func(c *Config) { c.TrustedProxies = []string{"0.0.0.0/0"} }), "CONSOLE_TRUSTED_PROXIES"},
		{"a proxy that everybody is, IPv6", here, with(proxy, func(c *Config) { c.TrustedProxies = []string{"::/0"} }), "CONSOLE_TRUSTED_PROXIES"},
		{"a proxy by name", here, with(proxy, func(c *Config) { c.TrustedProxies = []string{"proxy"} }), "CONSOLE_TRUSTED_PROXIES"},
		{"a proxy that names nobody", here, with(proxy, func(c *Config) { c.Header = "" }), "CONSOLE_AUTH_HEADER"},
		{"roles without groups", here, with(proxy, func(c *Config) { c.GroupsHeader = "" }), "CONSOLE_AUTH_GROUPS_HEADER"},
		{"half a certificate", here, with(file, func(c *Config) { c.Cert = "c" }), "CONSOLE_TLS_KEY"},
		{"browsers' certificates without TLS", here, with(file, func(c *Config) { c.ClientCA = "ca" }), "CONSOLE_CLIENT_CA"},
		{"an address with a path", here, with(file, func(c *Config) { c.URL = "https://x.example.org/console" }), "CONSOLE_URL"},
		{"an address with a password", here, with(file, func(c *Config) { c.URL = "https://a:b@x.example.org" }), "CONSOLE_URL"},
		{"no address", here, with(file, func(c *Config) { c.URL = "x.example.org" }), "CONSOLE_URL"},
		{"http beside a certificate", here, with(file, func(c *Config) { c.URL, c.Cert, c.Key = "http://localhost", "c", "k" }), "CONSOLE_URL"},
		{"a short key", here, with(file, func(c *Config) { c.SessionKey = "short" }), "CONSOLE_SESSION_KEY"},
		{"a short token", here, with(file, func(c *Config) { c.WallToken = "short" }), "CONSOLE_WALL_TOKEN"},
		{"no port", "127.0.0.1", file, "CONSOLE_ADDR"},
	} {
		err := c.cfg.Validate(c.addr)
		if c.names == "" {
			require.NoError(t, err, c.about)
			continue
		}

		require.ErrorContains(t, err, c.names, c.about)
	}

	err := Config{Mode: "x", SessionKey: config.Secret("s3cret"), WallToken: "t0ken"}.Validate("x")
	require.ErrorContains(t, err, "CONSOLE_AUTH")
	require.ErrorContains(t, err, "CONSOLE_ADDR")
	require.NotContains(t, err.Error(), "s3cret")
	require.NotContains(t, err.Error(), "t0ken")
}
