package auth

// The file of users, read again when it changes.

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync"

	"bobosync/shared/login"
)

// maxUsersFile bounds the file in bytes.
const maxUsersFile = 1 << 20

type users struct {
	path string
	log  *slog.Logger

	mu    sync.Mutex
	stamp string // of the file when it was last read
	wrong string // why the file with that stamp cannot be used; empty if it can
	all   map[string]login.User
}

// openUsers reads the file, which must have at least one user.
func openUsers(path string, log *slog.Logger) (*users, error) {
	u := &users{path: path, log: log}

	stamp, err := stampOf(path)
	if err == nil {
		u.stamp = stamp
		u.all, err = readUsers(path)
	}

	if err == nil && len(u.all) == 0 {
		err = fmt.Errorf("%s has no user: bobosync console passwd NAME makes a line of it", path)
	}

	if err != nil {
		return nil, fmt.Errorf("CONSOLE_USERS_FILE: %w", err)
	}

	return u, nil
}

func readUsers(path string) (map[string]login.User, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()

	info, err := file.Stat()
	if err != nil {
		return nil, err
	}

	if runtime.GOOS != "windows" && info.Mode()&0o022 != 0 {
		return nil, fmt.Errorf("others may write to %s: chmod 600 %s", path, path)
	}

	data, err := io.ReadAll(io.LimitReader(file, maxUsersFile))
	if err != nil {
		return nil, err
	}

	all, err := login.ReadUsers(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}

	return all, nil
}

// stampOf returns a text that changes when a file does.
func stampOf(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}

	return fmt.Sprint(info.ModTime().UnixNano(), info.Size()), nil
}

// get returns a user as the file has them now. As long as the file cannot be used, its previous content stays in force,
// and the file is tried again: what repairs it, such as another mode or owner, need not change its stamp.
func (u *users) get(name string) login.User {
	u.mu.Lock()
	defer u.mu.Unlock()

	stamp, err := stampOf(u.path)
	if err != nil || stamp == u.stamp && u.wrong == "" {
		return u.all[name]
	}

	all, err := readUsers(u.path)
	if err == nil {
		u.all, u.wrong = all, ""
	} else if stamp != u.stamp || err.Error() != u.wrong {
		u.wrong = err.Error()
		u.log.Error("the file of users cannot be used; the one from before holds", "error", err)
	}

	u.stamp = stamp

	return u.all[name]
}

// mark returns a text that changes when the user's role or password does, or when the user is gone.
func (u *users) mark(name string) string { return markOf(u.get(name).Mark()) }

func markOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
