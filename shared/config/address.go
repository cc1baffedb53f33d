package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Addresses reports what is wrong with a setting that holds an address, or several separated by commas. The scheme must
// be one of schemes; the first is assumed where an address has none. The error quotes nothing of the value, which may
// hold a password.
func Addresses(name, value string, schemes ...string) error {
	for part := range strings.SplitSeq(value, ",") {
		if err := address(strings.TrimSpace(part), schemes); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}

	return nil
}

// errReserved reports a password that was not percent-encoded: the rest of it would be taken for the host or the path,
// and would show where those are logged.
var errReserved = errors.New("a user or password in it holds a reserved character: encode /, @, : in the password (and ?, #, % and the comma), as %2F, %40, %3A (%3F, %23, %25, %2C)")

func address(value string, schemes []string) error {
	scheme, rest, has := strings.Cut(value, "://")
	if !has {
		scheme, rest = schemes[0], value
	}

	authority, behind := rest, ""
	if end := strings.IndexAny(rest, `/?#\`); end >= 0 {
		authority, behind = rest[:end], rest[end:]
	}

	if strings.Contains(behind, "@") || strings.Count(authority, "@") > 1 {
		return errReserved
	}

	u, err := url.Parse(strings.ToLower(scheme) + "://" + rest)
	switch {
	case err != nil && strings.Contains(value, "@"):
		return errReserved
	case err != nil, u.Hostname() == "", !slices.Contains(schemes, u.Scheme):
		return fmt.Errorf("must be an address such as %s://host:port", schemes[0])
	}

	return nil
}
