package auth

// The console's cookies, whose content is sealed.

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"bobosync/shared/config"
)

// sealer encrypts cookies, so that nobody else can read or make one.
type sealer struct{ aead cipher.AEAD }

func newSealer(key config.Secret) (*sealer, error) {
	derived, err := hkdf.Key(sha256.New, []byte(cmp.Or(key.Reveal(), rand.Text()+rand.Text())), nil, "bobosync console sessions 1", 32)
	if err != nil {
		return nil, fmt.Errorf("the key of sessions: %w", err)
	}

	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("the key of sessions: %w", err)
	}

	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("the key of sessions: %w", err)
	}

	return &sealer{aead}, nil
}

// seal returns the value of the cookie with this name.
func (s *sealer) seal(cookie string, content any) string {
	data, err := json.Marshal(content)
	if err != nil {
		panic(err) // it consists of strings and numbers
	}

	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, data, []byte(cookie)))
}

// open decodes what seal made for a cookie with the same name, and reports whether it did.
func (s *sealer) open(cookie, value string, content any) bool {
	sealed, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return false
	}

	data, err := s.aead.Open(nil, nil, sealed, []byte(cookie))

	return err == nil && json.Unmarshal(data, content) == nil
}

// cookie is one of the console's cookies. It may be used by several goroutines.
type cookie struct {
	name   string
	secure bool // browsers connect over TLS
	sealer *sealer
}

// cookie returns the cookie with this name. Over TLS, the prefix of the name makes browsers accept the cookie from this
// host alone. Without TLS, which is this machine talking to itself, some browsers would not keep a cookie with the
// prefix.
func (s *sealer) cookie(name string, secure bool) cookie {
	if secure {
		name = "__Host-" + name
	}
	return cookie{name, secure, s}
}

// set makes a browser keep content for life or, if life is zero, until the browser is closed.
func (c cookie) set(w http.ResponseWriter, content any, life time.Duration) {
	c.write(w, c.sealer.seal(c.name, content), int(life.Seconds()))
}

// remove removes the cookie from a browser.
func (c cookie) remove(w http.ResponseWriter) { c.write(w, "", -1) }

func (c cookie) write(w http.ResponseWriter, value string, age int) {
	http.SetCookie(w, &http.Cookie{
		Name: c.name, Value: value, Path: "/", MaxAge: age, HttpOnly: true, Secure: c.secure, SameSite: http.SameSiteLaxMode,
	})
}

// readCookie returns what the cookie holds, or nil. If there are several cookies with its name, the first that can be
// read and is valid counts: another service at this machine's address may have set one.
func readCookie[T any](r *http.Request, c cookie, valid func(*T) bool) *T {
	for _, sent := range r.CookiesNamed(c.name) {
		var content T
		if c.sealer.open(c.name, sent.Value, &content) && valid(&content) {
			return &content
		}
	}

	return nil
}
