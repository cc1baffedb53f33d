package athoc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTokenIsKeptAndRenewedBeforeItExpires(t *testing.T) {
	f := newFake(t, answer(200, `[]`))
	var mu sync.Mutex
	now := noon
	c := newClient(t, f.server.URL, func(cfg *Config) {
		cfg.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	})
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{0, 1}, {58 * time.Minute, 1}, {time.Minute, 2}, {time.Minute, 2}} {
		mu.Lock()
		now = now.Add(step.after)
		mu.Unlock()

		_, err := c.UpdateDutyStatus(t.Context(), twoUsers)
		require.NoError(t, err)
		assert.Equal(t, step.want, f.count())
	}
}

func TestShortLivedTokenIsUsed(t *testing.T) {
	token := Token{Access: "x", Issued: noon, Expires: noon.Add(10 * time.Second)}
	assert.True(t, token.fresh(noon.Add(7*time.Second)))
	assert.False(t, token.fresh(noon.Add(8*time.Second)))
	assert.False(t, Token{}.fresh(noon))
}

func TestRevokedTokenIsReplacedOnce(t *testing.T) {
	f := newFake(t, answer(200, `[]`))
	c := newClient(t, f.server.URL)
	require.NoError(t, c.EnsureToken(t.Context()))
	f.revoke()

	_, err := c.UpdateDutyStatus(t.Context(), twoUsers)
	require.NoError(t, err)
	assert.Equal(t, 2, f.count())
}

func TestManyCallersShareOneToken(t *testing.T) {
	const callers = 50
	f := newFake(t, answer(200, `[]`))
	tokens := NewMemoryTokens()
	// Two clients with one store represent two replicas.
	clients := []*Client{
		newClient(t, f.server.URL, func(cfg *Config) { cfg.Tokens = tokens }),
		newClient(t, f.server.URL, func(cfg *Config) { cfg.Tokens = tokens }),
	}
	for round := 1; round <= 3; round++ {
		var wg sync.WaitGroup
		for i := range callers {
			wg.Go(func() {
				_, err := clients[i%2].UpdateDutyStatus(t.Context(), []DutyStatus{{Username: fmt.Sprint("u", i)}})
				assert.NoError(t, err)
			})
		}

		wg.Wait()
		assert.Equal(t, round, f.count(), "one token for all")
		f.revoke()
	}
}

func TestRefusedCredentialsAreAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		release := make(chan struct{})

		refusal := &CallError{Kind: Unauthorized, Op: OpToken}
		tk := &tokens{store: NewMemoryTokens(), now: time.Now, fetch: func(context.Context) (Token, error) {
			requests++

			<-release
			return Token{}, refusal
		}}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				_, err := tk.get(t.Context())
				assert.ErrorIs(t, err, refusal)
			})
		}

		synctest.Wait() // all wait for the first one's request
		close(release)
		wg.Wait()
		assert.Equal(t, 1, requests)
	})
}

func TestFollowersOutliveTheirLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		tk := &tokens{store: NewMemoryTokens(), now: time.Now, fetch: func(ctx context.Context) (Token, error) {
			if requests++; requests == 1 {
				<-ctx.Done()
				return Token{}, ctx.Err()
			}

			return Token{Access: "second", Issued: time.Now(), Expires: time.Now().Add(time.Hour)}, nil
		}}
		var wg sync.WaitGroup
		leader, stop := context.WithCancel(t.Context())
		wg.Go(func() {
			_, err := tk.get(leader)
			assert.ErrorIs(t, err, context.Canceled)
			assert.Equal(t, Canceled, callError(t, err).Kind)
		})
		synctest.Wait()

		impatient, stopImpatient := context.WithTimeout(t.Context(), time.Second)
		defer stopImpatient()

		wg.Go(func() {
			_, err := tk.get(impatient)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
		})
		wg.Go(func() {
			token, err := tk.get(t.Context())
			assert.NoError(t, err)
			assert.Equal(t, "second", token.Access)
		})
		<-impatient.Done()
		synctest.Wait()
		stop()
		wg.Wait()
		assert.Equal(t, 2, requests)
	})
}

func TestMemoryTokens(t *testing.T) {
	ctx := t.Context()
	store := NewMemoryTokens()
	first, second := Token{Access: "1"}, Token{Access: "2"}
	give := func(token Token, err error) func(context.Context) (Token, error) {
		return func(context.Context) (Token, error) { return token, err }
	}
	got, err := store.Replace(ctx, "", give(first, nil))
	require.NoError(t, err)
	assert.Equal(t, first, got)
	got, err = store.Replace(ctx, "", give(second, errors.New("must not be called")))
	require.NoError(t, err)
	assert.Equal(t, first, got, "somebody was faster")
	_, err = store.Replace(ctx, first.Fingerprint(), give(second, errors.New("no")))
	require.Error(t, err)

	got, _ = store.Current(ctx)
	assert.Equal(t, first, got, "a failure changes nothing")

	_, err = store.Replace(ctx, first.Fingerprint(), func(ctx context.Context) (Token, error) {
		got, err := store.Current(ctx) // does not wait for the Replace under way
		assert.Equal(t, first, got)
		assert.NoError(t, err)

		canceled, cancel := context.WithCancel(ctx)
		cancel()

		_, err = store.Replace(canceled, "", give(second, nil))
		assert.ErrorIs(t, err, context.Canceled)

		return second, nil
	})
	require.NoError(t, err)

	got, _ = store.Current(ctx)
	assert.Equal(t, second, got)
}

type brokenStore struct{}

var errStore = errors.New("the broker is gone")

func (brokenStore) Current(context.Context) (Token, error) { return Token{}, errStore }
func (brokenStore) Replace(context.Context, string, func(context.Context) (Token, error)) (Token, error) {
	return Token{}, errStore
}

func TestStoreThatFails(t *testing.T) {
	c := newClient(t, "https://athoc.invalid", func(cfg *Config) { cfg.Tokens = brokenStore{} })
	_, err := c.UpdateDutyStatus(t.Context(), twoUsers)
	call := callError(t, err)
	assert.Equal(t, Outage, call.Kind)
	assert.Equal(t, OpToken, call.Op)
	assert.False(t, call.MayHaveApplied())
	require.ErrorIs(t, err, errStore)
}

func TestTokenRequestThatFails(t *testing.T) {
	for _, tc := range []struct {
		status int
		body   string
		want   Kind
	}{
		{400, `{"error":"invalid_grant"}`, Unauthorized},
		{400, `{"error":"invalid_client"}`, Unauthorized},
		{400, `{"error":"invalid_scope"}`, Unauthorized},
		{401, ``, Unauthorized},
		{403, ``, Forbidden},
		{404, ``, NotFound},
		{413, ``, NotFound}, // TooLarge would make the caller send fewer users
		{429, ``, Throttled},
		{503, ``, Outage},
		{200, ``, Outage},
		{200, `{"access_token":"","expires_in":60,"token_type":"Bearer"}`, Outage},
		{200, `{"access_token":"a b","expires_in":60,"token_type":"Bearer"}`, Outage},
		{200, `{"access_token":"ab","expires_in":60,"token_type":"mac"}`, Outage},
	} {
		t.Run(fmt.Sprint(tc.status, tc.body), func(t *testing.T) {
			f := newFake(t, nil)
			requests := 0
			f.token = func(w http.ResponseWriter, r *http.Request) {
				requests++

				w.Header().Set("Retry-After", "3")

				_ = r.ParseForm()
				body := tc.body
				if body == "" && tc.status != 200 {
					body = "refused " + r.PostForm.Encode() // a server that echoes everything
				}

				answer(tc.status, body)(w, r)
			}
			_, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), twoUsers)
			call := callError(t, err)
			assert.Equal(t, tc.want, call.Kind)
			assert.Equal(t, OpToken, call.Op)
			assert.Equal(t, tc.status, call.Status)
			assert.False(t, call.MayHaveApplied())
			assert.NotContains(t, err.Error(), "%22ss")
			assert.NotContains(t, err.Error(), "s3cr")
			assert.Equal(t, 1, requests)

			if tc.want == Unauthorized {
				for _, name := range []string{"CLIENT_ID", "CLIENT_SECRET", "APIUSER", "PASSWORD", "ORG_CODE"} {
					assert.Contains(t, call.Detail, name)
				}
			}
		})
	}
}

// TestTokenAnswer covers variants of an answer that do no harm.
func TestTokenAnswer(t *testing.T) {
	for body, want := range map[string]time.Duration{
		`{"access_token":"ab","expires_in":1e300,"token_type":"bearer"}`:       maxLifetime,
		`{"access_token":"ab","expires_in":1e999,"token_type":"bearer"}`:       maxLifetime,
		`{"access_token":"ab","expires_in":"60","token_type":"Bearer","x":1}`:  time.Minute,
		`{"access_token":"ab","expires_in":60.0}`:                              time.Minute,
		`{"access_token":"ab","expires_in":"NaN","token_type":"Bearer"}`:       defaultLifetime,
		`{"access_token":"ab","expires_in":0,"token_type":"Bearer"}`:           defaultLifetime,
		`{"access_token":"ab","expires_in":null,"token_type":"BEARER"}`:        defaultLifetime,
		`{"access_token":"ab","expires_in":{},"token_type":"Bearer"}`:          defaultLifetime,
		`{"access_token":"ab","token_type":"Bearer","expires":"in an hour"}`:   defaultLifetime,
		` {"Access_Token":"ab","token_type":"Bearer"} `:                        defaultLifetime,
		`{"access_token":" ab\n","token_type":" bearer ","expires_in":" 60 "}`: time.Minute,
		`{"access_token":"ab","token_type":null,"expires_in":-5}`:              defaultLifetime,
		`{"access_token":"ab","token_type":{},"expires_in":[60]}`:              defaultLifetime,
	} {
		token, err := parseToken(strings.NewReader(body), noon)
		require.NoError(t, err, body)
		assert.Equal(t, noon.Add(want), token.Expires, body)
		assert.Equal(t, "ab", token.Access)
	}
}

// TestARepetitionIsAskedFor: before a call is repeated with another token, its caller is asked, and can refuse.
func TestARepetitionIsAskedFor(t *testing.T) {
	for name, refusal := range map[string]error{"granted": nil, "refused": errors.New("no leave")} {
		t.Run(name, func(t *testing.T) {
			var updates, asked int
			f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
				updates++
				if updates == 1 {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}

				fmt.Fprint(w, `[{"LOGIN_ID":"a","On-Duty-DTG":"",":SyncStatus":"OK"}]`)
			})
			_, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), []DutyStatus{{Username: "a"}}, WithRepeat(func(context.Context) error {
				asked++
				return refusal
			}))
			assert.Equal(t, 1, asked)

			if refusal == nil {
				require.NoError(t, err)
				assert.Equal(t, 2, updates)
				return
			}

			require.ErrorIs(t, err, refusal)
			call, ok := errors.AsType[*CallError](err)
			require.True(t, ok)
			assert.Equal(t, Canceled, call.Kind)
			assert.False(t, call.MayHaveApplied())
			assert.Equal(t, 1, updates)
		})
	}
}
