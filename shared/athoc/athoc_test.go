package athoc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testSecret   = "s3cr&t/value"
	testPassword = `p"ss wörd+1`
	alice, bob   = "alice.ng@example.org", "bob.o@example.org"
)

// fake is an AtHoc in which each test replaces the part that it is about.
type fake struct {
	t      testing.TB
	api    http.HandlerFunc // after the token was found to be valid
	token  http.HandlerFunc // nil = issue
	server *httptest.Server

	mu     sync.Mutex
	valid  string
	issued int
	forms  []map[string][]string
}

func newFake(t testing.TB, api http.HandlerFunc) *fake {
	f := unstarted(t, api)
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	return f
}

func unstarted(t testing.TB, api http.HandlerFunc) *fake { return &fake{t: t, api: api} }

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.EqualFold(r.URL.Path, "/authservices/auth/connect/token") {
		if f.token != nil {
			f.token(w, r)
			return
		}

		f.issue(w, r)

		return
	}

	f.mu.Lock()
	valid := f.valid != "" && r.Header.Get("Authorization") == "Bearer "+f.valid
	f.mu.Unlock()

	if !valid {
		_, _ = io.Copy(io.Discard, r.Body) // or an early answer could overtake the sending of the body

		w.WriteHeader(http.StatusUnauthorized)
		return
	}

	f.api(w, r)
}

func (f *fake) issue(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()

	f.mu.Lock()
	defer f.mu.Unlock()

	f.issued++
	f.forms = append(f.forms, r.PostForm)
	f.valid = fmt.Sprintf("token-number-%d", f.issued)
	fmt.Fprintf(w, `{"access_token":%q,"expires_in":3600,"token_type":"Bearer"}`, f.valid)
}

func (f *fake) revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()

	f.valid = "revoked by another client"
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.issued
}

func config(server string) Config {
	return Config{
		ServerURL: server, OrgCode: "ORG 1", ClientID: "client", ClientSecret: testSecret,
		Username: "operator", Password: testPassword, DutyStatusField: "On-Duty-DTG",
		Location: time.UTC, Timeout: 20 * time.Second, UserAgent: "bobosync/1.2.3",
	}
}

func newClient(t testing.TB, server string, change ...func(*Config)) *Client {
	t.Helper()

	cfg := config(server)
	for _, c := range change {
		c(&cfg)
	}

	client, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(client.Close)

	return client
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)

		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func callError(t testing.TB, err error) *CallError {
	t.Helper()
	var call *CallError
	require.ErrorAs(t, err, &call)
	assertClean(t, err.Error())

	return call
}

// assertClean checks that a text holds nothing that must stay hidden.
func assertClean(t testing.TB, text string) {
	t.Helper()

	for _, secret := range []string{testSecret, testPassword, "token-number", alice, bob, "alice", "Alice"} {
		assert.NotContains(t, text, secret)
	}
}

var (
	noon     = time.Date(2024, 6, 17, 14, 30, 0, 999, time.UTC)
	twoUsers = []DutyStatus{{Username: alice, Since: noon}, {Username: bob}}
)

func TestUpdateRequest(t *testing.T) {
	london, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)
	var got *http.Request
	var body string
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		got, body = r, string(data)
		_, _ = io.WriteString(w, `[{"LOGIN_ID":"BOB.o@example.org",":SyncStatus":"OK",":SyncDetails":"Updated"},
			{"LOGIN_ID":"alice.ng@example.org",":SyncStatus":"OK",":SyncDetails":"Updated","USER_ID":1}]`)
	})
	c := newClient(t, f.server.URL+"/", func(cfg *Config) { cfg.Location, cfg.SourceIdentifier = london, "bobo sync" })

	results, err := c.UpdateDutyStatus(t.Context(), twoUsers)
	require.NoError(t, err)
	assert.Equal(t, []Result{{alice, Applied, "Updated"}, {bob, Applied, "Updated"}}, results)

	assert.Equal(t, http.MethodPost, got.Method)
	assert.Equal(t, "/api/v2/orgs/ORG%201/users/SyncByCommonNames", got.URL.EscapedPath())
	assert.Equal(t, "syncExistingUsersOnly=true&AllowPartialUpdate=false&sourceIdentifier=bobo+sync", got.URL.RawQuery)
	assert.Equal(t, "application/json", got.Header.Get("Content-Type"))
	assert.Equal(t, "bobosync/1.2.3", got.UserAgent())
	assert.Equal(t, `[{"LOGIN_ID":"alice.ng@example.org","On-Duty-DTG":"17/06/2024 15:30:00"},`+
		`{"LOGIN_ID":"bob.o@example.org","On-Duty-DTG":""}]`, body)
	assert.Equal(t, map[string][]string{
		"grant_type": {"password"}, "client_id": {"client"}, "client_secret": {testSecret}, "username": {"operator"},
		"password": {testPassword}, "scope": {DefaultScope}, "acr_values": {"tenant:ORG 1"},
	}, f.forms[0])
}

func TestOutcomeOfEachUser(t *testing.T) {
	cases := []struct {
		status, details string
		want            Outcome
	}{
		{"OK", "Updated", Applied},
		{"ok", "", Applied},
		{"Error", "User: Alice.NG@example.org does not exists in the Organization", UnknownUser},
		{"ERROR", "user does not exist in the organisation", UnknownUser},
		{"Error", "Permission denied for user alice.ng@example.org", ForbiddenUser},
		{"Error", "The operator does not have permission to update this user", ForbiddenUser},
		{"Error", "Access is denied", ForbiddenUser},
		{"Error", "Attribute On-Duty-DTG does not exists in the Organization", Invalid},
		{"Error", "On-Duty-DTG: unknown", Invalid},
		{"Error", "Unknown attribute", Invalid},
		{"Error", "The value '17/06/2024' is not valid for On-Duty-DTG", Invalid},
		{"Error", "Invalid date", Invalid},
		{"Error", "Invalid value: the request timed out", Transient},
		{"Error", "Update failed: lock not found", Transient},
		{"Error", "Something nobody has seen before", Transient},
		{"Error", "", Transient},
		{"Partial", "Permission denied", Transient},
		{"Partial", "Updated", Transient},
		{"", "Updated", Transient},
		{"Unheard-of", "does not exists in the Organization", Transient},
	}
	for _, tc := range cases {
		t.Run(tc.status+" "+tc.details, func(t *testing.T) {
			body, err := json.Marshal([]map[string]any{{"LOGIN_ID": alice, ":SyncStatus": tc.status, ":SyncDetails": tc.details, "USER_ID": nil}})
			require.NoError(t, err)
			f := newFake(t, answer(200, string(body)))
			results, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), twoUsers)
			require.NoError(t, err)
			require.Len(t, results, 2)
			assert.Equal(t, tc.want, results[0].Outcome)
			assertClean(t, results[0].Detail)
			assert.Equal(t, Transient, results[1].Outcome, "bob is missing from the answer")
		})
	}
}

func TestAUsernameDoesNotDecideItsOutcome(t *testing.T) {
	for _, name := range []string{"attribute", "invalid.value", "access denied", "a", "organization", "Straße", "K\u212A"} {
		r, err := newReport([]DutyStatus{{Username: name}})
		require.NoError(t, err)
		body, err := json.Marshal([]map[string]string{{"LOGIN_ID": name, ":SyncStatus": "Error",
			":SyncDetails": "User: " + name + " does not exists in the Organization"}})
		require.NoError(t, err)
		require.NoError(t, r.read(bytes.NewReader(body), "On-Duty-DTG", scrubber{}))

		if name == "organization" { // hidden with the username, so the text is not certain: Transient is the safe side
			assert.Equal(t, Transient, r.results[0].Outcome)
			continue
		}

		assert.Equal(t, UnknownUser, r.results[0].Outcome, name)
	}
}

func TestAnswerWithOddEntries(t *testing.T) {
	f := newFake(t, answer(200, `[null, 7, "x", {}, {"LOGIN_ID":5,":SyncStatus":"OK"},
		{"LOGIN_ID":"stranger@example.org",":SyncStatus":"OK"},
		{"LOGIN_ID":"alice.ng@example.org",":SyncStatus":"Error",":SyncDetails":"permission denied"},
		{"LOGIN_ID":"ALICE.NG@example.org",":SyncStatus":"OK",":SyncDetails":"Updated"},
		{"LOGIN_ID":"bob.o@example.org",":SyncStatus":"OK",":SyncDetails":null},
		{"LOGIN_ID":"bob.o@example.org",":SyncStatus":{},":SyncDetails":[]}]`))
	results, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), twoUsers)
	require.NoError(t, err)
	assert.Equal(t, ForbiddenUser, results[0].Outcome, "the worse of two reports counts")
	assert.Equal(t, Transient, results[1].Outcome)
}

// TestUsernamesInOtherForms: a username that looks like a number may be returned as a number, and any username with
// blanks around it.
func TestUsernamesInOtherForms(t *testing.T) {
	f := newFake(t, answer(200, `[{"LOGIN_ID":30017,":SyncStatus":"OK","USER_ID":"7","more":[1,{"x":null}]}, {":syncstatus":"ok","Login_Id":" bob.O@example.org "}]`))
	results, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), []DutyStatus{{Username: "30017"}, {Username: bob}})
	require.NoError(t, err)
	assert.Equal(t, []Outcome{Applied, Applied}, []Outcome{results[0].Outcome, results[1].Outcome})
}

func TestUsersThatAreNotSent(t *testing.T) {
	var body string
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		body = string(data)
		_, _ = io.WriteString(w, `[{"LOGIN_ID":"bob.o@example.org",":SyncStatus":"OK"}]`)
	})
	c := newClient(t, f.server.URL)

	results, err := c.UpdateDutyStatus(t.Context(), []DutyStatus{{Username: " "}, {Username: bob}, {Username: "x\xff"}})
	require.NoError(t, err)
	assert.Equal(t, []Outcome{Invalid, Applied, Invalid}, []Outcome{results[0].Outcome, results[1].Outcome, results[2].Outcome})
	assert.Equal(t, `[{"LOGIN_ID":"bob.o@example.org","On-Duty-DTG":""}]`, body)

	before := f.count()
	body = ""
	results, err = c.UpdateDutyStatus(t.Context(), nil)
	require.NoError(t, err)
	assert.Empty(t, results)
	_, err = c.UpdateDutyStatus(t.Context(), []DutyStatus{{Username: bob}, {Username: strings.ToUpper(bob)}})
	assert.Equal(t, BadRequest, callError(t, err).Kind)
	assert.Empty(t, body, "nothing was sent")
	assert.Equal(t, before, f.count())

	c = newClient(t, f.server.URL, func(cfg *Config) { cfg.DutyStatusField = "" })
	_, err = c.UpdateDutyStatus(t.Context(), twoUsers)
	assert.Equal(t, NotFound, callError(t, err).Kind)
}

func TestStatusOfAWholeRequest(t *testing.T) {
	cases := []struct {
		status int
		kind   Kind
		may    bool
	}{
		{400, BadRequest, false}, {401, Unauthorized, false}, {403, Forbidden, false}, {404, NotFound, false},
		{405, NotFound, false}, {407, NotFound, false}, {413, TooLarge, false}, {429, Throttled, false},
		{500, Outage, true}, {502, Outage, true}, {503, Outage, true}, {504, Outage, true},
		{204, Outage, true}, {418, Outage, true}, {302, NotFound, false},
	}
	for _, tc := range cases {
		t.Run(fmt.Sprint(tc.status), func(t *testing.T) {
			calls := 0
			f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
				calls++

				w.Header().Set("Retry-After", "7")

				if tc.status == 302 {
					w.Header().Set("Location", "https://elsewhere.example.org/login?secret=1")
				}

				body := "LOGIN_ID Alice.Ng@example.org: " + testSecret + " " + r.Header.Get("Authorization")
				if tc.status == 204 {
					body = ""
				}

				answer(tc.status, body)(w, r)
			})
			c := newClient(t, f.server.URL)
			_, err := c.UpdateDutyStatus(t.Context(), twoUsers)
			call := callError(t, err)
			assert.Equal(t, tc.kind, call.Kind)
			assert.Equal(t, tc.status, call.Status)
			assert.Equal(t, OpUpdate, call.Op)
			assert.Equal(t, tc.may, call.MayHaveApplied())
			assert.Equal(t, 7*time.Second, call.RetryAfter)

			if tc.status == 302 {
				assert.Contains(t, call.Detail, "https://elsewhere.example.org,")
				assert.NotContains(t, call.Detail, "login")
			}

			want := 1
			if tc.status == 401 {
				want = 2
			}

			assert.Equal(t, want, calls, "no retries but the one after a 401")

			for _, err = range c.SearchUsers(t.Context(), Query{}) {
			}

			call = callError(t, err)
			assert.Equal(t, tc.kind, call.Kind)
			assert.False(t, call.MayHaveApplied(), "a search changes nothing")
		})
	}
}

// TestWhereARedirectLeads: the target of a redirect is quoted like anything else that a server says: on one line,
// short, and without anything secret.
func TestWhereARedirectLeads(t *testing.T) {
	const token = "TOKEN"
	for name, to := range map[string]string{
		"endless":                "https://" + strings.Repeat("a", 100_000) + ".example.org/",
		"invisible":              "https://%E2%80%AEevil.example.org/",
		"the token":              "https://" + token + ".example.org/",
		"a username":             "https://alice.ng@example.org.example.org/",
		"a username as a host":   "https://bob.example.org/",
		"no address, with token": "https://example.org/%zz?" + token,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Location", strings.ReplaceAll(to, token, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")))
				w.WriteHeader(http.StatusFound)
			})
			_, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), []DutyStatus{{Username: "bob"}})
			call := callError(t, err)
			assert.Less(t, len(call.Detail), 2*quoteLimit+200)
			assert.NotContains(t, call.Detail, "\u202e")
			assert.NotContains(t, call.Detail, "bob")
		})
	}
}

func TestBrokenAnswersToAnUpdate(t *testing.T) {
	for name, body := range map[string]string{
		"empty": "", "page": "<html>login</html>", "object": `{"error":"x"}`, "null": "null",
		"broken off": `[{"LOGIN_ID":"alice.ng@example.org",":SyncStatus":"OK"}`, "bad element": `[{]`, "goes on": `[] []`,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, answer(200, body))
			_, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), twoUsers)
			call := callError(t, err)
			assert.Equal(t, Outage, call.Kind)
			assert.Equal(t, 200, call.Status)
			assert.True(t, call.MayHaveApplied())
		})
	}
}

func TestAnswerThatIsTooLarge(t *testing.T) {
	f := newFake(t, answer(200, "["+strings.Repeat(" ", 100_000)+"]"))
	c := newClient(t, f.server.URL)
	_, err := c.UpdateDutyStatus(t.Context(), twoUsers)
	call := callError(t, err)
	assert.Equal(t, Outage, call.Kind)
	assert.True(t, call.MayHaveApplied())
	assert.Contains(t, call.Detail, "larger than 73728 bytes")
}

func TestConnectionThatFails(t *testing.T) {
	abort := func(read bool) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) {
			if read {
				_, _ = io.Copy(io.Discard, r.Body)
			}

			panic(http.ErrAbortHandler)
		}
	}
	t.Run("reset after the body", func(t *testing.T) {
		f := newFake(t, abort(true))
		_, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), twoUsers)
		call := callError(t, err)
		assert.Equal(t, Outage, call.Kind)
		assert.True(t, call.MayHaveApplied())
	})
	t.Run("reset in the middle of a large body", func(t *testing.T) {
		f := newFake(t, abort(false))

		users := make([]DutyStatus, 100_000) // more than sockets buffer, so that not all of it can have been sent
		for i := range users {
			users[i].Username = fmt.Sprintf("user-%06d-%s", i, strings.Repeat("x", 200))
		}

		_, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), users)
		call := callError(t, err)
		assert.Equal(t, Outage, call.Kind)
		assert.False(t, call.MayHaveApplied())
		assert.True(t, call.Begun())
	})
	t.Run("half an answer", func(t *testing.T) {
		f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `[{"LOGIN_ID":`)
		})
		_, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), twoUsers)
		call := callError(t, err)
		assert.Equal(t, Outage, call.Kind)
		assert.True(t, call.MayHaveApplied())
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
	})
	t.Run("refused", func(t *testing.T) {
		f := newFake(t, nil)
		c := newClient(t, f.server.URL)
		require.NoError(t, c.EnsureToken(t.Context()))
		f.server.Close()
		c.Close() // or the call might go out on the idle connection, and its fate would be unknown
		_, err := c.UpdateDutyStatus(t.Context(), twoUsers)
		call := callError(t, err)
		assert.Equal(t, Outage, call.Kind)
		assert.False(t, call.MayHaveApplied())
		assert.False(t, call.Begun())
		assert.Contains(t, call.Detail, "ATHOC_SERVER_URL")
	})
}

// hanging answers only when its client has gone, or when the test ends.
func hanging(t testing.TB, began chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)

		began <- struct{}{}

		<-r.Context().Done()
	}
}

func TestTimeoutsAndCancelling(t *testing.T) {
	began := make(chan struct{}, 1)
	f := newFake(t, hanging(t, began))

	t.Run("the client's timeout", func(t *testing.T) {
		for timeout := 50 * time.Millisecond; ; timeout *= 4 {
			began := make(chan struct{}, 1)
			c := newClient(t, newFake(t, hanging(t, began)).server.URL)
			require.NoError(t, c.EnsureToken(t.Context()))
			c.exchanger.cfg.Timeout = timeout
			_, err := c.UpdateDutyStatus(t.Context(), twoUsers)

			if len(began) == 0 && timeout < 10*time.Second {
				continue // the machine is too busy to send a call in that time
			}

			call := callError(t, err)
			assert.Equal(t, Outage, call.Kind)
			assert.True(t, call.MayHaveApplied())
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Contains(t, call.Detail, "ATHOC_TIMEOUT")

			return
		}
	})
	t.Run("the caller's cancelling", func(t *testing.T) {
		c := newClient(t, f.server.URL)

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()

		failed := make(chan error, 1)
		go func() {
			_, err := c.UpdateDutyStatus(ctx, twoUsers)
			failed <- err
		}()

		select {
		case <-began:
		case err := <-failed:
			require.FailNow(t, "it did not last until it was cancelled", "%v", err)
		}

		cancel()

		err := <-failed
		call := callError(t, err)
		assert.Equal(t, Canceled, call.Kind)
		assert.True(t, call.MayHaveApplied())
		assert.ErrorIs(t, err, context.Canceled)
	})
	t.Run("a deadline that has passed", func(t *testing.T) {
		c := newClient(t, f.server.URL)
		require.NoError(t, c.EnsureToken(t.Context()))

		ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer cancel()

		_, err := c.UpdateDutyStatus(ctx, twoUsers)
		call := callError(t, err)
		assert.Equal(t, Outage, call.Kind)
		assert.False(t, call.MayHaveApplied())
	})
}

func TestGuard(t *testing.T) {
	lost := errors.New("the lease is gone")
	var bodies []string
	var mu sync.Mutex
	f := unstarted(t, func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err == nil {
			mu.Lock()

			bodies = append(bodies, string(data))
			mu.Unlock()
		}

		_, _ = io.WriteString(w, `[]`)
	})
	f.server = httptest.NewTLSServer(f)
	t.Cleanup(f.server.Close)
	c := newClient(t, f.server.URL, func(cfg *Config) { cfg.InsecureSkipVerify = true })

	_, err := c.UpdateDutyStatus(t.Context(), twoUsers, WithGuard(func(context.Context) error { return lost }))
	call := callError(t, err)
	assert.Equal(t, Canceled, call.Kind)
	assert.False(t, call.MayHaveApplied())
	require.ErrorIs(t, err, lost)
	mu.Lock()
	assert.Empty(t, bodies)
	mu.Unlock()

	f.revoke()
	var asked atomic.Int32
	_, err = c.UpdateDutyStatus(t.Context(), twoUsers, WithGuard(func(context.Context) error { asked.Add(1); return nil }))
	require.NoError(t, err)
	assert.EqualValues(t, 2, asked.Load(), "before the call and before its repeat")
	f.server.Close()
	assert.Len(t, bodies, 1)
}

func TestNothingSecretIsPrinted(t *testing.T) {
	cfg := config("https://athoc.example.org")
	cfg.HTTPSProxy = "http://user:" + "proxypass@proxy.example.org:3128"
	c, err := New(cfg)
	require.NoError(t, err)

	token := Token{Access: "token-number-1", Expires: noon}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", cfg, "client", c, "token", token)

	texts := []string{log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		texts = append(texts, fmt.Sprintf(verb, cfg), fmt.Sprintf(verb, &cfg), fmt.Sprintf(verb, c), fmt.Sprintf(verb, token))
	}

	for _, text := range texts {
		assertClean(t, text)
		assert.NotContains(t, text, "proxypass")
	}
}

func TestConfigErrorsComeTogether(t *testing.T) {
	_, err := New(Config{ServerURL: "https://u:hunter2@x?q", DutyStatusField: "login_id", Timeout: -1})
	require.Error(t, err)

	for _, name := range []string{"ATHOC_SERVER_URL", "ORG_CODE", "CLIENT_ID", "CLIENT_SECRET", "APIUSER", "PASSWORD", "DUTY_STATUS_FIELD", "ATHOC_TIMEOUT"} {
		assert.ErrorContains(t, err, name)
	}

	assert.NotContains(t, err.Error(), "hunter2")

	for _, bad := range []string{"", "alerts.example.org", "ftp://x", "https://x/?a=b", "https://x/#f", "https://", "http://\x7f"} {
		cfg := config(bad)
		_, err := New(cfg)
		assert.ErrorContains(t, err, "ATHOC_SERVER_URL", bad)
	}

	cfg := config("https://x")
	cfg.HTTPProxy, cfg.HTTPSProxy = "http://u:hunter2@", "gopher://u:hunter2@x"
	_, err = New(cfg)
	assert.ErrorContains(t, err, "HTTP_PROXY")
	assert.ErrorContains(t, err, "HTTPS_PROXY")
	assert.NotContains(t, err.Error(), "hunter2")
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2024, 1, 1, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "30": 30 * time.Second, " 5 ": 5 * time.Second, "-3": 0, "soon": 0, "1.5": 0,
		"99999999999999999999": MaxRetryAfter, "86400": MaxRetryAfter,
		"Mon, 01 Jan 2024 12:01:00 GMT": time.Minute, "Mon, 01 Jan 2024 11:00:00 GMT": 0,
		"Tue, 01 Jan 2030 12:00:00 GMT": MaxRetryAfter,
	} {
		assert.Equal(t, want, parseRetryAfter(value, now), value)
	}
}

func TestTimes(t *testing.T) {
	london, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)
	apia, err := time.LoadLocation("Pacific/Apia")
	require.NoError(t, err)

	for _, tc := range []struct {
		text string
		loc  *time.Location
		want string
	}{
		{"17/06/2024 14:30:00", london, "2024-06-17T13:30:00Z"},
		{"17/01/2024 14:30:00", london, "2024-01-17T14:30:00Z"},
		{"27/10/2024 01:30:00", london, "2024-10-27T00:30:00Z"}, // occurs twice: the earlier
		{"27/10/2024 02:00:00", london, "2024-10-27T02:00:00Z"},
		{"27/10/2024 00:59:59", london, "2024-10-26T23:59:59Z"},
		{"31/03/2024 01:30:00", london, "2024-03-31T01:30:00Z"}, // never occurs
		{"31/03/2024 02:30:00", london, "2024-03-31T01:30:00Z"},
		{" 17/06/2024 14:30:00 ", apia, "2024-06-17T01:30:00Z"},
	} {
		got, err := ParseTime(tc.text, tc.loc)
		require.NoError(t, err)
		assert.Equal(t, tc.want, got.UTC().Format(time.RFC3339), tc.text)
	}

	empty, err := ParseTime("  ", london)
	require.NoError(t, err)
	assert.True(t, empty.IsZero())
	assert.Empty(t, FormatTime(time.Time{}, london))

	for _, bad := range []string{"2024-06-17", "32/01/2024 00:00:00", "17/06/2024", alice} {
		_, err := ParseTime(bad, london)
		require.Error(t, err, bad)
		assertClean(t, err.Error())
	}

	// Two whole years, in steps of half an hour, across every change of the clocks.
	for at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2026; at = at.Add(30 * time.Minute) {
		got, err := ParseTime(FormatTime(at, london), london)
		require.NoError(t, err)

		if !got.Equal(at) {
			require.True(t, got.Equal(at.Add(-time.Hour)), at)
		}
	}
}

func FuzzUpdateAnswer(f *testing.F) {
	f.Add(`[{"LOGIN_ID":"alice.ng@example.org",":SyncStatus":"OK",":SyncDetails":"Updated"}]`)
	f.Add(`[{"LOGIN_ID":"BOB.O@example.org",":SyncStatus":"Error",":SyncDetails":"User: bob.o@example.org does not exists in the Organization"}]`)
	f.Add(`[] x`)
	f.Add(`[{"LOGIN_ID":"alice.ng@example.org",":SyncStatus":"Error",":SyncDetails":"ALICE.NG@example.org\u0000İ"}]`)
	f.Fuzz(func(t *testing.T, body string) {
		r, err := newReport(twoUsers)
		require.NoError(t, err)

		if err := r.read(strings.NewReader(body), "On-Duty-DTG", newScrubber(testSecret)); err != nil {
			return
		}

		require.True(t, json.Valid([]byte(body)), "only valid JSON is accepted")
		require.Len(t, r.results, 2)

		for i, result := range r.results {
			require.Equal(t, twoUsers[i].Username, result.Username)
			require.GreaterOrEqual(t, result.Outcome, Applied)
			require.LessOrEqual(t, result.Outcome, Transient)
			require.LessOrEqual(t, len([]rune(result.Detail)), quoteLimit)
			require.NotContains(t, strings.ToLower(result.Detail), "@example.org")

			if !r.reported[i] {
				require.Equal(t, Transient, result.Outcome)
			}
		}
	})
}

func FuzzParseTime(f *testing.F) {
	f.Add("27/10/2024 01:30:00")

	london, err := time.LoadLocation("Europe/London")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text string) {
		_, _ = ParseTime(text, london)
	})
}

func FuzzPage(f *testing.F) {
	f.Add([]byte(`{"Users":[{"LOGIN_ID":"a","x":null,"y":[1]}],"TotalUsers":1,"FetchedRecords":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, total, _ := parsePage(bytes.NewReader(body), 10, []string{"LOGIN_ID", "x"})
		require.GreaterOrEqual(t, total, 0)
	})
}
