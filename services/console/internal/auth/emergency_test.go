package auth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestEmergenciesAreToldUntilTheyAreHeard checks that each emergency login is reported once, in order, even if nobody
// could be notified at first, and that wrong guesses and ordinary logins are not reported.
func TestEmergenciesAreToldUntilTheyAreHeard(t *testing.T) {
	t.Parallel()
	cfg := Config{
		Mode: ModeOIDC, URL: "http://127.0.0.1:8470", Issuer: "https://login.example.org", ClientID: "c", ClientSecret: "s", Scopes: "openid", GroupsClaim: "groups", UsersFile: usersFile(t),
	}
	failing := true
	var heard []Emergency
	d := open(t, cfg, func(o *Options) {
		o.Clock = time.Now
		o.Notify = func(context.Context, Emergency) error { return errors.New("nobody is there") }
	})
	opt := d.auth.opt
	now := time.Now()
	opt.Clock = func() time.Time { return now }
	opt.Notify = func(_ context.Context, e Emergency) error {
		if failing {
			return errors.New("nobody is there")
		}

		heard = append(heard, e)

		return nil
	}

	require.Equal(t, http.StatusUnauthorized, d.logIn("anna", "wrong wrong wrong", "/").Code)
	d.in("anna")
	d.send(http.MethodPost, "/logout", url.Values{})
	d.in("olga")
	var mine unnotified

	d.auth.unnotified.mu.Lock()
	mine.all = append(mine.all, d.auth.unnotified.all...)
	d.auth.unnotified.mu.Unlock()
	mine.notify(t.Context(), opt)
	require.Empty(t, heard)

	failing = false

	mine.notify(t.Context(), opt)
	require.Empty(t, heard, "it failed just now")

	now = now.Add(notifyRetryPause)

	mine.notify(t.Context(), opt)
	mine.notify(t.Context(), opt)
	require.Len(t, heard, 2)
	require.Equal(t, []string{"anna", "olga"}, []string{heard[0].Who.Name, heard[1].Who.Name})

	for range 2 * maxUnnotified {
		mine.add(Emergency{})
	}

	require.Len(t, mine.all, maxUnnotified)

	usual := file(t)
	usual.in("anna")
	require.Empty(t, usual.auth.unnotified.all)
}
