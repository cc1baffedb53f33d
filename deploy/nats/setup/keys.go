package setup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"

	"bobosync/shared/topology"
)

// Names of what Keys writes.
const (
	// PublicFile holds everyone's public key, for the broker.
	PublicFile = "keys.conf"
	// CredsDir holds a file for each user with its secret key, for NATS_CREDS.
	CredsDir = "creds"
)

// CredsFile returns the path of a user's secret key, below the directory that Keys was given.
func CredsFile(dir, user string) string { return filepath.Join(dir, CredsDir, user+".nk") }

// Keys makes a key for each user that has none yet, and a new one for each user to rotate. It writes the secret keys
// below dir/creds, readable by their owner alone, and all public keys into dir/keys.conf. A user whose public key is
// known keeps it, even if the secret key is no longer here. Keys returns the users that got a new key.
func Keys(dir string, users []topology.User, rotate ...string) (made []string, err error) {
	for _, name := range rotate {
		if !slices.ContainsFunc(users, func(u topology.User) bool { return u.Name == name }) {
			return nil, fmt.Errorf("there is no user %q", name)
		}
	}

	if err := os.MkdirAll(filepath.Join(dir, CredsDir), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the secret keys: %w", err)
	}

	public, err := readPublic(filepath.Join(dir, PublicFile))
	if err != nil {
		return nil, err
	}

	for _, u := range users {
		key, err := publicOf(CredsFile(dir, u.Name))
		if err != nil {
			return made, err
		}

		if key != "" {
			public[u.Name] = key
		}

		if public[u.Name] != "" && !slices.Contains(rotate, u.Name) {
			continue
		}

		if public[u.Name], err = makeKey(CredsFile(dir, u.Name), u.Name); err != nil {
			return made, err
		}

		made = append(made, u.Name)
	}

	return made, writePublic(filepath.Join(dir, PublicFile), users, public)
}

var publicLine = regexp.MustCompile(`^NKEY_([A-Z0-9_]+): "?(U[A-Z2-7]+)"?$`)

// Operators lists the operators of an installation who have a key of their own, according to dir/keys.conf.
func Operators(dir string) ([]string, error) {
	public, err := readPublic(filepath.Join(dir, PublicFile))
	var names []string
	for _, user := range slices.Sorted(maps.Keys(public)) {
		if name, own := topology.OperatorOf(user); own && topology.IsOperatorName(name) {
			names = append(names, name)
		}
	}

	return names, err
}

// Withdraw removes a user's secret key, if it lies here. The broker knows the user until it reads a keys.conf without
// them; Keys writes that file when the user is not among those it is given.
func Withdraw(dir, user string) error {
	err := os.Remove(CredsFile(dir, user))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the key of %s: %w", user, err)
	}

	return nil
}

// readPublic reads the public keys by user. If there is no file, there are none.
func readPublic(path string) (map[string]string, error) {
	keys := map[string]string{}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return keys, nil
	}

	if err != nil {
		return nil, fmt.Errorf("read the public keys: %w", err)
	}

	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		if m := publicLine.FindStringSubmatch(lines.Text()); m != nil {
			keys[strings.ReplaceAll(strings.ToLower(m[1]), "_", "-")] = m[2]
		}
	}

	return keys, nil
}

// publicOf returns the public key that belongs to the secret key in a file, or "" if there is no such file.
func publicOf(path string) (string, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}

	if err != nil {
		return "", fmt.Errorf("read a secret key: %w", err)
	}

	pair, err := nkeys.ParseDecoratedUserNKey(content)
	if err != nil {
		return "", fmt.Errorf("%s holds no user's key: put the right file there, or remove it to get a new key", path)
	}
	defer pair.Wipe()

	key, err := pair.PublicKey()
	if err != nil {
		return "", fmt.Errorf("read the key in %s: %w", path, err)
	}

	return key, nil
}

// makeKey writes a new secret key and returns its public half.
func makeKey(path, user string) (string, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", fmt.Errorf("make a key for %s: %w", user, err)
	}
	defer pair.Wipe()

	seed, err := pair.Seed()
	if err != nil {
		return "", fmt.Errorf("make a key for %s: %w", user, err)
	}
	defer clear(seed)
	// The file names the inbox as well, so that whoever uses the file need not know which user it is for.
	text := fmt.Sprintf("# Secret key of the NATS user %s of BOBO Sync: NATS_CREDS names this file.\n# inbox: %s\n%s\n",
		user, topology.Inbox(user), seed)
	if err := replaceFile(path, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write the key of %s: %w", user, err)
	}

	public, err := pair.PublicKey()
	if err != nil {
		return "", fmt.Errorf("make a key for %s: %w", user, err)
	}

	return public, nil
}

func writePublic(path string, users []topology.User, public map[string]string) error {
	var b bytes.Buffer
	b.WriteString("# The users' public keys, written by make nats-creds. They are no secret, but belong to this installation.\n")

	for _, u := range users {
		fmt.Fprintf(&b, "%s: %s\n", Variable(u.Name), public[u.Name])
	}

	if err := replaceFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write the public keys: %w", err)
	}

	return nil
}

// replaceFile writes a file completely or not at all.
func replaceFile(path string, content []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // readable by the owner alone
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()

	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}

	return os.Rename(f.Name(), path)
}
