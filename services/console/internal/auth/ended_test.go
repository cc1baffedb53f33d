package auth

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/topology"
)

// TestLoggedOutIsOutEverywhere checks that a user who logs out at one console is logged out at every console, at once
// or when the broker is back, and after a restart.
func TestLoggedOutIsOutEverywhere(t *testing.T) {
	t.Parallel()
	broker := bustest.Start(t)
	conn := broker.Connect(t)
	_, err := conn.JS.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: topology.BucketState})
	require.NoError(t, err)

	state := func(o *Options) {
		o.MayWrite = true
		o.State = func(ctx context.Context) (jetstream.KeyValue, error) {
			return conn.JS.KeyValue(ctx, topology.BucketState)
		}
	}
	cfg := Config{Mode: ModeFile, UsersFile: usersFile(t), SessionKey: config.Secret(strings.Repeat("k", 32))}
	one, two := open(t, cfg, state), open(t, cfg, state)
	one.in("olga")
	name := one.auth.sessions.cookie.name
	kept := one.cookies[name]
	two.cookies[name] = kept
	two.is("olga|operator|password")
	one.send(http.MethodPost, "/logout", url.Values{})

	outAt := func(d *door) {
		t.Helper()
		await.True(t, func() bool {
			d.cookies[name] = kept
			return strings.HasPrefix(d.who(), isNobody)
		}, time.Minute)
	}
	outAt(one)
	outAt(two)
	outAt(open(t, cfg, state))

	// Without the broker the logout holds here; the other console learns of it when the broker is back.
	one.in("olga")
	kept = one.cookies[name]

	broker.Down(t)
	one.send(http.MethodPost, "/logout", url.Values{})
	outAt(one)

	two.cookies[name] = kept
	two.is("olga|operator|password")
	broker.Up(t)
	outAt(two)

	// Sessions that would be over by themselves are forgotten.
	one.clock.pass(13 * time.Hour)
	one.in("olga")
	one.send(http.MethodPost, "/logout", url.Values{})
	await.True(t, func() bool {
		kv, err := conn.JS.KeyValue(t.Context(), topology.BucketState)
		if err != nil {
			return false
		}

		entry, err := kv.Get(t.Context(), topology.KeyConsoleEnded)

		return err == nil && strings.Count(string(entry.Value()), ":") == 1
	}, time.Minute)
}

// TestALostListIsWrittenAgain checks that users who logged out stay logged out after the broker has lost its store,
// here and at consoles that start later.
func TestALostListIsWrittenAgain(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	create := func() error {
		_, err := conn.JS.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: topology.BucketState})
		return err
	}
	require.NoError(t, create())

	state := func(o *Options) {
		o.MayWrite = true
		o.State = func(ctx context.Context) (jetstream.KeyValue, error) {
			return conn.JS.KeyValue(ctx, topology.BucketState)
		}
	}
	cfg := Config{Mode: ModeFile, UsersFile: usersFile(t), SessionKey: config.Secret(strings.Repeat("k", 32))}
	one := open(t, cfg, state)
	one.in("olga")
	name := one.auth.sessions.cookie.name
	kept := one.cookies[name]
	one.send(http.MethodPost, "/logout", url.Values{})

	listed := func() bool {
		kv, err := conn.JS.KeyValue(t.Context(), topology.BucketState)
		if err != nil {
			return false
		}

		_, err = kv.Get(t.Context(), topology.KeyConsoleEnded)

		return err == nil
	}
	await.True(t, listed, time.Minute)
	require.NoError(t, conn.JS.DeleteKeyValue(t.Context(), topology.BucketState))
	bustest.Recreate(t, create)
	await.True(t, listed, 20*time.Second, "it is not written again")

	for _, d := range []*door{one, open(t, cfg, state)} {
		d.cookies[name] = kept
		d.is(isNobody)
	}
}

// TestWithoutTheListOldSessionsWait checks that a console that cannot ask whether a session was ended accepts only the
// sessions that it has begun itself.
func TestWithoutTheListOldSessionsWait(t *testing.T) {
	t.Parallel()
	cfg := Config{Mode: ModeFile, UsersFile: usersFile(t), SessionKey: config.Secret(strings.Repeat("k", 32))}
	before := open(t, cfg)
	before.in("olga")

	after := open(t, cfg, func(o *Options) {
		now := o.Clock().Add(time.Minute)
		o.Clock = func() time.Time { return now }
	})
	after.cookies = before.cookies
	after.is(isNobody)
	after.in("olga")
	after.is("olga|operator|password")
}
