package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"bobosync/cmd/athocsim/sim"
)

// envPrefix is put before a flag's name in the environment: -token-lifetime is ATHOCSIM_TOKEN_LIFETIME.
const envPrefix = "ATHOCSIM_"

// config is what the command line and the environment set.
type config struct {
	options   sim.Options
	listen    string
	addrFile  string
	envFile   string
	logLevel  slog.Level
	logFormat string
	secret    map[string]bool // names of .env values that are secrets of the user's own and must not be printed
}

// parseConfig reads the flags, and takes those that are not given from the environment. A secret can also be read
// from a file, which is named by the secret's variable with _FILE appended.
func parseConfig(args []string, lookup func(string) (string, bool), stderr io.Writer) (config, error) {
	c := config{secret: map[string]bool{}, options: sim.Options{OrgCode: sim.DefaultOrgCode}}
	users, usersFile, tlsHosts := 100, "", ""
	fs := flag.NewFlagSet("athocsim", flag.ContinueOnError)
	fs.SetOutput(stderr)
	c.commonFlags(fs)
	c.settingFlags(fs)
	fs.IntVar(&users, "users", users, "`number` of users to generate: w00001@example.org with collar 00001, and so on")
	fs.StringVar(&usersFile, "users-file", "", "CSV (with a header) or JSON `file` of users, instead of -users")
	fs.StringVar(&tlsHosts, "tls-hosts", "", "comma-separated `names` for the self-made certificate besides localhost and this host's")

	if err := fs.Parse(args); err != nil {
		return c, err
	}

	if fs.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q: everything is a flag; see -help", fs.Arg(0))
	}

	if err := fromEnvironment(fs, lookup); err != nil {
		return c, err
	}

	c.markSecrets()

	if tlsHosts != "" {
		c.options.TLSHosts = strings.Split(tlsHosts, ",")
	}

	if c.logFormat != "auto" && c.logFormat != "text" && c.logFormat != "json" {
		return c, fmt.Errorf("-log-format %q: use auto, text or json", c.logFormat)
	}

	return c, c.loadUsers(users, usersFile)
}

func (c *config) commonFlags(fs *flag.FlagSet) {
	o := &c.options
	fs.StringVar(&c.listen, "listen", "127.0.0.1:8480", "`address` to serve on; port 0 takes a free one")
	fs.StringVar(&c.addrFile, "addr-file", "", "`file` to write the bound address to once it is serving")
	fs.StringVar(&c.envFile, "env-file", "", "`file` to write the client's .env values to, secrets included")
	fs.StringVar(&o.AdminAddr, "admin", "", "`address` for the /sim/ pages of their own; empty: beside the API")
	fs.StringVar(&o.StateFile, "state", "", "`file` that keeps users and their values over restarts")
	fs.StringVar(&o.CallLog, "call-log", "", "`file` to append every call to, as JSON lines")
	fs.IntVar(&o.KeepCalls, "keep-calls", 10_000, "most calls held in memory")
	fs.IntVar(&o.KeepUsers, "keep-users", 200_000, "most users in the calls held in memory")
	fs.IntVar(&o.History, "history", 50, "changes remembered for each user")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of everything random")
	fs.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "DEBUG, INFO, WARN or ERROR")
	fs.StringVar(&c.logFormat, "log-format", "auto", "auto, text or json")

	fs.StringVar(&o.OrgCode, "org", sim.DefaultOrgCode, "organization `code`")
	fs.StringVar(&o.ClientID, "client-id", sim.DefaultClientID, "client `id`")
	fs.StringVar(&o.ClientSecret, "client-secret", sim.DefaultClientSecret, "client `secret`; better in "+envPrefix+"CLIENT_SECRET or …_FILE")
	fs.StringVar(&o.Username, "username", sim.DefaultUsername, "operator's `name`")
	fs.StringVar(&o.Password, "password", sim.DefaultPassword, "operator's `password`; better in "+envPrefix+"PASSWORD or …_FILE")
	fs.StringVar(&o.DutyAttribute, "duty-attribute", sim.DefaultDutyAttribute, "`name` of the duty-status attribute, a date")
	fs.StringVar(&o.CollarAttribute, "collar-attribute", sim.DefaultCollar, "`name` of the collar-id attribute")
	fs.Func("attribute", "`NAME:TYPE` of another attribute, type string or date; comma-separated or repeated", c.addAttributes)

	fs.BoolVar(&o.TLS, "tls", false, "serve HTTPS with a self-made certificate")
	fs.StringVar(&o.TLSDirectory, "tls-dir", "", "`directory` that keeps ca.pem and the server's pair over restarts")
	fs.StringVar(&o.CertFile, "tls-cert", "", "PEM `file` of a certificate of your own")
	fs.StringVar(&o.KeyFile, "tls-key", "", "PEM `file` of its key")
}

func (c *config) settingFlags(fs *flag.FlagSet) {
	s := &c.options.Settings
	duration := func(d *sim.Duration, name string, value time.Duration, usage string) {
		fs.TextVar(d, name, sim.Duration(value), usage)
	}
	duration(&s.Latency.Fixed, "latency", 0, "`time` that every call takes")
	duration(&s.Latency.PerUser, "latency-per-user", 0, "`time` more for each user of an update")
	duration(&s.Latency.Jitter, "latency-jitter", 0, "up to so much `time` more, drawn evenly")
	duration(&s.TokenLifetime, "token-lifetime", time.Hour, "`time` for which a token is good")
	fs.BoolVar(&s.ManyTokens, "many-tokens", false, "a new token does not revoke the old one")
	fs.Float64Var(&s.Throttle.PerSecond, "throttle", 0, "`calls` a second for each end point, what is above gets 429; 0: no limit")
	fs.IntVar(&s.Throttle.Burst, "throttle-burst", 0, "`calls` that may come at once; 0: as -throttle, rounded up")
	fs.StringVar(&s.Throttle.RetryAfter, "throttle-retry-after", "seconds", "`form` of Retry-After: seconds, date or none")
	fs.IntVar(&s.MaxUsers, "max-users", 5000, "most users in one update")
	fs.Int64Var(&s.MaxBody, "max-body", 10<<20, "most `bytes` in one update")
	fs.IntVar(&s.TooLargeStatus, "too-large-status", 413, "`status` for more than that: 413 or 400")
	fs.StringVar(&s.EchoCase, "echo-case", "sent", "`case` of LOGIN_ID in answers to updates: sent, stored, upper, lower or random")
	fs.StringVar(&s.EmptyStyle, "empty-style", "mixed", "`form` of an attribute with no value in a search: mixed, missing, null or empty")
	fs.BoolVar(&s.KeepOrder, "keep-order", false, "answer updates in the order of the request instead of a shuffled one")
}

func (c *config) addAttributes(text string) error {
	for item := range strings.SplitSeq(text, ",") {
		name, kind, _ := strings.Cut(item, ":")
		if kind == "" {
			kind = sim.TypeString
		}

		c.options.Attributes = append(c.options.Attributes, sim.Attribute{Name: name, Type: kind})
	}

	return nil
}

// fromEnvironment sets the flags that were not given, and returns an error that names every bad variable.
func fromEnvironment(fs *flag.FlagSet, lookup func(string) (string, bool)) error {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var errs []error
	fs.VisitAll(func(f *flag.Flag) {
		if given[f.Name] {
			return
		}

		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		if path, isFile := lookup(name + "_FILE"); isFile && (f.Name == "client-secret" || f.Name == "password") {
			raw, err := os.ReadFile(path)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s_FILE: %w", name, err))
				return
			}

			value, ok = strings.TrimRight(string(raw), "\r\n"), true
		}

		if !ok || value == "" {
			return
		}

		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	})

	return errors.Join(errs...)
}

func (c *config) markSecrets() {
	c.secret["CLIENT_SECRET"] = c.options.ClientSecret != sim.DefaultClientSecret
	c.secret["PASSWORD"] = c.options.Password != sim.DefaultPassword
}

func (c *config) loadUsers(n int, file string) (err error) {
	o := &c.options
	if file == "" {
		if n < 0 {
			return fmt.Errorf("-users %d: it must not be negative", n)
		}

		o.Users = sim.GenerateUsers(n, o.CollarAttribute)

		return nil
	}

	known := append([]sim.Attribute{{Name: o.DutyAttribute, Type: sim.TypeDate}, {Name: o.CollarAttribute, Type: sim.TypeString}}, o.Attributes...)
	o.Users, o.Attributes, err = sim.LoadUsers(file, known)

	return err
}
