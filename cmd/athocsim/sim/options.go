package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Defaults that New uses for unset options.
const (
	DefaultOrgCode       = "ATHOCSIM"
	DefaultClientID      = "athocsim-client"
	DefaultClientSecret  = "athocsim-client-secret"
	DefaultUsername      = "athocsim-operator"
	DefaultPassword      = "athocsim-password"
	DefaultDutyAttribute = "On-Duty-DTG"
	DefaultCollar        = "Collar-Number"

	defaultTokenLifetime = time.Hour
	defaultMaxUsers      = 5000
	defaultMaxBody       = 10 << 20
	defaultKeepCalls     = 10_000
	defaultKeepUsers     = 200_000
	defaultHistory       = 50
)

// Options say what a Simulator holds and how it behaves. The zero value is a usable and strict simulator without
// users.
type Options struct {
	// Logger receives what the simulator does; nil logs nothing. Secrets, tokens and usernames are never logged.
	Logger *slog.Logger

	// OrgCode, ClientID, ClientSecret, Username and Password are what the token end point demands.
	OrgCode      string
	ClientID     string
	ClientSecret string
	Username     string
	Password     string

	// Attributes are the organisation's attributes besides LOGIN_ID and the duty and collar attributes.
	Attributes []Attribute
	// DutyAttribute and CollarAttribute are always defined: the first as a date, the second as a string.
	DutyAttribute   string
	CollarAttribute string
	// Users are the users at the start. If StateFile exists, its users are taken instead.
	Users []User

	// Settings can be changed while the simulator runs.
	Settings Settings
	// Seed drives the order of answers, letter case, jitter, and faults without a seed of their own. The same seed
	// gives the same draws, but concurrent calls may receive them in a different order.
	Seed uint64

	// TLS serves HTTPS with a certificate of the simulator's own, unless CertFile and KeyFile name another.
	TLS      bool
	CertFile string
	KeyFile  string
	// TLSDirectory keeps ca.pem and the server's pair over restarts. Empty means a directory that Close removes.
	TLSDirectory string
	// TLSHosts are names and addresses for the certificate, in addition to localhost, this host's name and the
	// loopback addresses.
	TLSHosts []string

	// AdminAddr gives the /sim/ pages an address of their own (plain HTTP); empty serves them on the API's address.
	AdminAddr string

	// StateFile keeps users and attributes over restarts and kills; empty keeps nothing. See README.md.
	StateFile string
	// CallLog is a file to which every call is appended as JSON lines; empty writes no file.
	CallLog string
	// OnCall is called with every finished call just before its answer is sent, one call at a time. It must be quick,
	// and must not call Close.
	OnCall func(Call)

	// KeepCalls and KeepUsers bound the calls held in memory: that many calls (default 10,000), which together carry at
	// most that many users (default 200,000). The newest call is always kept.
	KeepCalls int
	KeepUsers int
	// History is how many changes are remembered for each user (default 50).
	History int
}

// Settings are what can be changed while the simulator runs. The zero value of each field is the strictest choice.
type Settings struct {
	// Latency passes before a call is worked on, even if the client has gone away meanwhile.
	Latency Latency `json:"latency"`
	// Throttle limits the calls of each end point.
	Throttle Throttle `json:"throttle"`
	// Forbidden makes search and update answer 403: "role" (the operator lacks the role) or "password" (expired).
	Forbidden string `json:"forbidden"`
	// TokenLifetime is how long a new token is good for (default 1h). Whole seconds are reported as expires_in.
	TokenLifetime Duration `json:"token_lifetime"`
	// ManyTokens lets several tokens be good at once; by default a new token revokes the one before it.
	ManyTokens bool `json:"many_tokens"`
	// KeepOrder answers updates in the order of the request; by default the order is shuffled.
	KeepOrder bool `json:"keep_order"`
	// EchoCase is the letter case of LOGIN_ID in the answer to an update: "sent" (default), "stored", "upper",
	// "lower" or "random".
	EchoCase string `json:"echo_case"`
	// EmptyStyle is how a search shows an attribute without a value: "mixed" (default; all three), "missing", "null"
	// or "empty".
	EmptyStyle string `json:"empty_style"`
	// JudgeFirst is what an update reports if the user does not exist and an attribute is wrong as well: "user"
	// (default) or "attribute". AtHoc does not document it.
	JudgeFirst string `json:"judge_first"`
	// MaxUsers is the most users in one update (default 5000), MaxBody the most bytes of a body (default 10 MiB).
	MaxUsers int   `json:"max_users"`
	MaxBody  int64 `json:"max_body"`
	// TooLargeStatus is the status of the answer to an update above these limits: 413 (default) or 400.
	TooLargeStatus int `json:"too_large_status"`
	// Messages are the texts of users' outcomes whose wording AtHoc does not document.
	Messages Messages `json:"messages"`
}

// Latency is how long a call takes: Fixed + PerUser × users in the update + up to Jitter, drawn evenly.
type Latency struct {
	Fixed   Duration `json:"fixed"`
	PerUser Duration `json:"per_user"`
	Jitter  Duration `json:"jitter"`
}

// Throttle allows PerSecond calls a second on average for each end point; calls above that get 429.
type Throttle struct {
	// PerSecond is the limit; 0 switches throttling off.
	PerSecond float64 `json:"per_second"`
	// Burst is how many calls may arrive at once (default: PerSecond rounded up).
	Burst int `json:"burst"`
	// RetryAfter is the form of the Retry-After header: "seconds" (default), "date" or "none".
	RetryAfter string `json:"retry_after"`
}

// Messages are the :SyncDetails texts. Each "{user}", "{attribute}" and "{value}" is replaced. Empty means the
// default.
type Messages struct {
	Updated          string `json:"updated"`
	Created          string `json:"created"`
	PermissionDenied string `json:"permission_denied"`
	UnknownAttribute string `json:"unknown_attribute"`
	InvalidValue     string `json:"invalid_value"`
	Transient        string `json:"transient"`
	Partial          string `json:"partial"`
}

// Duration is a time.Duration that is written as text ("1.5s") in JSON.
type Duration time.Duration

// MarshalText writes the duration as time.Duration prints it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads what time.ParseDuration reads; a negative duration is an error.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("duration %q: write it as in 250ms or 1.5s", text)
	}

	if v < 0 {
		return fmt.Errorf("duration %q is negative", text)
	}

	*d = Duration(v)

	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o *Options) setDefaults() {
	setDefault(&o.OrgCode, DefaultOrgCode)
	setDefault(&o.ClientID, DefaultClientID)
	setDefault(&o.ClientSecret, DefaultClientSecret)
	setDefault(&o.Username, DefaultUsername)
	setDefault(&o.Password, DefaultPassword)
	setDefault(&o.DutyAttribute, DefaultDutyAttribute)
	setDefault(&o.CollarAttribute, DefaultCollar)
	setDefault(&o.KeepCalls, defaultKeepCalls)
	setDefault(&o.KeepUsers, defaultKeepUsers)
	setDefault(&o.History, defaultHistory)

	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}

	o.Settings.setDefaults()
}

// attributes returns all definitions, LOGIN_ID first.
func (o *Options) attributes() []Attribute {
	defs := []Attribute{
		{Name: LoginID, Type: TypeString},
		{Name: o.CollarAttribute, Type: TypeString},
		{Name: o.DutyAttribute, Type: TypeDate},
	}
	for _, a := range o.Attributes {
		if !slices.ContainsFunc(defs, func(d Attribute) bool { return d == a }) {
			defs = append(defs, a)
		}
	}

	return defs
}

func (o *Options) validate() error {
	var errs []error
	if (o.CertFile == "") != (o.KeyFile == "") {
		errs = append(errs, errors.New("a certificate file and a key file must be given together"))
	}

	if strings.ContainsAny(o.OrgCode, "/ ?#") {
		errs = append(errs, fmt.Errorf("organisation code %q cannot stand in a path", o.OrgCode))
	}

	if o.KeepCalls < 0 || o.KeepUsers < 0 || o.History < 0 {
		errs = append(errs, errors.New("the limits of calls, users and history kept must not be negative"))
	}

	return errors.Join(append(errs, o.Settings.validate())...)
}

func (s *Settings) setDefaults() {
	setDefault(&s.TokenLifetime, Duration(defaultTokenLifetime))
	setDefault(&s.EchoCase, "sent")
	setDefault(&s.EmptyStyle, "mixed")
	setDefault(&s.JudgeFirst, "user")
	setDefault(&s.MaxUsers, defaultMaxUsers)
	setDefault(&s.MaxBody, defaultMaxBody)
	setDefault(&s.TooLargeStatus, http.StatusRequestEntityTooLarge)
	setDefault(&s.Throttle.RetryAfter, "seconds")
	m := &s.Messages
	setDefault(&m.Updated, "Updated")
	setDefault(&m.Created, "Created")
	setDefault(&m.PermissionDenied, "Permission denied for user: {user}")
	setDefault(&m.UnknownAttribute, "The attribute is unknown: {attribute}")
	setDefault(&m.InvalidValue, "The value is not valid for the attribute {attribute}: {value}")
	setDefault(&m.Transient, "An internal error occurred, please try again later")
	setDefault(&m.Partial, "Some attributes were not updated")
}

func (s *Settings) validate() error {
	var errs []error
	oneOf := func(what, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			errs = append(errs, fmt.Errorf("%s %q: use one of %q", what, value, allowed))
		}
	}
	oneOf("forbidden", s.Forbidden, "", "role", "password")
	oneOf("echo_case", s.EchoCase, "sent", "stored", "upper", "lower", "random")
	oneOf("empty_style", s.EmptyStyle, "mixed", "missing", "null", "empty")
	oneOf("judge_first", s.JudgeFirst, "user", "attribute")
	oneOf("throttle retry_after", s.Throttle.RetryAfter, "seconds", "date", "none")

	if s.Throttle.PerSecond < 0 || s.Throttle.Burst < 0 {
		errs = append(errs, errors.New("throttle: per_second and burst must not be negative"))
	}

	if s.TokenLifetime < 0 || s.Latency.Fixed < 0 || s.Latency.PerUser < 0 || s.Latency.Jitter < 0 {
		errs = append(errs, errors.New("token_lifetime and latency must not be negative"))
	}

	if s.MaxUsers < 1 || s.MaxBody < 1 {
		errs = append(errs, errors.New("max_users and max_body must be at least 1"))
	}

	if s.TooLargeStatus != http.StatusRequestEntityTooLarge && s.TooLargeStatus != http.StatusBadRequest {
		errs = append(errs, fmt.Errorf("too_large_status %d: use 413 or 400", s.TooLargeStatus))
	}

	return errors.Join(errs...)
}

// expand fills a message's placeholders.
func expand(template, user, attribute, value string) string {
	if !strings.Contains(template, "{") {
		return template
	}
	return strings.NewReplacer("{user}", user, "{attribute}", attribute, "{value}", value).Replace(template)
}

// mustJSON encodes values whose encoding cannot fail.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("encoding %T: %v", v, err))
	}

	return b
}
