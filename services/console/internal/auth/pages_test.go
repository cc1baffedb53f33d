package auth

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/config"
	"bobosync/shared/login"
)

// TestEachRole checks what each role may see, and what the others get to read instead.
func TestEachRole(t *testing.T) {
	t.Parallel()

	names := map[Role]string{Viewer: "victor", Operator: "olga", Approver: "anna"}
	for role := Nobody; role <= Approver; role++ {
		d := open(t, Config{Mode: ModeFile, UsersFile: usersFile(t), WallToken: "the token of the wall"})
		query := ""
		switch {
		case role == Wall:
			query = "?token=the+token+of+the+wall"
		case role > Wall:
			d.in(names[role])
		}

		for least := Nobody; least <= Approver; least++ {
			w := d.get("/" + least.String() + query)
			switch {
			case role >= least:
				require.Equal(t, http.StatusOK, w.Code, "%s at %s", role, least)
			case role == Nobody:
				require.Equal(t, http.StatusSeeOther, w.Code)
				require.Equal(t, "/login?next=%2F"+least.String(), w.Header().Get("Location"))
			default:
				require.Equal(t, http.StatusForbidden, w.Code, "%s at %s", role, least)
			}
		}
	}
}

// TestWhoIsNobodyLosesNothing checks that without a session scripts get a status, and a form that was typed is not sent
// elsewhere.
func TestWhoIsNobodyLosesNothing(t *testing.T) {
	t.Parallel()
	d := file(t)
	require.Equal(t, http.StatusUnauthorized, d.get("/viewer", "Accept", "text/event-stream").Code)
	require.Equal(t, http.StatusUnauthorized, d.get("/viewer", "Hx-Request", "true").Code)
	w := d.send(http.MethodPost, "/operator", url.Values{"reason": {"long"}})
	require.Equal(t, http.StatusUnauthorized, w.Code)
	require.Contains(t, w.Body.String(), "not lost")
}

func TestLoginGoesWhereItWasAskedFor(t *testing.T) {
	t.Parallel()

	for next, want := range map[string]string{
		"/viewer": "/viewer", "/files?open=1&q=a%20b": "/files?open=1&q=a%20b", "": "/", "/": "/", "/files/a%2Fb": "/files/a%2Fb",
		"https://evil.example.org/": "/", "//evil.example.org/": "/", `/\evil.example.org`: "/", `\\evil.example.org`: "/",
		"/%2Fevil.example.org": "/", "http:evil.example.org": "/", "javascript:alert(1)": "/", "evil": "/", "/a\r\nSet-Cookie: x=1": "/",
		"/\t/evil.example.org": "/", "///evil.example.org": "/", "https:///evil.example.org": "/", "/login": "/", "/logout": "/", "?x": "/",
		"//user@evil.example.org": "/", "/.//evil.example.org": "/evil.example.org", "/..//evil.example.org": "/evil.example.org",
	} {
		d := file(t)
		w := d.logIn("olga", password, next)
		require.Equal(t, http.StatusSeeOther, w.Code)
		require.Equal(t, want, w.Header().Get("Location"), "%q", next)
		require.Empty(t, w.Header().Values("Set-Cookie")[1:], "%q", next)

		again := d.get("/login?" + url.Values{"next": {next}}.Encode())
		require.Equal(t, http.StatusSeeOther, again.Code)
		require.Equal(t, want, again.Header().Get("Location"), "%q", next)
	}
}

// TestGuessingIsSlow checks that five failures a minute are possible, each with the same words whether the user exists
// or not.
func TestGuessingIsSlow(t *testing.T) {
	t.Parallel()

	d := file(t)
	var words []string
	for _, name := range []string{"olga", "nobody", "<b>", ""} {
		w := d.logIn(name, "wrong wrong wrong", "/")
		require.Equal(t, http.StatusUnauthorized, w.Code)
		require.NotContains(t, w.Body.String(), "<b>")
		words = append(words, strings.Split(w.Body.String(), "<form")[0])
	}

	for _, w := range words {
		require.Equal(t, words[0], w)
	}

	require.Contains(t, d.log.String(), "a login failed")
	require.NotContains(t, d.log.String(), "wrong wrong")

	for range 4 {
		require.Equal(t, http.StatusUnauthorized, d.logIn("olga", "wrong wrong wrong", "/").Code)
	}

	w := d.logIn("olga", password, "/")
	require.Equal(t, http.StatusTooManyRequests, w.Code, "even with the right one")
	require.Equal(t, "60", w.Header().Get("Retry-After"))
	require.Empty(t, w.Header().Values("Set-Cookie"))

	d.peer = "127.0.0.9:1"
	require.Equal(t, http.StatusSeeOther, d.logIn("olga", password, "/").Code, "nobody else is kept out")
	d.peer = "127.0.0.1:4711"
	d.clock.pass(time.Minute)
	require.Equal(t, http.StatusSeeOther, d.logIn("olga", password, "/").Code)

	for range 10 {
		require.Equal(t, http.StatusSeeOther, d.logIn("olga", password, "/").Code, "successes do not count")
	}
}

// TestThrottle checks that names cannot be tried one after the other, and that what is remembered is bounded.
func TestThrottle(t *testing.T) {
	t.Parallel()

	c := &clock{now: time.Unix(1_800_000_000, 0)}

	th := newThrottle(c.Now)
	tried := 0
	for i := range 100 {
		if th.begin("10.0.0.1", strconv.Itoa(i)) {
			tried++
		}
	}

	require.Equal(t, failuresAddress, tried)

	for range failuresAddress {
		th.begin("2001:db8::1", "")
	}

	require.False(t, th.begin("2001:db8::ffff", ""), "the same /64")
	require.True(t, th.begin("2001:db8:0:1::1", ""))

	for i := range maxTried {
		th.begin("10."+strconv.Itoa(i>>16)+"."+strconv.Itoa(i>>8&255)+"."+strconv.Itoa(i&255), "x")
	}

	require.LessOrEqual(t, len(th.tries), maxTried+1)
	require.False(t, th.begin("192.0.2.1", "x"), "it is full")
	c.pass(throttleTime)
	require.True(t, th.begin("192.0.2.1", "x"))
	require.Less(t, len(th.tries), 5)
}

// TestTheFileOfUsersIsReadAgain checks that a user who is removed, or gets another role or password, is logged out, and
// that a broken file changes nothing.
func TestTheFileOfUsersIsReadAgain(t *testing.T) {
	t.Parallel()
	path := usersFile(t)
	d := open(t, Config{Mode: ModeFile, UsersFile: path})
	d.in("olga")
	writeUsers(t, path, "olga operator", "anna approver", "new viewer")
	d.is("olga|operator|password")
	require.NoError(t, os.WriteFile(path, []byte("broken"), 0o600))
	d.is("olga|operator|password")
	require.Contains(t, d.log.String(), "cannot be used")
	writeUsers(t, path, "olga viewer", "anna approver")
	d.is(isNobody)
	d.in("olga")
	d.is("olga|viewer|password")
	writeUsers(t, path, "anna approver")
	d.is(isNobody)
	require.Equal(t, http.StatusUnauthorized, d.logIn("olga", password, "/").Code)
}

// TestAFileOfUsersThatIsMendedIsRead checks that doing what the log says is enough, although that changes neither the
// file's time nor its size.
func TestAFileOfUsersThatIsMendedIsRead(t *testing.T) {
	t.Parallel()
	path := usersFile(t)
	d := open(t, Config{Mode: ModeFile, UsersFile: path})
	d.in("olga")
	require.NoError(t, os.Chmod(path, 0o664))
	writeUsers(t, path, "anna approver")
	d.is("olga|operator|password")
	d.is("olga|operator|password")
	require.Equal(t, 1, strings.Count(d.log.String(), "chmod 600"), d.log.String())
	require.NoError(t, os.Chmod(path, 0o600))
	d.is(isNobody)
}

func TestAFileOfUsersThatOthersMayWriteIsRefused(t *testing.T) {
	t.Parallel()
	path := usersFile(t)
	require.NoError(t, os.Chmod(path, 0o666))
	_, err := openUsers(path, nil)
	require.ErrorContains(t, err, "CONSOLE_USERS_FILE: others may write")
	require.NoError(t, os.WriteFile(path, []byte("# nobody\n"), 0o600))
	require.NoError(t, os.Chmod(path, 0o600))
	_, err = openUsers(path, nil)
	require.ErrorContains(t, err, "has no user")
	_, err = openUsers(path+"x", nil)
	require.ErrorContains(t, err, "CONSOLE_USERS_FILE")
}

// TestLinkOpensOnce checks that the link that bobosync console open prints shows a button, which works once and for a
// minute.
func TestLinkOpensOnce(t *testing.T) {
	t.Parallel()
	d := open(t, Config{Mode: ModeLink})
	link, err := login.NewLink(d.dir, "j.smith@ops", d.clock.Now())
	require.NoError(t, err)
	u, err := url.Parse(link)
	require.NoError(t, err)
	require.Equal(t, defaultAddr, u.Host)

	for range 3 {
		w := d.get(u.RequestURI())
		require.Equal(t, http.StatusOK, w.Code)
		require.Empty(t, w.Header().Values("Set-Cookie"), "looking at it uses nothing up")
	}

	use := func(token string) int { return d.send(http.MethodPost, "/login/link", url.Values{"t": {token}}).Code }
	token := u.Query().Get("t")
	require.Equal(t, http.StatusUnauthorized, use(token+"x"))
	d.is(isNobody)
	require.Equal(t, http.StatusSeeOther, use(token))
	d.is("j.smith@ops|approver|link")
	clear(d.cookies)
	require.Equal(t, http.StatusUnauthorized, use(token))

	link, err = login.NewLink(d.dir, "x", d.clock.Now())
	require.NoError(t, err)
	d.clock.pass(61 * time.Second)
	require.Equal(t, http.StatusUnauthorized, use(link[strings.Index(link, "t=")+2:]))
	require.Contains(t, d.get("/login").Body.String(), "bobosync console open")

	// The key of links is not the key of cookies, and there is no password to try.
	key, err := os.ReadFile(filepath.Join(d.dir, login.KeyFile))
	require.NoError(t, err)

	d.cookies[d.auth.sessions.cookie.name] = &http.Cookie{Name: d.auth.sessions.cookie.name, Value: base64.RawURLEncoding.EncodeToString(key)}
	d.is(isNobody)
	require.Equal(t, http.StatusMethodNotAllowed, d.logIn("olga", password, "/").Code)
}

// TestWall checks that the token opens the wall's page, that it is enough for what the page fetches, and that it ends
// nobody's session.
func TestWall(t *testing.T) {
	t.Parallel()
	cfg := Config{Mode: ModeFile, UsersFile: usersFile(t), WallToken: config.Secret(strings.Repeat("w", 20)), SessionKey: config.Secret(strings.Repeat("k", 32))}
	d := open(t, cfg)
	require.Equal(t, http.StatusSeeOther, d.get("/wall").Code)
	require.Equal(t, http.StatusSeeOther, d.get("/wall?token=").Code)
	require.Equal(t, http.StatusSeeOther, d.get("/wall?token=x").Code)
	require.Equal(t, http.StatusOK, d.get("/wall?token="+strings.Repeat("w", 20)).Code)
	require.Equal(t, http.StatusOK, d.get("/wall").Code, "by its cookie")
	require.Equal(t, http.StatusForbidden, d.get("/viewer").Code)
	d.clock.pass(1000 * time.Hour)
	require.Equal(t, http.StatusOK, d.get("/wall").Code)
	d.in("olga")
	d.is("olga|operator|password")

	other := cfg
	other.WallToken = config.Secret(strings.Repeat("v", 20))
	changed := open(t, other)
	changed.cookies = map[string]*http.Cookie{"wall": d.cookies[d.auth.wall.cookie.name]}
	require.Equal(t, http.StatusSeeOther, changed.get("/wall").Code, "another token")
	without := file(t)
	require.Equal(t, http.StatusSeeOther, without.get("/wall?token=").Code)
}
