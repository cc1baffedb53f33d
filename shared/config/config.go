// Package config reads a service's settings from the environment and from a .env file.
//
// The environment wins over the .env file. Any variable X can instead come from a file that X_FILE names, which is how
// secrets reach a container. Everything that is wrong is reported at once, before anything starts, by the variable's
// name.
package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sethvargo/go-envconfig"
)

// Secret is a text that never appears in a log, an error or a dump.
type Secret string

const hidden = "[hidden]"

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// String hides the secret from fmt.
func (Secret) String() string { return hidden }

// GoString hides the secret from fmt's %#v.
func (Secret) GoString() string { return hidden }

// MarshalText hides the secret from JSON and similar encodings.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Reveal returns the secret, for the one place that has to send it.
func (s Secret) Reveal() string { return string(s) }

// Zone is a time zone, set by its IANA name, such as Europe/London. "local" or an empty name means the machine's own.
type Zone struct{ loc *time.Location }

// InZone makes a Zone from a location.
func InZone(loc *time.Location) Zone { return Zone{loc} }

// EnvDecode reads the zone's name.
func (z *Zone) EnvDecode(_ context.Context, name string) error {
	if name == "" || strings.EqualFold(name, "local") {
		z.loc = time.Local
		return nil
	}

	loc, err := time.LoadLocation(name)
	if err != nil {
		return fmt.Errorf("unknown time zone: use a name such as Europe/London, or local: %w", err)
	}

	z.loc = loc

	return nil
}

// Location returns the zone; it is never nil.
func (z Zone) Location() *time.Location {
	if z.loc == nil {
		return time.Local
	}
	return z.loc
}

// Validator is implemented by settings that can be wrong in combination. Validate returns all findings, joined; each
// names the variables at fault.
type Validator interface{ Validate() error }

// Source is where settings are looked up.
type Source struct {
	env    envconfig.Lookuper
	dotenv map[string]string
}

// Environment reads the process's environment and the .env file at path. A missing file is an error only if explicit is
// set, which means that somebody named the file.
func Environment(path string, explicit bool) (*Source, error) {
	file, err := ReadDotEnv(path, explicit)
	if errors.Is(err, os.ErrNotExist) && !explicit {
		err = nil
	}

	if err != nil {
		return nil, err
	}

	return &Source{env: envconfig.OsLookuper(), dotenv: file.Vars}, nil
}

// Map returns a Source of the given variables only.
func Map(vars map[string]string) *Source {
	return &Source{env: envconfig.MapLookuper(nil), dotenv: vars}
}

// lookup finds a variable, or the content of the file that its _FILE sibling names.
func (s *Source) lookup(key string) (string, bool, error) {
	value, found := s.plain(key)
	path, inFile := s.plain(key + "_FILE")
	switch {
	case found && inFile:
		return "", true, fmt.Errorf("%s and %s_FILE are both set: keep one", key, key)
	case inFile:
		text, err := content(path)
		if err != nil {
			return "", true, fmt.Errorf("%s_FILE: %w", key, err)
		}

		return text, true, nil
	case found && isPath(key):
		path, err := Path(value)
		if err != nil {
			return "", true, fmt.Errorf("%s: %w", key, err)
		}

		return path, true, nil
	case found && s.quoted(key, value):
		return "", true, fmt.Errorf("%s: begins and ends with a quote: outside of a .env file quotes belong to the value; leave them out (%s_FILE can name a file for a value that has them)", key, key)
	default:
		return value, found, nil
	}
}

// quoted reports whether a value from the environment is enclosed in quotes that nothing has removed; docker's
// --env-file, for example, leaves them in.
func (s *Source) quoted(key, value string) bool {
	v, has := s.env.Lookup(key)
	return has && strings.TrimSpace(v) == value && len(value) > 1 && value[0] == value[len(value)-1] && (value[0] == '"' || value[0] == '\'')
}

// content reads the value from a file that X_FILE names. Its errors quote nothing of the value.
func content(path string) (string, error) {
	path, err := Path(path)
	if err != nil {
		return "", err
	}

	file, err := os.OpenFile(filepath.Clean(path), os.O_RDONLY|syscall.O_NONBLOCK, 0) // do not block on a pipe without a writer
	if err != nil {
		return "", err
	}
	defer file.Close()

	text, err := io.ReadAll(io.LimitReader(file, maxDotEnv+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > maxDotEnv:
		return "", fmt.Errorf("%s is too large for a value", path)
	}

	if err := encoding(text); err != nil {
		return "", fmt.Errorf("%s %w", path, err)
	}

	return strings.TrimRight(strings.TrimPrefix(string(text), "\ufeff"), "\r\n"), nil
}

// plain finds a variable that is set to something. An empty one counts as not set, because compose files write unset
// variables like that.
func (s *Source) plain(key string) (string, bool) {
	// Windows sets USERNAME to the logged-in user, but what the operator wrote into the .env file is meant.
	if key == "USERNAME" && s.dotenv[key] != "" {
		return s.dotenv[key], true
	}

	if v, ok := s.env.Lookup(key); ok && strings.TrimSpace(v) != "" {
		return strings.TrimSpace(v), true
	}

	v := strings.TrimSpace(s.dotenv[key])

	return v, v != ""
}

// Load fills target, a pointer to a struct with env tags, and validates it. The error joins everything that is wrong.
func Load(ctx context.Context, source *Source, target any) error {
	var findings []error
	masked := map[string]bool{} // variables found to be wrong; they take their defaults, so that reading goes on
	for {
		var last string
		var fileErr error
		lookup := envconfig.LookuperFunc(func(key string) (string, bool) {
			last = key
			if masked[key] {
				return "", false
			}

			value, found, err := source.lookup(key)
			if err != nil {
				masked[key] = true
				fileErr = errors.Join(fileErr, err)
				return "", false
			}

			return value, found
		})
		err := envconfig.ProcessWith(ctx, &envconfig.Config{Target: target, Lookuper: lookup, DefaultOverwrite: true})

		if fileErr != nil {
			findings = append(findings, fileErr)
		}

		if err == nil {
			break
		}

		if last == "" || masked[last] {
			return errors.Join(append(findings, fmt.Errorf("read the settings: %w", err))...)
		}

		masked[last] = true
		findings = append(findings, fmt.Errorf("%s: %s", last, reason(err)))
	}

	if v, ok := target.(Validator); ok {
		if err := v.Validate(); err != nil {
			findings = append(findings, err)
		}
	}

	return errors.Join(findings...)
}

// reason shortens a decoding error to its last part, without the names of Go fields. The result may quote the value,
// which is why no secret has a type that can fail to decode.
func reason(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "time: "):
		return "not a duration such as 30s, 5m or 24h"
	case strings.Contains(text, "ParseBool"):
		return "neither true nor false"
	case strings.Contains(text, "ParseInt"), strings.Contains(text, "ParseUint"):
		return "not a whole number"
	case strings.Contains(text, "ParseFloat"):
		return "not a number"
	}

	if _, rest, ok := strings.Cut(text, ": "); ok {
		return rest
	}

	return text
}

// Require returns one finding for each variable that is not set.
func Require(vars map[string]bool) error {
	var missing []string
	for name, set := range vars {
		if !set {
			missing = append(missing, name)
		}
	}

	return missingError(missing)
}
