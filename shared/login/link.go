package login

// Links that open the console once, for users who may read the data directory.

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bobosync/shared/disk"
)

const (
	// KeyFile is the file in the data directory that holds the console's address and the key of its links.
	KeyFile = "console.key"
	// LinkLife is how long a link is valid.
	LinkLife = time.Minute
	// LinkPath is the path of links; the token is the query parameter t.
	LinkPath = "/login/link"
)

// opener is the content of KeyFile.
type opener struct {
	URL string `json:"url"`
	Key []byte `json:"key"`
}

// claim is the content of a link: for whom it is, and until when it is valid.
type claim struct {
	Name  string `json:"n"`
	Until int64  `json:"u"`
	ID    string `json:"i"`
}

// Links are the login links of a running console. Links of a previous run open nothing.
type Links struct {
	key  []byte
	mu   sync.Mutex
	used map[string]int64
}

// NewLinks makes a key and writes it to the directory, with the console's address.
func NewLinks(directory, address string) (*Links, error) {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails

	data, err := json.Marshal(opener{address, key})
	path := filepath.Join(directory, KeyFile)
	if err == nil {
		err = os.MkdirAll(directory, 0o700)
	}

	if err == nil {
		err = disk.Replace(path, append(data, '\n'))
	}

	if err != nil {
		return nil, fmt.Errorf("write the key of the console's links (DATA_DIRECTORY): %w", err)
	}

	return &Links{key: key, used: map[string]int64{}}, nil
}

// NewLink makes a link for a person who may read the directory; name is who they claim to be.
func NewLink(directory, name string, now time.Time) (string, error) {
	data, err := os.ReadFile(filepath.Join(directory, KeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no console that is opened by links runs with this DATA_DIRECTORY: start it with CONSOLE_ADDR and CONSOLE_AUTH=link: %w", err)
	}

	var o opener
	if err == nil {
		err = json.Unmarshal(data, &o)
	}

	if err != nil {
		return "", fmt.Errorf("read the key of the console's links (DATA_DIRECTORY): %w", err)
	}

	said, err := json.Marshal(claim{name, now.Add(LinkLife).Unix(), rand.Text()})
	if err != nil {
		return "", fmt.Errorf("make a link: %w", err)
	}

	return o.URL + LinkPath + "?" + url.Values{"t": {sign(o.Key, said)}}.Encode(), nil
}

func sign(key, said []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write(said)

	text := base64.RawURLEncoding.EncodeToString

	return text(said) + "." + text(mac.Sum(nil))
}

// Use returns the name that a token was made for. It accepts each token once, and none that is older than LinkLife.
func (l *Links) Use(token string, now time.Time) (name string, ok bool) {
	text, _, _ := strings.Cut(token, ".")
	said, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || !hmac.Equal([]byte(sign(l.key, said)), []byte(token)) {
		return "", false
	}

	var c claim
	if json.Unmarshal(said, &c) != nil || now.Unix() > c.Until {
		return "", false
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	for id, until := range l.used {
		if now.Unix() > until {
			delete(l.used, id)
		}
	}

	if _, was := l.used[c.ID]; was {
		return "", false
	}

	l.used[c.ID] = c.Until

	return c.Name, true
}
