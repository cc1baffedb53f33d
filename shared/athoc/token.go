package athoc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// renewMargin is how long before its expiry a token is replaced at the earliest; a short-lived one is replaced when
	// a fifth of its life is left.
	renewMargin = time.Minute
	// maxLifetime bounds expires_in, so that an absurd one cannot overflow. A token revoked earlier is found by its 401.
	maxLifetime = 30 * 24 * time.Hour
	// defaultLifetime is that of a token for which AtHoc does not state a lifetime.
	defaultLifetime = time.Hour
	// maxTokenAnswer bounds the answer to a token request, in bytes.
	maxTokenAnswer = 1 << 20
)

// Token is an access token with its life span. It prints and logs without its value; its JSON form, for a [TokenStore],
// holds the value.
type Token struct {
	// Access is the value for the Authorization header.
	Access string `json:"access"`
	// Issued and Expires bound the token's life by the clock of the process that got it.
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

// Fingerprint identifies the token without revealing it: 16 hex digits of its SHA-256, or "" for the zero Token.
func (t Token) Fingerprint() string {
	if t.Access == "" {
		return ""
	}

	sum := sha256.Sum256([]byte(t.Access))

	return hex.EncodeToString(sum[:8])
}

// String hides the value.
func (t Token) String() string {
	return fmt.Sprintf("token %q until %s", t.Fingerprint(), t.Expires.UTC().Format(time.RFC3339))
}

// GoString hides the value from %#v.
func (t Token) GoString() string { return "athoc.Token{" + t.String() + "}" }

// LogValue hides the value from logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// fresh reports whether the token can be used for a call that begins now.
func (t Token) fresh(now time.Time) bool {
	margin := min(renewMargin, t.Expires.Sub(t.Issued)/5)
	return t.Access != "" && now.Before(t.Expires.Add(-margin))
}

// TokenStore keeps the organisation's one access token. AtHoc revokes the previous token when it issues a new one, so
// processes that each got a token of their own would keep revoking one another's; processes that share a store do not.
//
// All methods may be called concurrently. A client asks for the current token before every call, so a store that is
// reached over a network should watch its value rather than fetch it each time. An error that a store returns becomes
// an [Outage], unless it is a [*CallError] that fetch returned; a store must pass that on (wrapped or not).
type TokenStore interface {
	// Current returns the newest token known, or the zero Token if there is none. The token may be invalid by now.
	Current(ctx context.Context) (Token, error)

	// Replace gets a new token with fetch, keeps it and returns it, if the current token is still the one whose
	// fingerprint is old ("" for none). If there is another token by now, somebody else was faster: Replace returns
	// that one and does not call fetch. Comparing, fetching and keeping happen under one lock, held against all users
	// of the store; ctx bounds the wait for the lock as well. If fetch fails, the store is left as it is. A new token
	// should be kept even if ctx ends meanwhile, since AtHoc has revoked its predecessor.
	Replace(ctx context.Context, old string, fetch func(context.Context) (Token, error)) (Token, error)
}

// MemoryTokens is a [TokenStore] for one process.
type MemoryTokens struct {
	lock  chan struct{} // a mutex that a context can stop waiting for; it is held during fetch
	mu    sync.Mutex    // guards token
	token Token
}

// NewMemoryTokens returns an empty store.
func NewMemoryTokens() *MemoryTokens { return &MemoryTokens{lock: make(chan struct{}, 1)} }

// Current implements [TokenStore]. It does not wait for a Replace that is under way.
func (m *MemoryTokens) Current(context.Context) (Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.token, nil
}

// Replace implements [TokenStore].
func (m *MemoryTokens) Replace(ctx context.Context, old string, fetch func(context.Context) (Token, error)) (Token, error) {
	select {
	case m.lock <- struct{}{}:
		defer func() { <-m.lock }()
	case <-ctx.Done():
		return Token{}, fmt.Errorf("waiting for the token's lock: %w", ctx.Err())
	}

	if current, _ := m.Current(ctx); current.Fingerprint() != old {
		return current, nil
	}

	token, err := fetch(ctx)
	if err != nil {
		return Token{}, err
	}

	m.mu.Lock()
	defer m.mu.Unlock()

	m.token = token

	return token, nil
}

// tokens hands out the token to the goroutines of this process. However many need a new one at once, only one asks the
// store; the others share its result, even a failure, so that refused credentials cause one request and not many.
type tokens struct {
	store TokenStore
	fetch func(context.Context) (Token, error)
	now   func() time.Time

	fetches atomic.Int64 // how often AtHoc was asked for a token

	mu     sync.Mutex
	flight *flight
}

// flight is one renewal under way.
type flight struct {
	done  chan struct{} // closed when token, err and own are set
	token Token
	err   error
	own   bool // err is due to the leader's own context, and means nothing to the others
}

// get returns a token that has some life left.
func (t *tokens) get(ctx context.Context) (Token, error) {
	token, err := t.store.Current(ctx)
	if err != nil {
		return Token{}, tokenError(ctx, err)
	}

	if token.fresh(t.now()) {
		return token, nil
	}

	return t.renew(ctx, token.Fingerprint())
}

// renew returns a token other than the one whose fingerprint is old. It gets a new one only if nobody else has got one
// meanwhile.
func (t *tokens) renew(ctx context.Context, old string) (Token, error) {
	for {
		f, leader := t.join()
		if leader {
			t.lead(ctx, f, old)
			return f.token, f.err
		}

		select {
		case <-f.done:
		case <-ctx.Done():
			return Token{}, tokenError(ctx, ctx.Err())
		}

		switch {
		case f.own:
			continue
		case f.err == nil && f.token.Fingerprint() == old:
			continue // that flight replaced an older token
		}

		return f.token, f.err
	}
}

// join returns the flight under way, or a new one, which the caller then must lead.
func (t *tokens) join() (f *flight, leader bool) {
	t.mu.Lock()
	defer t.mu.Unlock()

	if t.flight != nil {
		return t.flight, false
	}

	t.flight = &flight{done: make(chan struct{}), own: true}

	return t.flight, true
}

// lead carries the flight out and ends it, even when the store panics.
func (t *tokens) lead(ctx context.Context, f *flight, old string) {
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()

		t.flight = nil

		close(f.done)
	}()

	f.token, f.err = t.store.Replace(ctx, old, func(ctx context.Context) (Token, error) {
		t.fetches.Add(1)
		return t.fetch(ctx)
	})
	if f.err != nil {
		f.token, f.err = Token{}, tokenError(ctx, f.err)
	}

	f.own = f.err != nil && ctx.Err() != nil
}

// tokenError turns an error of a store into a CallError, and leaves alone a CallError that fetch returned.
func tokenError(ctx context.Context, err error) error {
	if call, ok := errors.AsType[*CallError](err); ok {
		return call
	}

	call := &CallError{Kind: Outage, Op: OpToken, Err: err, Detail: "the store of the shared access token failed"}
	if ctx.Err() != nil {
		call.Detail = "gave up waiting for an access token"
	}

	if errors.Is(ctx.Err(), context.Canceled) {
		call.Kind = Canceled
	}

	return call
}

// fetchToken asks AtHoc for a new token.
func (c *Client) fetchToken(ctx context.Context) (Token, error) {
	form := url.Values{
		"grant_type":    {"password"},
		"client_id":     {c.cfg.ClientID},
		"client_secret": {c.cfg.ClientSecret},
		"username":      {c.cfg.Username},
		"password":      {c.cfg.Password},
		"scope":         {c.cfg.Scope},
		"acr_values":    {"tenant:" + c.cfg.OrgCode},
	}
	issued := c.cfg.Now().Round(0) // wall clock: it may be compared in another process
	var token Token

	err := c.exchanger.do(ctx, exchange{
		op:          OpToken,
		method:      http.MethodPost,
		url:         c.tokenURL,
		contentType: "application/x-www-form-urlencoded",
		body:        []byte(form.Encode()),
		limit:       maxTokenAnswer,
		read: func(body io.Reader, _ scrubber) (err error) {
			token, err = parseToken(body, issued)
			return err
		},
	})
	if err != nil {
		return Token{}, tokenRefusal(err)
	}

	c.log.DebugContext(ctx, "athoc access token obtained", "token_fingerprint", token.Fingerprint(), "expires_at", token.Expires)

	return token, nil
}

// tokenRefusal corrects kinds whose meaning is tied to the users in a call: a caller must not halve batches, or blame a
// user, because the token request was refused.
func tokenRefusal(err error) error {
	call, ok := errors.AsType[*CallError](err)
	if !ok {
		return err
	}

	switch call.Kind {
	case BadRequest:
		call.Kind = Unauthorized
		call.Detail = joinDetail(advice(OpToken, Unauthorized, call.Status), call.Detail)
	case TooLarge:
		call.Kind = NotFound
		call.Detail = joinDetail(advice(OpToken, NotFound, call.Status), call.Detail)
	}

	return call
}

// parseToken reads the answer to a token request. Its errors do not quote the answer. A lifetime is only recommended
// (RFC 6749, section 5.1): without a sensible one, the token is used for the default lifetime, or until AtHoc answers
// with a 401.
func parseToken(body io.Reader, issued time.Time) (Token, error) {
	var answer struct {
		AccessToken string          `json:"access_token"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
		TokenType   lenient         `json:"token_type"`
	}
	if err := json.NewDecoder(body).Decode(&answer); err != nil {
		return Token{}, errors.New("the answer is not the JSON of an access token")
	}

	answer.AccessToken = strings.TrimSpace(answer.AccessToken)
	switch {
	case answer.AccessToken == "" || strings.ContainsFunc(answer.AccessToken, notInHeader):
		return Token{}, errors.New("the answer holds no usable access_token")
	case answer.TokenType != "" && !strings.EqualFold(strings.TrimSpace(string(answer.TokenType)), "Bearer"):
		return Token{}, errors.New("the answer's token_type is not Bearer")
	}

	return Token{Access: answer.AccessToken, Issued: issued, Expires: issued.Add(lifetime(answer.ExpiresIn))}, nil
}

// lifetime reads a number of seconds, which may be written as a string. Without a positive one it returns
// defaultLifetime.
func lifetime(raw json.RawMessage) time.Duration {
	seconds, err := strconv.ParseFloat(strings.TrimSpace(strings.Trim(string(raw), `"`)), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || !(seconds > 0) {
		return defaultLifetime
	}

	return time.Duration(min(seconds, maxLifetime.Seconds()) * float64(time.Second))
}

// notInHeader reports whether a token with r in it would break the Authorization header.
func notInHeader(r rune) bool { return r <= ' ' || r > '~' }
