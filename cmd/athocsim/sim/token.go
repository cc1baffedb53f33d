package sim

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	tokenPath     = "/AuthServices/Auth/connect/token"
	requiredScope = "athoc.iws.web.api"
	maxTokenForm  = 64 << 10
)

// tokenStore holds the access tokens that have been issued.
type tokenStore struct {
	mu     sync.Mutex
	expiry map[string]time.Time
}

func newTokenStore() *tokenStore { return &tokenStore{expiry: map[string]time.Time{}} }

func (t *tokenStore) issue(lifetime time.Duration, many bool) string {
	token := rand.Text() + rand.Text()
	now := time.Now()

	t.mu.Lock()
	defer t.mu.Unlock()

	for old, until := range t.expiry {
		if !many || !now.Before(until) {
			delete(t.expiry, old)
		}
	}

	t.expiry[token] = now.Add(lifetime)

	return token
}

// check returns why a token is not good, or "" if it is.
func (t *tokenStore) check(token string) string {
	t.mu.Lock()
	defer t.mu.Unlock()

	until, ok := t.expiry[token]
	if !ok {
		return "the token is not one of this server's, or was revoked by a newer one"
	}

	if !time.Now().Before(until) {
		return "the token has expired"
	}

	return ""
}

func (t *tokenStore) revoke() int {
	t.mu.Lock()
	defer t.mu.Unlock()

	n := len(t.expiry)
	clear(t.expiry)

	return n
}

// fingerprint identifies a token without revealing it.
func fingerprint(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:6])
}

// bearer returns the token of a request, "" if there is none.
func bearer(r *http.Request) string {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return ""
	}

	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}

	return token
}

func (s *Simulator) serveToken(w http.ResponseWriter, r *http.Request) {
	c := s.arrive(r, EndpointToken)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTokenForm))
	s.play(w, r, c, func() answer {
		switch {
		case r.Method != http.MethodPost:
			return notAllowed(http.MethodPost)
		case err != nil:
			return oauthError("invalid_request", "the body could not be read: "+err.Error())
		}

		return s.token(c, r, body)
	})
}

func oauthError(code, reason string) answer {
	return answer{status: http.StatusBadRequest, body: mustJSON(map[string]string{"error": code}), reason: code + ": " + reason}
}

// token checks a token request in the order in which an OAuth server does: its form, the client, the grant, the
// scope, the operator.
func (s *Simulator) token(c *Call, r *http.Request, body []byte) answer {
	form, reason := tokenForm(r, body)
	if reason != "" {
		return oauthError("invalid_request", reason)
	}

	o := &s.opts
	switch {
	case !same(form.Get("client_id"), o.ClientID) || !same(form.Get("client_secret"), o.ClientSecret):
		return oauthError("invalid_client", "client_id or client_secret is missing or wrong")
	case form.Get("grant_type") != "password":
		return oauthError("unsupported_grant_type", "grant_type must be password")
	}

	if reason := checkScope(form.Get("scope")); reason != "" {
		return oauthError("invalid_scope", reason)
	}

	switch {
	case !same(form.Get("username"), o.Username) || !same(form.Get("password"), o.Password):
		return oauthError("invalid_grant", "username or password is missing or wrong")
	case form.Get("acr_values") != "tenant:"+o.OrgCode:
		return oauthError("invalid_grant", "acr_values must be tenant: and the organisation code")
	}

	set := s.Settings()
	token := s.tokens.issue(time.Duration(set.TokenLifetime), set.ManyTokens)
	c.Token = fingerprint(token)
	a := answer{status: http.StatusOK, header: http.Header{"Cache-Control": {"no-store"}}}
	a.body = mustJSON(map[string]any{
		"access_token": token, "expires_in": int64(time.Duration(set.TokenLifetime) / time.Second), "token_type": "Bearer"})

	return a
}

// tokenForm parses the form, or returns what is wrong with it. Secrets in the address are refused: addresses get
// logged.
func tokenForm(r *http.Request, body []byte) (url.Values, string) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/x-www-form-urlencoded" {
		return nil, "Content-Type must be application/x-www-form-urlencoded"
	}

	if r.URL.RawQuery != "" {
		return nil, "the fields belong into the body, not into the address"
	}

	form, err := url.ParseQuery(string(body))
	if err != nil || !utf8.Valid(body) {
		return nil, "the form is malformed" // the error would quote a piece of it, which may be a secret
	}

	for name, values := range form {
		if len(values) > 1 {
			return nil, "a field is given twice: " + name
		}
	}

	return form, ""
}

func checkScope(scope string) string {
	found := false
	for s := range strings.SplitSeq(scope, " ") {
		switch s {
		case requiredScope:
			found = true
		case "openid", "profile":
		default:
			return "scope must be openid profile " + requiredScope + ", or " + requiredScope + " alone, separated by one space"
		}
	}

	if !found {
		return "scope lacks " + requiredScope
	}

	return ""
}

func same(got, want string) bool { return subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1 }
