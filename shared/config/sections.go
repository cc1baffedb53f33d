package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

func missingError(names []string) error {
	slices.Sort(names)

	var errs []error
	for _, n := range names {
		errs = append(errs, fmt.Errorf("%s: not set, and there is no default", n))
	}

	return errors.Join(errs...)
}

// Broker holds the settings of the connection to NATS and of the streams; all services read them.
type Broker struct {
	// URL is the broker's address. If it is empty, the all-in-one program starts a broker inside itself.
	URL string `env:"NATS_URL"`
	// Creds is the file with this service's NATS credentials.
	Creds string `env:"NATS_CREDS"`
	// CA is a file with the certificates of the authority that signs the broker's certificate.
	CA string `env:"NATS_CA"`
	// Replicas is how many servers of a NATS cluster hold each stream.
	Replicas int `env:"STREAM_REPLICAS, default=1"`
	// MaxAge is how long entries are kept for a replay, once they are resolved.
	MaxAge time.Duration `env:"STREAM_MAX_AGE, default=168h"`
	// EntriesMaxBytes limits the stream of entries on the broker's disk; ingest waits when it is full.
	EntriesMaxBytes int64 `env:"ENTRIES_MAX_BYTES, default=2147483648"`
	// AuditDays is for how many days one can look up who gave which order. A value longer than the broker's is applied;
	// a shorter one is not, because it would drop records.
	AuditDays int `env:"AUDIT_DAYS, default=400"`
	// HistoryDays is for how many days one can look up what AtHoc was sent.
	HistoryDays int `env:"HISTORY_DAYS, default=90"`
	// HistoryMaxBytes limits the history on the broker's disk, where the oldest gives way; 0 means no limit. 20,000
	// workers in 90 days take 4.5 GB.
	HistoryMaxBytes int64 `env:"HISTORY_MAX_BYTES, default=5368709120"`
}

// Validate reports what is wrong with the settings, whether or not a broker is inside.
func (b Broker) Validate() error {
	var errs []error
	if b.Replicas < 1 || b.Replicas > 5 {
		errs = append(errs, errors.New("STREAM_REPLICAS: must be from 1 to 5"))
	}

	if b.EntriesMaxBytes < 1<<16 {
		errs = append(errs, errors.New("ENTRIES_MAX_BYTES: must be at least 65536"))
	}

	if b.AuditDays < 1 || b.AuditDays > 36500 {
		errs = append(errs, errors.New("AUDIT_DAYS: must be from 1 to 36500"))
	}

	if b.HistoryDays < 1 || b.HistoryDays > 3650 {
		errs = append(errs, errors.New("HISTORY_DAYS: must be from 1 to 3650"))
	}

	if b.HistoryMaxBytes != 0 && b.HistoryMaxBytes < 8<<20 {
		errs = append(errs, errors.New("HISTORY_MAX_BYTES: must be 0, for no bound, or at least 8388608"))
	}

	errs = append(errs, Positive("STREAM_MAX_AGE", b.MaxAge))
	if b.URL != "" {
		errs = append(errs, Addresses("NATS_URL", b.URL, "nats", "tls", "ws", "wss"))
	}

	return errors.Join(errs...)
}

// AtHoc holds the settings of the connection to AtHoc, which publisher and janitor read.
type AtHoc struct {
	ServerURL    string `env:"ATHOC_SERVER_URL"`
	ClientID     string `env:"CLIENT_ID"`
	ClientSecret Secret `env:"CLIENT_SECRET"`
	// APIUser is the account's name; Username is its older name in the environment.
	APIUser  string `env:"APIUSER"`
	Username string `env:"USERNAME"`
	Password Secret `env:"PASSWORD"`
	OrgCode  string `env:"ORG_CODE"`
	Scope    string `env:"SCOPE, default=openid profile athoc.iws.web.api"`

	// AllowHTTP permits an ATHOC_SERVER_URL without TLS even if it is not on this machine.
	AllowHTTP        bool   `env:"ATHOC_ALLOW_HTTP, default=false"`
	DisableSSLVerify bool   `env:"DISABLE_SSL_VERIFY, default=false"`
	SSLCertPath      string `env:"SSL_CERT_PATH"`
	HTTPProxy        string `env:"HTTP_PROXY"`
	HTTPSProxy       string `env:"HTTPS_PROXY"`
	NoProxy          string `env:"NO_PROXY"`

	// DutyStatusField is the AtHoc attribute that the services write.
	DutyStatusField string `env:"DUTY_STATUS_FIELD, default=On-Duty-DTG"`
	// Zone is the zone of AtHoc's wall clock.
	Zone Zone `env:"ATHOC_TIMEZONE, default=local"`
}

// Account returns the name of the AtHoc account.
func (a AtHoc) Account() string {
	if a.APIUser != "" {
		return a.APIUser
	}
	return a.Username
}

// Validate reports what is missing or wrong.
func (a AtHoc) Validate() error {
	errs := []error{Require(map[string]bool{
		"ATHOC_SERVER_URL": a.ServerURL != "", "CLIENT_ID": a.ClientID != "", "CLIENT_SECRET": a.ClientSecret != "",
		"APIUSER": a.Account() != "", "PASSWORD": a.Password != "", "ORG_CODE": a.OrgCode != "",
	})}
	for name, proxy := range map[string]string{"HTTP_PROXY": a.HTTPProxy, "HTTPS_PROXY": a.HTTPSProxy} {
		if proxy != "" {
			errs = append(errs, Addresses(name, proxy, "http", "https", "socks5", "socks5h"))
		}
	}

	if a.ServerURL != "" {
		u, err := url.Parse(a.ServerURL)
		switch reserved := Addresses("ATHOC_SERVER_URL", a.ServerURL, "https", "http"); {
		case errors.Is(reserved, errReserved):
			errs = append(errs, reserved)
		case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
			errs = append(errs, errors.New("ATHOC_SERVER_URL: must be an address such as https://alerts.example.org"))
		case u.User != nil:
			errs = append(errs, errors.New("ATHOC_SERVER_URL: must not hold a password: use APIUSER and PASSWORD"))
		case u.Scheme == "http" && !isLoopback(u.Hostname()) && !a.AllowHTTP:
			errs = append(errs, errors.New("ATHOC_SERVER_URL: must begin with https://, or passwords travel in the clear (ATHOC_ALLOW_HTTP=true allows that)"))
		}
	}

	return errors.Join(errs...)
}

// isLoopback reports whether a host is this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// InTheClear is the setting by which AtHoc may be called without TLS.
const InTheClear = "ATHOC_ALLOW_HTTP"

// Insecure names the settings that let others on the path to AtHoc read passwords or impersonate AtHoc.
func (a AtHoc) Insecure() (settings []string) {
	if u, err := url.Parse(a.ServerURL); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		settings = append(settings, InTheClear)
	}

	if a.DisableSSLVerify {
		settings = append(settings, "DISABLE_SSL_VERIFY")
	}

	return settings
}

// Lifetime is the age after which duty is stale.
type Lifetime struct {
	// AutoCleanupHours is that age in hours; 0 means never.
	AutoCleanupHours int `env:"AUTO_CLEANUP_HOURS, default=24"`
}

// Duration returns the age; 0 means never.
func (l Lifetime) Duration() time.Duration { return time.Duration(l.AutoCleanupHours) * time.Hour }

// Validate reports a negative age.
func (l Lifetime) Validate() error {
	return Count("AUTO_CLEANUP_HOURS", l.AutoCleanupHours)
}

// Bounds for plausible values: with a slower rate or a longer call, sending would practically stop.
const (
	slowestRate, fastestRate = 0.001, 10_000
	longestCall              = time.Hour
)

// Calls holds the limits of the calls to AtHoc.
type Calls struct {
	// RateLimit is the most calls per second, of all replicas together.
	RateLimit float64 `env:"ATHOC_RATE_LIMIT, default=2"`
	// Timeout is the longest a call may take.
	Timeout time.Duration `env:"ATHOC_TIMEOUT, default=30s"`
}

// Validate reports implausible limits.
func (c Calls) Validate() error {
	var errs []error
	if !(c.RateLimit >= slowestRate && c.RateLimit <= fastestRate) { // false for NaN, too
		errs = append(errs, errors.New("ATHOC_RATE_LIMIT: must be more than 0: calls a second, from 0.001 to 10000"))
	}

	if c.Timeout < time.Second || c.Timeout > longestCall {
		errs = append(errs, errors.New("ATHOC_TIMEOUT: must be at least 1s, and 1h at most"))
	}

	return errors.Join(errs...)
}

// Data says where services keep their state.
type Data struct {
	// Directory holds the bbolt files and, in the all-in-one program, the broker's store.
	Directory string `env:"DATA_DIRECTORY, default=./data"`
}

// Log says what is logged, how and where.
type Log struct {
	Level string `env:"LOG_LEVEL, default=INFO"`
	// Format is auto (colours on a terminal, else JSON), text or json.
	Format string `env:"LOG_FORMAT, default=auto"`
	// Directory receives one log file a day, in addition to what goes to standard error; none if it is empty.
	Directory string `env:"LOG_DIRECTORY"`
	// PurgeDays is the age in days after which a program deletes its own files there; 0 means never.
	PurgeDays int `env:"LOG_PURGE_DAYS, default=10"`
}

// Validate reports unknown words.
func (l Log) Validate() error {
	var errs []error
	if !slices.Contains([]string{"DEBUG", "INFO", "WARN", "WARNING", "ERROR"}, strings.ToUpper(l.Level)) {
		errs = append(errs, errors.New("LOG_LEVEL: must be DEBUG, INFO, WARN or ERROR"))
	}

	if !slices.Contains([]string{"auto", "text", "json"}, strings.ToLower(l.Format)) {
		errs = append(errs, errors.New("LOG_FORMAT: must be auto, text or json"))
	}

	return errors.Join(append(errs, Count("LOG_PURGE_DAYS", l.PurgeDays))...)
}

// most limits counts of hours and days, so that no duration or time that is computed from them overflows.
const most = 1_000_000

// Count reports an implausible number of hours or days for which something is kept; 0 means that it never ends.
func Count(name string, n int) error {
	if n < 0 || n > most {
		return fmt.Errorf("%s: must be 0 (never) or more, and %d at most", name, most)
	}
	return nil
}

// Positive reports a duration that is not above zero.
func Positive(name string, d time.Duration) error {
	if d <= 0 {
		return fmt.Errorf("%s: must be longer than 0s", name)
	}
	return nil
}
