package auth

// The settings.

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"bobosync/shared/config"
)

// The values of CONSOLE_AUTH.
const (
	ModeFile  = "file"
	ModeLink  = "link"
	ModeProxy = "proxy"
	ModeOIDC  = "oidc"
)

// Config says where the console listens, and who may log in.
type Config struct {
	// URL is the address that browsers show, such as https://bobosync.example.org, if a proxy is in front of the
	// console.
	URL string `env:"CONSOLE_URL"`
	// Mode is how people log in: link, file, proxy or oidc.
	Mode string `env:"CONSOLE_AUTH, default=link"`
	// UsersFile lists the users of the mode file: name, role and hash. In the mode oidc it lists the users for an
	// emergency.
	UsersFile string `env:"CONSOLE_USERS_FILE"`
	// Header is the header in which the proxy names the user, and GroupsHeader the one in which it lists the user's
	// groups, separated by commas.
	Header       string `env:"CONSOLE_AUTH_HEADER"`
	GroupsHeader string `env:"CONSOLE_AUTH_GROUPS_HEADER"`
	// TrustedProxies are the addresses or networks of the proxies that are believed.
	TrustedProxies []string `env:"CONSOLE_TRUSTED_PROXIES"`
	// Operators and Approvers are the groups whose members have that role. Users who are in none of them are viewers.
	Operators []string `env:"CONSOLE_OPERATORS"`
	Approvers []string `env:"CONSOLE_APPROVERS"`
	// Issuer is the identity provider of the mode oidc, where the console is the client ClientID with ClientSecret.
	// Scopes are what it asks for, separated by blanks. GroupsClaim is the claim of the ID token that lists the user's
	// groups.
	Issuer       string        `env:"CONSOLE_OIDC_ISSUER"`
	ClientID     string        `env:"CONSOLE_OIDC_CLIENT_ID"`
	ClientSecret config.Secret `env:"CONSOLE_OIDC_CLIENT_SECRET"`
	Scopes       string        `env:"CONSOLE_OIDC_SCOPES, default=openid profile"`
	GroupsClaim  string        `env:"CONSOLE_OIDC_GROUPS_CLAIM, default=groups"`
	// SSLCertPath, HTTPProxy, HTTPSProxy and NoProxy say how the provider is reached, as they do for AtHoc.
	SSLCertPath string `env:"SSL_CERT_PATH"`
	HTTPProxy   string `env:"HTTP_PROXY"`
	HTTPSProxy  string `env:"HTTPS_PROXY"`
	NoProxy     string `env:"NO_PROXY"`
	// WallToken opens the wall page, and nothing else.
	WallToken config.Secret `env:"CONSOLE_WALL_TOKEN"`
	// SessionKey seals the cookies of sessions, and is the same for all consoles. Without it each console makes its
	// own, and users have to log in again when the console restarts.
	SessionKey config.Secret `env:"CONSOLE_SESSION_KEY"`
	// Cert and Key are the files of the console's own certificate. ClientCA is the file of the authority that issues
	// the certificates that browsers must have.
	Cert     string `env:"CONSOLE_TLS_CERT"`
	Key      string `env:"CONSOLE_TLS_KEY"`
	ClientCA string `env:"CONSOLE_CLIENT_CA"`
}

// The minimum lengths of secrets, in bytes.
const (
	minSessionKey = 32
	minWallToken  = 20
)

// Validate reports settings that contradict each other, or that would let anybody into a console that listens on addr.
func (c Config) Validate(addr string) error {
	errs := []error{c.validateAddress(addr), c.validateURL(), c.validateTLS(), c.validateMode(), c.validateOIDC(), c.validateGroups(), c.validateProxies()}
	if n := len(c.SessionKey); n > 0 && n < minSessionKey {
		errs = append(errs, fmt.Errorf("CONSOLE_SESSION_KEY: must have at least %d characters, such as those of openssl rand -hex 32", minSessionKey))
	}

	if n := len(c.WallToken); n > 0 && n < minWallToken {
		errs = append(errs, fmt.Errorf("CONSOLE_WALL_TOKEN: must have at least %d characters, such as those of openssl rand -hex 16", minWallToken))
	}

	return errors.Join(errs...)
}

func (c Config) validateAddress(addr string) error {
	switch {
	case onLoopback(addr):
		return nil
	case c.Mode == ModeLink:
		return errors.New("CONSOLE_ADDR: must be an address of this machine alone, such as 127.0.0.1:8470, with CONSOLE_AUTH=link; others log in with CONSOLE_AUTH=file, proxy or oidc")
	case !c.secure():
		return errors.New("CONSOLE_ADDR: others reach it, so that passwords would travel in the clear: set CONSOLE_TLS_CERT and CONSOLE_TLS_KEY, " +
			"or CONSOLE_URL=https://... if a proxy in front of it ends TLS, or let it listen on 127.0.0.1")
	}

	return nil
}

func (c Config) validateURL() error {
	if c.URL == "" {
		return nil
	}

	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return errors.New("CONSOLE_URL: must be an address without a path, such as https://bobosync.example.org")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("CONSOLE_URL: must begin with https://, or passwords travel in the clear")
	case u.Scheme == "http" && c.Cert != "":
		return errors.New("CONSOLE_URL: must begin with https://, since CONSOLE_TLS_CERT is set")
	}

	return nil
}

func (c Config) validateTLS() error {
	switch {
	case (c.Cert == "") != (c.Key == ""):
		return errors.New("CONSOLE_TLS_CERT, CONSOLE_TLS_KEY: set both or none")
	case c.ClientCA != "" && c.Cert == "":
		return errors.New("CONSOLE_CLIENT_CA: needs CONSOLE_TLS_CERT and CONSOLE_TLS_KEY")
	}

	return nil
}

func (c Config) validateMode() error {
	switch {
	case !slices.Contains([]string{ModeFile, ModeLink, ModeProxy, ModeOIDC}, c.Mode):
		return errors.New("CONSOLE_AUTH: must be link, file, proxy or oidc")
	case c.Mode == ModeFile && c.UsersFile == "":
		return errors.New("CONSOLE_USERS_FILE: CONSOLE_AUTH=file needs the file of users: bobosync console passwd NAME makes a line of it")
	case c.Mode != ModeFile && c.Mode != ModeOIDC && c.UsersFile != "":
		return errors.New("CONSOLE_USERS_FILE: is for CONSOLE_AUTH=file, and for emergencies with CONSOLE_AUTH=oidc")
	case c.Mode == ModeProxy && c.Header == "":
		return errors.New("CONSOLE_AUTH_HEADER: CONSOLE_AUTH=proxy needs the header in which the proxy names the user")
	case c.Mode == ModeProxy && len(c.TrustedProxies) == 0:
		return errors.New("CONSOLE_TRUSTED_PROXIES: must be set with CONSOLE_AUTH=proxy, or anybody could say who he is: the addresses of the proxy, such as 10.1.2.3")
	case c.Mode != ModeProxy && (c.Header != "" || c.GroupsHeader != ""):
		return errors.New("CONSOLE_AUTH_HEADER, CONSOLE_AUTH_GROUPS_HEADER: are for CONSOLE_AUTH=proxy")
	}

	return nil
}

// validateOIDC reports what the mode oidc lacks, or what is set without it.
func (c Config) validateOIDC() error {
	switch {
	case c.Mode != ModeOIDC && (c.Issuer != "" || c.ClientID != "" || c.ClientSecret != ""):
		return errors.New("CONSOLE_OIDC_ISSUER, CONSOLE_OIDC_CLIENT_ID, CONSOLE_OIDC_CLIENT_SECRET: are for CONSOLE_AUTH=oidc")
	case c.Mode != ModeOIDC:
		return nil
	case c.Issuer == "" || c.ClientID == "" || c.ClientSecret == "":
		return errors.New("CONSOLE_OIDC_ISSUER, CONSOLE_OIDC_CLIENT_ID, CONSOLE_OIDC_CLIENT_SECRET: CONSOLE_AUTH=oidc needs all three")
	case !trustworthy(c.Issuer) || strings.ContainsAny(c.Issuer, "?#"):
		return errors.New("CONSOLE_OIDC_ISSUER: must be the provider's address as it writes it itself, such as https://login.example.org/realms/county")
	case c.URL == "":
		return errors.New("CONSOLE_URL: CONSOLE_AUTH=oidc needs the address that browsers show, to which the provider sends them back: register " + pathReturn + " below it there")
	case !slices.Contains(strings.Fields(c.Scopes), "openid"):
		return errors.New("CONSOLE_OIDC_SCOPES: must hold openid, such as openid profile groups")
	}

	return nil
}

func (c Config) validateGroups() error {
	switch {
	case c.Mode != ModeProxy && c.Mode != ModeOIDC && len(c.Operators)+len(c.Approvers) > 0:
		return errors.New("CONSOLE_OPERATORS, CONSOLE_APPROVERS: are for CONSOLE_AUTH=proxy and oidc; with a file of users each line has the role")
	case c.Mode == ModeProxy && len(c.Operators)+len(c.Approvers) > 0 && c.GroupsHeader == "":
		return errors.New("CONSOLE_AUTH_GROUPS_HEADER: CONSOLE_OPERATORS and CONSOLE_APPROVERS need the header in which the proxy lists the user's groups")
	}

	return nil
}

func (c Config) validateProxies() error {
	for _, text := range c.TrustedProxies {
		p, err := prefix(text)
		switch {
		case err != nil:
			return errors.New("CONSOLE_TRUSTED_PROXIES: must be addresses or networks with commas between, such as 10.1.2.3 or 10.1.2.0/28")
		case p.Bits() == 0:
			return errors.New("CONSOLE_TRUSTED_PROXIES: would trust everybody")
		}
	}

	return nil
}

// prefix parses an address or a network.
func prefix(text string) (netip.Prefix, error) {
	text = strings.TrimSpace(text)
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}

	p, err := netip.ParsePrefix(text)

	return p.Masked(), err
}

// onLoopback reports whether a console that listens on addr can be reached from this machine alone.
func onLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && isLoopback(host)
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// secure reports whether browsers connect over TLS.
func (c Config) secure() bool {
	return c.Cert != "" || strings.HasPrefix(strings.ToLower(c.URL), "https://")
}

// origin returns CONSOLE_URL in the form in which browsers send it.
func (c Config) origin() string {
	u, err := url.Parse(c.URL)
	if err != nil {
		return c.URL
	}

	return strings.ToLower(u.Scheme + "://" + u.Host)
}

// Scheme returns what the console itself speaks: https with a certificate, otherwise http.
func (c Config) Scheme() string {
	if c.Cert != "" {
		return "https"
	}
	return "http"
}

// linkURL returns the beginning of a one-time link to a console that listens on addr.
func (c Config) linkURL(addr string) string {
	if c.URL != "" {
		return c.origin()
	}
	return c.Scheme() + "://" + addr
}
