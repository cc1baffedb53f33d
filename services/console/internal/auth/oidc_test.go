package auth

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/oauth2-proxy/mockoidc"
	"github.com/stretchr/testify/require"

	"bobosync/shared/config"
)

// oidcLogin is a provider, a console that sends people to it, and the browser of one of them. All of them talk over
// sockets.
type oidcLogin struct {
	t        *testing.T
	provider *mockoidc.MockOIDC
	web      *httptest.Server
	door     *door
	browser  *http.Client
	// answer, if set, changes what the provider answers at a path.
	answer map[string]func(body []byte) (status int, changed []byte)
}

// person is somebody whom the provider knows, with further claims, which replace the usual ones.
type person struct {
	mockoidc.MockUser
	claims map[string]any
}

func (p *person) Claims(scope []string, usual *mockoidc.IDTokenClaims) (jwt.Claims, error) {
	user, err := p.MockUser.Claims(scope, usual)
	if err != nil {
		return nil, err
	}

	data, err := json.Marshal(user)
	if err != nil {
		return nil, err
	}

	all := jwt.MapClaims{}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}

	maps.Copy(all, p.claims)
	maps.DeleteFunc(all, func(_ string, claim any) bool { return claim == nil })

	return all, nil
}

func (l *oidcLogin) change(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		change := l.answer[r.URL.Path]
		if change == nil {
			next.ServeHTTP(w, r)
			return
		}

		made := httptest.NewRecorder()
		next.ServeHTTP(made, r)
		status, body := change(made.Body.Bytes())

		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write(body)
	})
}

func withProvider(t *testing.T, change ...func(*Config)) *oidcLogin {
	t.Helper()
	l := &oidcLogin{t: t, answer: map[string]func([]byte) (int, []byte){}}
	var err error
	l.provider, err = mockoidc.NewServer(nil)
	require.NoError(t, err)
	require.NoError(t, l.provider.AddMiddleware(l.change))
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.provider.Start(listener, nil))
	t.Cleanup(func() { _ = l.provider.Server.Close() })

	l.web = httptest.NewUnstartedServer(nil)
	address := l.web.Listener.Addr().String()

	cfg := Config{
		Mode: ModeOIDC, URL: "http://" + address, Issuer: l.provider.Issuer(), ClientID: l.provider.ClientID, ClientSecret: config.Secret(l.provider.ClientSecret),
		Scopes: "openid profile groups", GroupsClaim: "groups", Operators: []string{"duty officers"}, Approvers: []string{"gold", ""}, SessionKey: config.Secret(strings.Repeat("k", 32)),
	}
	for _, c := range change {
		c(&cfg)
	}

	l.door = open(t, cfg, func(o *Options) { o.Addr, o.Clock = address, time.Now })
	l.web.Config.Handler = l.door.handler
	l.web.Start()
	t.Cleanup(l.web.Close)
	l.forget()

	return l
}

// forget switches to another browser.
func (l *oidcLogin) forget() {
	jar, err := cookiejar.New(nil)
	require.NoError(l.t, err)
	l.browser = &http.Client{Jar: jar, Timeout: time.Minute}
}

// get opens an address and follows where it leads.
func (l *oidcLogin) get(address string) (int, string, *url.URL) {
	l.t.Helper()

	if strings.HasPrefix(address, "/") {
		address = l.web.URL + address
	}

	r, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, address, nil)
	require.NoError(l.t, err)

	return l.do(r)
}

func (l *oidcLogin) do(r *http.Request) (int, string, *url.URL) {
	l.t.Helper()
	res, err := l.browser.Do(r)
	require.NoError(l.t, err)

	defer res.Body.Close()

	body, err := io.ReadAll(res.Body)
	require.NoError(l.t, err)

	return res.StatusCode, string(body), res.Request.URL
}

// stop opens an address without following redirects, so that the test sees where the browser is sent.
func (l *oidcLogin) stop(address string) (*http.Response, *url.URL) {
	l.t.Helper()
	browser := *l.browser
	browser.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, address, nil)
	require.NoError(l.t, err)
	res, err := browser.Do(r)
	require.NoError(l.t, err)
	require.NoError(l.t, res.Body.Close())
	to, err := res.Location()
	require.NoError(l.t, err)

	return res, to
}

// comes logs in a person who wants to see /viewer.
func (l *oidcLogin) comes(p *person) (int, string, *url.URL) {
	l.t.Helper()
	l.provider.QueueUser(p)
	return l.get("/login/begin?next=/viewer?a=b")
}

func olga(groups ...string) *person {
	return &person{MockUser: mockoidc.MockUser{Subject: "id-1", PreferredUsername: "olga", Email: "olga@example.org", Groups: groups}}
}

// TestTheProviderSaysWhoItIs checks that the provider says who a user is and which groups they are in, and that their
// role follows from the groups.
func TestTheProviderSaysWhoItIs(t *testing.T) {
	t.Parallel()

	l := withProvider(t)
	for _, c := range []struct {
		about, want string
		person      *person
		claims      map[string]any
	}{
		{"a viewer", "olga|viewer|oidc", olga(), nil},
		{"a group that is none", "olga|viewer|oidc", olga("golden", "duty"), nil},
		{"an operator", "olga|operator|oidc", olga("x", "duty officers"), nil},
		{"the highest role counts", "olga|approver|oidc", olga("duty officers", "gold"), nil},
		{"one group as a text", "olga|approver|oidc", olga(), map[string]any{"groups": "gold"}},
		{"a group without a name", "olga|viewer|oidc", olga(), map[string]any{"groups": ""}},
		{"groups without names", "olga|viewer|oidc", olga(), map[string]any{"groups": []any{"", " "}}},
		{"groups that are no texts", "olga|viewer|oidc", olga(), map[string]any{"groups": []any{1, map[string]any{"gold": true}}}},
		{"no short name", "olga@county|viewer|oidc", olga(), map[string]any{"preferred_username": nil, "upn": "olga@county"}},
		{"a name that hides", "o@example.org|viewer|oidc", olga(), map[string]any{"preferred_username": "olga\u202e", "email": "o@example.org"}},
		{"a name that looks like a record", "id-1|viewer|oidc", olga(), map[string]any{"preferred_username": "anna (console, password, 10.0.0.1)"}},
		{"a name that is none", "id-1|viewer|oidc", olga(), map[string]any{"preferred_username": 7, "email": strings.Repeat("x", 300)}},
		{"for several, given to this one", "olga|viewer|oidc", olga(), map[string]any{"aud": []any{"other", l.provider.ClientID}, "azp": l.provider.ClientID}},
	} {
		l.forget()

		c.person.claims = c.claims
		code, body, at := l.comes(c.person)
		require.Equal(t, http.StatusOK, code, "%s: %s", c.about, body)
		require.Equal(t, "/viewer?a=b", at.RequestURI(), c.about)
		require.Equal(t, c.want+"|127.0.0.1", body, c.about)
	}

	require.Equal(t, "olga (console, oidc id-1, 10.1.2.3)", Identity{Name: "olga", How: howOIDC, Subject: "id-1", Address: "10.1.2.3"}.By())
	require.Equal(t, "olga (console, link, 10.1.2.3)", Identity{Name: "olga", How: howLink, Address: "10.1.2.3"}.By())
}

// TestWhatTheProviderIsSent checks that a code is requested with a state, a nonce and the hash of a secret, that each
// is new, and that their cookie is sealed.
func TestWhatTheProviderIsSent(t *testing.T) {
	t.Parallel()
	l := withProvider(t)
	_, body, _ := l.get("/login?next=/viewer")
	require.Contains(t, body, `href="/login/begin?next=%2fviewer"`)
	require.NotContains(t, body, "password")

	seen := map[string]bool{}
	for range 2 {
		res, to := l.stop(l.web.URL + "/login/begin")
		query := to.Query()
		require.Equal(t, l.provider.AuthorizationEndpoint(), to.Scheme+"://"+to.Host+to.Path)
		require.Equal(t, []string{"code", "S256", "openid profile groups", l.web.URL + "/login/oidc"},
			[]string{query.Get("response_type"), query.Get("code_challenge_method"), query.Get("scope"), query.Get("redirect_uri")})

		for _, name := range []string{"state", "nonce", "code_challenge"} {
			require.GreaterOrEqual(t, len(query.Get(name)), 26, name)
			require.False(t, seen[query.Get(name)], "%s is used again", name)
			seen[query.Get(name)] = true
			require.NotContains(t, res.Cookies()[0].Value, query.Get(name))
		}

		require.True(t, res.Cookies()[0].HttpOnly)
		require.Equal(t, 600, res.Cookies()[0].MaxAge)
	}
}

// TestAnswersThatAreNotBelieved checks that no such answer logs anybody in, and that each is refused with a reason.
func TestAnswersThatAreNotBelieved(t *testing.T) {
	t.Parallel()
	l := withProvider(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)

	signed := func(method jwt.SigningMethod, key any) func(string) string {
		return func(token string) string {
			claims := jwt.MapClaims{}
			parsed, _, err := jwt.NewParser().ParseUnverified(token, claims)
			require.NoError(t, err)

			again := jwt.NewWithClaims(method, claims)
			again.Header["kid"] = parsed.Header["kid"]
			made, err := again.SignedString(key)
			require.NoError(t, err)

			return made
		}
	}
	public, err := l.provider.Keypair.JWKS()
	require.NoError(t, err)

	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	const notOurs, older = "not signed by it, or not for this login", "compare the clocks"
	for _, c := range []struct {
		about, says string
		claims      map[string]any
		token       func(string) string // changes the token on its way
	}{
		{"another nonce", notOurs, map[string]any{"nonce": "x"}, nil},
		{"no nonce", notOurs, map[string]any{"nonce": nil}, nil},
		{"another issuer", notOurs, map[string]any{"iss": "https://evil.example.org"}, nil},
		{"no issuer", notOurs, map[string]any{"iss": nil}, nil},
		{"another audience", notOurs, map[string]any{"aud": "other"}, nil},
		{"no audience", notOurs, map[string]any{"aud": nil}, nil},
		{"given to another application", notOurs, map[string]any{"azp": "other"}, nil},
		{"for several, given to nobody", notOurs, map[string]any{"aud": []any{"other", l.provider.ClientID}}, nil},
		{"it has expired", older, map[string]any{"exp": ago(time.Second)}, nil},
		{"it never expires", older, map[string]any{"exp": nil}, nil},
		{"it is for later", notOurs, map[string]any{"nbf": ago(-time.Hour)}, nil},
		{"no subject", "names nobody", map[string]any{"sub": nil}, nil},
		{"a subject that looks like a record", "names nobody", map[string]any{"sub": "1, 10.0.0.1) (x"}, nil},
		{"a long subject", "names nobody", map[string]any{"sub": strings.Repeat("x", 300)}, nil},
		{"a subject of two lines", "names nobody", map[string]any{"sub": "a\nb"}, nil},
		{"alg none", notOurs, nil, signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType)},
		{"alg HS256 with the public key", notOurs, nil, signed(jwt.SigningMethodHS256, public)},
		{"alg HS256 with the client's secret", notOurs, nil, signed(jwt.SigningMethodHS256, []byte(l.provider.ClientSecret))},
		{"signed by somebody else", notOurs, nil, signed(jwt.SigningMethodRS256, other)},
		{"not signed", notOurs, nil, func(token string) string { return token[:strings.LastIndex(token, ".")+1] }},
		{"other claims under the signature", notOurs, nil, func(token string) string {
			parts := strings.Split(token, ".")
			claims, err := base64.RawURLEncoding.DecodeString(parts[1])
			require.NoError(t, err)

			parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(claims), "olga", "anna", 1)))

			return strings.Join(parts, ".")
		}},
		{"no token", notOurs, nil, func(string) string { return "" }},
	} {
		l.forget()

		l.door.auth.byProvider.throttle = newThrottle(time.Now)
		l.answer[mockoidc.TokenEndpoint] = nil
		if c.token != nil {
			l.answer[mockoidc.TokenEndpoint] = func(body []byte) (int, []byte) {
				var answer map[string]any
				require.NoError(t, json.Unmarshal(body, &answer), string(body))
				token, ok := answer["id_token"].(string)
				require.True(t, ok)

				answer["id_token"] = c.token(token)
				changed, err := json.Marshal(answer)
				require.NoError(t, err)

				return http.StatusOK, changed
			}
		}

		who := olga("gold")
		who.claims = c.claims
		code, body, _ := l.comes(who)
		require.Equal(t, http.StatusForbidden, code, c.about)
		require.Contains(t, body, "You are not logged in: ", c.about)
		require.Contains(t, body, c.says, c.about)
		l.isNobody(c.about)
	}
}

func (l *oidcLogin) isNobody(about string) {
	l.t.Helper()
	_, body, _ := l.get("/nobody")
	require.Equal(l.t, "|nobody||127.0.0.1", body, about)
}

// TestOnlyWhoBeganEnds checks that the address that the provider sends a browser back to works once, and only in the
// browser that began the login.
func TestOnlyWhoBeganEnds(t *testing.T) {
	t.Parallel()
	l := withProvider(t)
	back := func() string { // up to the address that leads back
		l.t.Helper()
		l.provider.QueueUser(olga("gold"))
		_, to := l.stop(l.web.URL + "/login/begin")
		_, to = l.stop(to.String())

		return to.String()
	}
	refused := func(about, address string, want int, says string) {
		t.Helper()

		code, body, _ := l.get(address)
		require.Equal(t, want, code, about)
		require.Contains(t, body, says, about)
		l.isNobody(about)
	}

	const notHere = "not begun in this browser"
	stolen := back()

	l.forget()
	refused("in another browser", stolen, 400, notHere)
	refused("without anything", "/login/oidc", 400, notHere)
	refused("another state", strings.Replace(back(), "state=", "state=x", 1), 400, notHere)
	back()
	refused("an attacker's address in a browser that has begun as well", stolen, 400, notHere)
	refused("from another provider", back()+"&iss=https%3A%2F%2Fevil.example.org", 403, "not accepted")
	refused("another code", strings.Replace(back(), "code=", "code=x", 1), 403, "does not accept")

	// A code that was given to somebody else does not work: this browser does not have the secret behind it.
	code := func(address string) string {
		u, err := url.Parse(address)
		require.NoError(t, err)
		return u.Query().Get("code")
	}
	others := code(back())

	l.forget()

	mine := back()
	refused("somebody else's code", strings.Replace(mine, code(mine), others, 1), 403, "does not accept")

	right := back()
	status, _, at := l.get(right)
	require.Equal(t, http.StatusNotFound, status, "which is what the address / is here")
	require.Equal(t, "/", at.Path)

	_, body, _ := l.get("/nobody")
	require.Contains(t, body, "olga|approver|oidc")
	l.forget()
	refused("a second time", right, 400, notHere)

	// The session is a new one, and the cookie of a login is not accepted as that of a session.
	l.provider.QueueUser(olga())
	res, _ := l.stop(l.web.URL + "/login/begin")
	base, err := url.Parse(l.web.URL)
	require.NoError(t, err)
	l.browser.Jar.SetCookies(base, []*http.Cookie{{Name: l.door.auth.sessions.cookie.name, Value: res.Cookies()[0].Value}})
	l.isNobody("the cookie of a login")
}

// TestALoginIsNotLeftOpen checks that a login has to be begun again after ten minutes.
func TestALoginIsNotLeftOpen(t *testing.T) {
	t.Parallel()
	l := withProvider(t)
	_, to := l.stop(l.web.URL + "/login/begin")
	_, to = l.stop(to.String())
	l.door.auth.byProvider.clock = func() time.Time { return time.Now().Add(tryLife) }
	code, body, _ := l.get(to.String())
	require.Equal(t, http.StatusBadRequest, code)
	require.Contains(t, body, "more than ten minutes ago")
}

// TestTheProviderRefuses checks that what the provider says is shown as text, and never as part of the page.
func TestTheProviderRefuses(t *testing.T) {
	t.Parallel()
	l := withProvider(t)
	_, to := l.stop(l.web.URL + "/login/begin")
	answer := url.Values{"state": {to.Query().Get("state")}, "error": {"access_denied"}, "error_description": {"<script>alert(1)</script> \x1b[2J not assigned"}}
	code, body, _ := l.get("/login/oidc?" + answer.Encode())
	require.Equal(t, http.StatusForbidden, code)
	require.Contains(t, body, "the login service refuses: &lt;script&gt;")
	require.Contains(t, body, "not assigned")
	require.NotContains(t, body, "<script")
	require.NotContains(t, body, "\x1b")
	l.isNobody("refused")
}

// TestAProviderThatIsAway checks that while the provider is away the console serves everything else and says so, does
// not ask the provider again for each user, and needs no restart afterwards.
func TestAProviderThatIsAway(t *testing.T) {
	t.Parallel()
	l := withProvider(t, func(c *Config) { c.UsersFile = usersFile(t) })
	asked := 0
	var broken []byte
	l.answer[mockoidc.DiscoveryEndpoint] = func(body []byte) (int, []byte) {
		asked++

		if broken != nil {
			return http.StatusOK, broken
		}

		return http.StatusBadGateway, body
	}
	again := func() { l.door.auth.byProvider.provider.failed = time.Time{} }

	for range 5 {
		code, body, _ := l.get("/login/begin")
		require.Equal(t, http.StatusServiceUnavailable, code)
		require.Contains(t, body, "does not answer as it should")
		require.Contains(t, body, "If the login service is down")
	}

	require.Equal(t, 1, asked)

	for about, document := range map[string]string{
		"another issuer":    `{"issuer":"https://evil.example.org","authorization_endpoint":"https://a","token_endpoint":"https://a","jwks_uri":"https://a"}`,
		"a way in the open": fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":"https://a","token_endpoint":"http://login.example.org/token","jwks_uri":"https://a"}`, l.provider.Issuer()),
		"no keys":           fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":"https://a","token_endpoint":"https://a"}`, l.provider.Issuer()),
		"not JSON":          "<html>", "too long": strings.Repeat(" ", maxAnswer+1) + "{}",
	} {
		broken = []byte(document)

		again()

		code, body, _ := l.get("/login/begin")
		require.Equal(t, http.StatusServiceUnavailable, code, about)
		require.NotContains(t, body, "evil", about)
	}

	// In an emergency users log in with a password.
	form := url.Values{"name": {"anna"}, "password": {password}, "next": {"/viewer"}}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.web.URL+"/login", strings.NewReader(form.Encode()))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	_, body, _ := l.do(r)
	require.Equal(t, "anna|approver|password|127.0.0.1", body)

	e := <-l.door.told
	require.Equal(t, "anna (console, password, 127.0.0.1)", e.Who.By())
	require.False(t, e.At.IsZero())

	delete(l.answer, mockoidc.DiscoveryEndpoint)
	again()
	l.forget()
	code, _, _ := l.comes(olga())
	require.Equal(t, http.StatusOK, code)
	l.forget()
	l.answer[mockoidc.TokenEndpoint] = func([]byte) (int, []byte) { return http.StatusOK, []byte(strings.Repeat("x", maxAnswer+1)) }
	code, body, _ = l.comes(olga())
	require.Equal(t, http.StatusForbidden, code)
	require.Contains(t, body, "does not answer as it should")
	l.isNobody("an answer that is too long")
}

// TestGuessingCodesIsSlow checks that after five wrong codes the provider is not asked any more for a minute.
func TestGuessingCodesIsSlow(t *testing.T) {
	t.Parallel()

	l := withProvider(t)
	guess := func() int {
		_, to := l.stop(l.web.URL + "/login/begin")
		code, _, _ := l.get("/login/oidc?code=guess&state=" + to.Query().Get("state"))
		return code
	}
	for range failuresEach {
		require.Equal(t, http.StatusForbidden, guess())
	}

	require.Equal(t, http.StatusTooManyRequests, guess())
}

// TestLoggingOutGoesToTheProvider checks that logging out leads to the provider, which would otherwise let the next
// person at this browser in as this user.
func TestLoggingOutGoesToTheProvider(t *testing.T) {
	t.Parallel()
	l := withProvider(t)
	l.answer[mockoidc.DiscoveryEndpoint] = func(body []byte) (int, []byte) {
		return http.StatusOK, []byte(strings.Replace(string(body), "{", `{"end_session_endpoint":"https://login.example.org/end?a=b",`, 1))
	}
	code, _, _ := l.comes(olga())
	require.Equal(t, http.StatusOK, code)

	out := func() (*http.Response, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, l.web.URL+"/logout", nil)
		require.NoError(t, err)
		res, err := l.browser.Do(r)
		require.NoError(t, err)

		defer res.Body.Close()

		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)

		return res, string(body)
	}
	base, err := url.Parse(l.web.URL)
	require.NoError(t, err)

	kept := l.browser.Jar.Cookies(base)
	res, body := out()
	want := "https://login.example.org/end?" + url.Values{"a": {"b"}, "client_id": {l.provider.ClientID}, "post_logout_redirect_uri": {l.web.URL + "/login"}}.Encode()
	require.Equal(t, "0; url="+want, res.Header.Get("Refresh"))
	require.Contains(t, body, strings.ReplaceAll(want, "&", "&amp;"))
	l.isNobody("logged out")
	l.browser.Jar.SetCookies(base, kept)
	l.isNobody("with the cookie of before")

	res, _ = out()
	require.Empty(t, res.Header.Get("Refresh"), "nobody was logged in")
}

// TestGroupsThatAreOthers checks that users who logged in when other groups had the roles have to log in again.
func TestGroupsThatAreOthers(t *testing.T) {
	t.Parallel()
	l := withProvider(t)
	_, _, _ = l.comes(olga("gold"))
	base, err := url.Parse(l.web.URL)
	require.NoError(t, err)

	cookies := l.browser.Jar.Cookies(base)
	for about, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"the same":             {func(*Config) {}, "olga|approver|oidc"},
		"other approvers":      {func(c *Config) { c.Approvers = []string{"platinum"} }, isNobody},
		"another client":       {func(c *Config) { c.ClientID = "x" }, isNobody},
		"a file in its place":  {func(c *Config) { *c = Config{Mode: ModeFile, UsersFile: usersFile(t), SessionKey: c.SessionKey} }, isNobody},
		"links in their place": {func(c *Config) { *c = Config{Mode: ModeLink, SessionKey: c.SessionKey} }, isNobody},
	} {
		cfg := l.door.auth.cfg
		c.change(&cfg)

		d := open(t, cfg, func(o *Options) { o.Clock = time.Now })
		d.auth.sessions.ended.known = true
		for _, cookie := range cookies {
			d.cookies[cookie.Name] = cookie
		}

		require.Equal(t, c.want, strings.Join(strings.Split(d.who(), "|")[:3], "|"), about)
	}
}
