package auth

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/config"
)

func TestSessionsEnd(t *testing.T) {
	t.Parallel()

	for about, c := range map[string]struct {
		pause time.Duration // between requests
		times int
		lasts bool
	}{
		"used now and then":     {29 * time.Minute, 20, true},
		"left alone":            {31 * time.Minute, 1, false},
		"used for a shift":      {29 * time.Minute, 24, true},
		"used for longer":       {29 * time.Minute, 25, false},
		"used all the time":     {10 * time.Second, 200, true},
		"left alone after that": {30 * time.Minute, 1, false},
	} {
		d := file(t)
		d.in("olga")

		for range c.times {
			d.clock.pass(c.pause)
			d.who()
		}

		if c.lasts {
			d.is("olga|operator|password")
		} else {
			d.is(isNobody)
		}

		_ = about
	}
}

// TestStreamsKeepNobodyIn checks that requests that stay open, or that a page sends by itself, do not extend a session.
func TestStreamsKeepNobodyIn(t *testing.T) {
	t.Parallel()
	d := file(t)
	d.in("olga")

	for range 4 {
		d.clock.pass(10 * time.Minute)
		d.get("/viewer", "Accept", "text/event-stream")
		d.get("/session", "Sec-Fetch-Mode", "cors")
		d.get("/viewer?refresh")
	}

	d.is(isNobody)
}

// TestASessionIsTold checks that a page can ask how long its session lasts, and that a user can extend it.
func TestASessionIsTold(t *testing.T) {
	t.Parallel()
	d := file(t)
	require.Equal(t, http.StatusUnauthorized, d.get("/session").Code)
	d.in("olga")
	start := d.clock.Now()
	require.Contains(t, d.get("/session").Body.String(), `"idle_ends":"`+start.Add(30*time.Minute).Format("2006-01-02T15:04"))
	d.clock.pass(29 * time.Minute)
	require.Equal(t, http.StatusSeeOther, d.send(http.MethodPost, "/session", url.Values{"next": {"/viewer"}}).Code)
	require.Contains(t, d.get("/session").Body.String(), `"idle_ends":"`+start.Add(59*time.Minute).Format("2006-01-02T15:04"))
	require.Contains(t, d.get("/session").Body.String(), `"ends":"`+start.Add(12*time.Hour).Format("2006-01-02T15:04"))
}

// TestForgedCookies checks that only cookies that the console has made for this name are accepted.
func TestForgedCookies(t *testing.T) {
	t.Parallel()

	key := config.Secret(strings.Repeat("k", 32))
	users := usersFile(t)
	d := open(t, Config{Mode: ModeFile, UsersFile: users, SessionKey: key, WallToken: config.Secret(strings.Repeat("w", 20))})
	d.in("victor")
	d.is("victor|viewer|password")
	name := d.auth.sessions.cookie.name
	good := d.cookies[name].Value
	raw, err := base64.RawURLEncoding.DecodeString(good)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "victor", "it is encrypted")

	other, err := newSealer(config.Secret(strings.Repeat("o", 32)))
	require.NoError(t, err)

	root := newSession(Identity{Name: "anna", Role: Approver, How: howLink}, "", d.clock.Now())

	values := map[string]string{
		"empty": "", "no base64": "%%%", "JSON": base64.RawURLEncoding.EncodeToString([]byte(`{"i":"x","n":"anna","r":4,"h":"link","s":1800000000,"l":1800000000}`)),
		"another key": other.seal(name, root), "made for another cookie": d.auth.sessions.cookie.sealer.seal(d.auth.wall.cookie.name, root),
		"without an id": d.auth.sessions.cookie.sealer.seal(name, &session{Name: "anna", Role: Approver, Started: d.clock.Now().Unix(), Seen: d.clock.Now().Unix()}),
		"cut":           good[:len(good)-4], "longer": good + "AAAA",
	}
	for i := range raw {
		flipped := append([]byte(nil), raw...)
		flipped[i] ^= 1
		values["with another byte "+string(rune('0'+i))] = base64.RawURLEncoding.EncodeToString(flipped)
	}

	for about, value := range values {
		d.cookies[name] = &http.Cookie{Name: name, Value: value}
		require.Equal(t, isNobody, strings.Join(strings.Split(d.who(), "|")[:3], "|"), about)
	}

	// A cookie that something else on this machine has set next to the right one changes nothing.
	d.cookies[name] = &http.Cookie{Name: name, Value: good}
	d.cookies["first"] = &http.Cookie{Name: name, Value: "x"}
	d.is("victor|viewer|password")

	// Another console with the same key accepts the cookie.
	again := open(t, Config{Mode: ModeFile, UsersFile: users, SessionKey: key})
	again.cookies[name] = &http.Cookie{Name: name, Value: good}
	again.auth.sessions.ended.known = true
	again.is("victor|viewer|password")
}

// TestNoSessionIsFixed checks that a user who logs in gets another session than the browser had, and that the old one
// has ended.
func TestNoSessionIsFixed(t *testing.T) {
	t.Parallel()
	d := file(t)
	d.in("victor")
	name := d.auth.sessions.cookie.name
	before := d.cookies[name]
	d.in("olga")
	require.NotEqual(t, before.Value, d.cookies[name].Value)
	d.is("olga|operator|password")
	d.cookies[name] = before
	d.is(isNobody)
}

// TestLoggedOutIsOut checks that a session has ended after logging out, even for somebody who kept the cookie.
func TestLoggedOutIsOut(t *testing.T) {
	t.Parallel()
	d := file(t)
	d.in("olga")
	name := d.auth.sessions.cookie.name
	kept := d.cookies[name]
	require.Equal(t, http.StatusOK, d.send(http.MethodPost, "/logout", url.Values{}).Code)
	require.Empty(t, d.cookies)
	d.cookies[name] = kept
	d.is(isNobody)
}

// TestCookies checks that cookies set over TLS have the prefix that binds them to this host.
func TestCookies(t *testing.T) {
	t.Parallel()

	for about, c := range map[string]struct {
		cfg    Config
		prefix string
		secure bool
	}{
		"on this machine": {Config{Mode: ModeFile, UsersFile: usersFile(t)}, "bobosync-", false},
		"behind TLS":      {Config{Mode: ModeFile, UsersFile: usersFile(t), URL: "https://console.example.org"}, "__Host-", true},
	} {
		d := open(t, c.cfg)
		w := d.logIn("olga", password, "/")
		require.Equal(t, http.StatusSeeOther, w.Code, about)
		cookies := w.Result().Cookies()
		require.Len(t, cookies, 1)
		got := cookies[0]
		require.True(t, strings.HasPrefix(got.Name, c.prefix), got.Name)
		require.True(t, got.HttpOnly)
		require.Equal(t, c.secure, got.Secure)
		require.Equal(t, http.SameSiteLaxMode, got.SameSite)
		require.Equal(t, "/", got.Path)
		require.Empty(t, got.Domain)
		require.Less(t, len(got.Value), 1000)
		require.Equal(t, c.secure, w.Header().Get("Strict-Transport-Security") != "")
	}
}

// TestAStreamEndsWithItsSession checks that a stream ends when its session ends by itself, when the user logs out, and
// when the user is removed.
func TestAStreamEndsWithItsSession(t *testing.T) {
	t.Parallel()

	for about, end := range map[string]func(d *door, path string){
		"logged out": func(d *door, _ string) { d.send(http.MethodPost, "/logout", url.Values{}) },
		"removed":    func(d *door, path string) { writeUsers(d.t, path, "anna approver") },
	} {
		path := usersFile(t)
		d := open(t, Config{Mode: ModeFile, UsersFile: path})
		d.in("olga")

		begun, ended := make(chan struct{}), make(chan struct{})

		stream := d.auth.Protect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(begun)
			<-r.Context().Done()
			close(ended)
		}))
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, d.origin+"/live", nil)
		r.Header.Set("Accept", "text/event-stream")
		r.RemoteAddr = d.peer
		r.AddCookie(d.cookies[d.auth.sessions.cookie.name])
		go stream.ServeHTTP(httptest.NewRecorder(), r)

		<-begun
		end(d, path)

		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Fatal("the stream of who is", about, "goes on")
		}
	}
}
