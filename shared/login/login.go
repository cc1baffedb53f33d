// Package login holds what the console and the operators' commands share about logging in: how passwords are kept, and
// the links that open the console once.
package login

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Roles are the names of the console's roles, those that may do least first.
var Roles = []string{"viewer", "operator", "approver"}

// The cost of argon2id: 19 MiB and two passes, so that a guess takes some 20 ms and a few simultaneous logins fit into
// a small machine.
const (
	hashMemory = 19 << 10 // KiB
	hashPasses = 2
	hashLanes  = 1
	saltBytes  = 16
	keyBytes   = 32
)

// The most that a hash from a file may cost, so that nobody can make a login exhaust the machine's memory.
const (
	maxMemory = 256 << 10 // KiB
	maxPasses = 16
)

// The bounds of a password, in bytes.
const (
	LeastPassword = 12
	MaxPassword   = 1024
)

var userName = regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{N}._@-]{0,63}$`)

// IsUserName reports whether a user of the console can have this name: a letter or digit, followed by letters, digits
// and . _ @ -, at most 64 in all.
func IsUserName(name string) bool { return userName.MatchString(name) }

// Hash returns the argon2id hash of a password, in the usual form: $argon2id$v=19$m=19456,t=2,p=1$salt$hash.
func Hash(password string) (string, error) {
	if n := len(password); n < LeastPassword || n > MaxPassword {
		return "", fmt.Errorf("the password must have from %d to %d bytes", LeastPassword, MaxPassword)
	}

	salt := make([]byte, saltBytes)
	_, _ = rand.Read(salt) // never fails
	h := hashed{memory: hashMemory, passes: hashPasses, lanes: hashLanes, salt: salt}
	h.key = h.of(password)

	return h.String(), nil
}

// hashed is a parsed hash.
type hashed struct {
	memory, passes uint32
	lanes          uint8
	salt, key      []byte
}

func (h hashed) of(password string) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, keyBytes)
}

func (h hashed) String() string {
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.passes, h.lanes, text(h.salt), text(h.key))
}

var errHash = errors.New("is no argon2id hash that can be used: make the line with bobosync console passwd")

func parseHash(text string) (h hashed, err error) {
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return h, errHash
	}

	_, scanErr := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &h.memory, &h.passes, &h.lanes)
	salt, saltErr := base64.RawStdEncoding.DecodeString(parts[4])
	key, keyErr := base64.RawStdEncoding.DecodeString(parts[5])
	h.salt, h.key = salt, key
	costs := h.memory >= 8 && h.memory <= maxMemory && h.passes >= 1 && h.passes <= maxPasses && h.lanes >= 1
	if scanErr != nil || saltErr != nil || keyErr != nil || !costs || len(salt) < 8 || len(key) != keyBytes {
		return h, errHash
	}

	return h, nil
}

// User is a line of the file of users.
type User struct {
	Name, Role string
	hash       hashed
}

// Line returns the user's line in the file.
func Line(name, role, hash string) string { return name + " " + role + " " + hash }

// Matches reports whether the password is the user's. It takes as long for the zero User, which has no password, so
// that timing does not reveal which names exist.
func (u User) Matches(password string) bool {
	h, real := u.hash, u.Name != ""
	if !real {
		h = hashed{memory: hashMemory, passes: hashPasses, lanes: hashLanes, salt: make([]byte, saltBytes), key: make([]byte, keyBytes)}
	}

	same := subtle.ConstantTimeCompare(h.of(password), h.key) == 1

	return same && real
}

// Mark returns a text that changes when the user's role or password does.
func (u User) Mark() string { return u.Role + u.hash.String() }

// ReadUsers reads the lines of a file of users: name, role and hash, separated by spaces. It skips empty lines and
// lines that begin with #. Its error names the line and quotes nothing.
func ReadUsers(data []byte) (map[string]User, error) {
	users := map[string]User{}
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}

		user, err := readUser(line)
		if err == nil && users[user.Name].Name != "" {
			err = errors.New("has a name that another line has")
		}

		if err != nil {
			return nil, fmt.Errorf("line %d %w", n, err)
		}

		users[user.Name] = user
	}

	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("is no list of users: %w", err)
	}

	return users, nil
}

func readUser(line string) (User, error) {
	fields := strings.Fields(line)
	switch {
	case len(fields) != 3:
		return User{}, errors.New("must be a name, a role and a hash, with spaces between")
	case !IsUserName(fields[0]):
		return User{}, errors.New("has an invalid name: allowed are letters and digits, then also . _ @ -, at most 64")
	case !slices.Contains(Roles, fields[1]):
		return User{}, fmt.Errorf("has a role that is not one of %s", strings.Join(Roles, ", "))
	}

	hash, err := parseHash(fields[2])

	return User{Name: fields[0], Role: fields[1], hash: hash}, err
}
