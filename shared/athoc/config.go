package athoc

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"
)

// Defaults of the optional fields of [Config].
const (
	// DefaultScope is what the token request asks for.
	DefaultScope = "openid profile athoc.iws.web.api"
	// DefaultTimeout is the longest that one HTTP exchange may take.
	DefaultTimeout = 30 * time.Second
	// DefaultUserAgent is sent when the program does not name itself.
	DefaultUserAgent = "bobosync"
)

// loginID is AtHoc's common name of the attribute that holds the username.
const loginID = "LOGIN_ID"

// Config says how to reach AtHoc and as whom. It prints and logs without its secrets.
type Config struct {
	// ServerURL is the base address, such as https://alerts.example.org. A path is kept; credentials, a query and a
	// fragment are refused.
	ServerURL string
	// OrgCode is the organisation's code, a part of every address and of the token request.
	OrgCode string
	// ClientID and ClientSecret name the API client, Username and Password the AtHoc operator that it acts for.
	ClientID     string
	ClientSecret string `json:"-"`
	Username     string
	Password     string `json:"-"`
	// Scope is the space-delimited OAuth scope; empty means [DefaultScope].
	Scope string

	// DutyStatusField is the common name of the attribute that is written, such as On-Duty-DTG. A client that only
	// searches may leave it empty; its updates are then refused.
	DutyStatusField string
	// Location is the zone of AtHoc's wall clock, in which times are written without a zone; nil means [time.Local].
	Location *time.Location
	// SourceIdentifier is passed on with an update if it is not empty, and shows up in AtHoc's own audit log.
	SourceIdentifier string

	// Timeout is the longest that one HTTP exchange may take, from the dial to the last byte of the answer; 0 means
	// [DefaultTimeout]. One call can need up to four exchanges (token, call, token, call): a caller that needs a bound
	// on the whole gives its context a deadline.
	Timeout time.Duration
	// InsecureSkipVerify turns the verification of the server's certificate off.
	InsecureSkipVerify bool
	// CACertPath names a PEM file whose certificates are trusted besides the system's.
	CACertPath string
	// HTTPProxy, HTTPSProxy and NoProxy have the meaning that golang.org/x/net/http/httpproxy gives to the environment
	// variables of these names. The environment itself is not read.
	HTTPProxy, HTTPSProxy string `json:"-"`
	NoProxy               string
	// UserAgent names the program, such as bobosync/1.2.3; empty means [DefaultUserAgent].
	UserAgent string

	// Tokens keeps the access token; nil keeps it in this process's memory.
	Tokens TokenStore
	// Logger is where the client reports; nil discards. Failures are returned, not logged.
	Logger *slog.Logger
	// Observe, if not nil, is called after each HTTP exchange with its operation, the kind of failure (0 if it
	// succeeded) and how long it took. It may be called from several goroutines at once, and must not block.
	Observe func(op string, kind Kind, took time.Duration)
	// Now is the clock, replaced in tests; nil means [time.Now].
	Now func() time.Time
}

// LogValue implements [slog.LogValuer]; it leaves out the secrets, and the proxies, whose addresses can hold passwords.
func (c Config) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("server_url", redactURL(c.ServerURL)),
		slog.String("org_code", c.OrgCode),
		slog.String("client_id", c.ClientID),
		slog.String("duty_status_field", c.DutyStatusField),
		slog.Duration("timeout", c.Timeout),
		slog.Bool("insecure_skip_verify", c.InsecureSkipVerify),
	)
}

// String leaves out what [Config.LogValue] leaves out.
func (c Config) String() string { return c.LogValue().String() }

// GoString keeps secrets out of %#v.
func (c Config) GoString() string { return "athoc.Config{" + c.String() + "}" }

// withDefaults fills in what was left empty.
func (c Config) withDefaults() Config {
	c.ServerURL = strings.TrimRight(strings.TrimSpace(c.ServerURL), "/")
	if c.Scope == "" {
		c.Scope = DefaultScope
	}

	if c.Location == nil {
		c.Location = time.Local
	}

	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}

	if c.UserAgent == "" {
		c.UserAgent = DefaultUserAgent
	}

	if c.Now == nil {
		c.Now = time.Now
	}

	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}

	if c.Observe == nil {
		c.Observe = func(string, Kind, time.Duration) {}
	}

	if c.Tokens == nil {
		c.Tokens = NewMemoryTokens()
	}

	return c
}

// validate reports everything that is wrong at once, and names the operator's environment variables.
func (c Config) validate() error {
	errs := []error{validateServerURL(c.ServerURL)}
	for _, required := range []struct{ name, value string }{
		{"ORG_CODE", c.OrgCode},
		{"CLIENT_ID", c.ClientID},
		{"CLIENT_SECRET", c.ClientSecret},
		{"APIUSER", c.Username},
		{"PASSWORD", c.Password},
	} {
		if strings.TrimSpace(required.value) == "" {
			errs = append(errs, fmt.Errorf("%s is empty", required.name))
		}
	}

	if strings.EqualFold(strings.TrimSpace(c.DutyStatusField), loginID) {
		errs = append(errs, errors.New("DUTY_STATUS_FIELD must not be LOGIN_ID: an update would rename users"))
	}

	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("ATHOC_TIMEOUT is %s, but must be more than 0", c.Timeout))
	}

	return errors.Join(errs...)
}

// validateServerURL checks the base address. Its errors never quote the address, which may hold a password where none
// belongs.
func validateServerURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return errors.New("ATHOC_SERVER_URL must be an address such as https://alerts.example.org")
	case u.User != nil:
		return errors.New("ATHOC_SERVER_URL must not hold a username or password: use APIUSER and PASSWORD")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return errors.New("ATHOC_SERVER_URL must not hold a query or a fragment")
	}

	return nil
}

// redactURL returns scheme, host and path of an address, without what may be secret.
func redactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(not an address)"
	}

	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
