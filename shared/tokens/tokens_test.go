package tokens

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/athoc"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/topology"
)

func account() config.AtHoc {
	return config.AtHoc{ServerURL: "https://alerts.example.org/", OrgCode: "ORG", ClientID: "client", ClientSecret: "client-secret",
		APIUser: "operator", Password: "password"}
}

// broker starts a broker with the buckets. Its leases last 4 s.
func broker(t *testing.T) (*bustest.Server, jetstream.JetStream) {
	t.Helper()
	return brokerFor(t, time.Second)
}

// brokerFor starts a broker with the buckets, for calls that take at most that long.
func brokerFor(t *testing.T, calls time.Duration) (*bustest.Server, jetstream.JetStream) {
	t.Helper()
	server := bustest.Start(t)
	js := server.Connect(t).JS
	settings := topology.Settings{EntriesMaxBytes: 1 << 20, CallTimeout: calls}
	require.NoError(t, topology.Provision(t.Context(), js, settings, topology.Everyone))

	return server, js
}

func open(t *testing.T, js jetstream.JetStream, a config.AtHoc) *Store {
	t.Helper()

	s, err := New(js, a, bustest.Logger())
	require.NoError(t, err)

	return s
}

// issuer plays AtHoc's token endpoint.
type issuer struct{ issued atomic.Int64 }

func (i *issuer) fetch(context.Context) (athoc.Token, error) {
	now := time.Now()
	return athoc.Token{Access: fmt.Sprint("token-", i.issued.Add(1)), Issued: now, Expires: now.Add(time.Hour)}, nil
}

func noFetch(context.Context) (athoc.Token, error) {
	return athoc.Token{}, errors.New("fetched needlessly")
}

func TestSealHidesAndBinds(t *testing.T) {
	s, err := newSealer(account())
	require.NoError(t, err)

	token := athoc.Token{Access: "very-secret", Issued: time.Now().Round(0), Expires: time.Now().Add(time.Hour).Round(0)}
	value, err := s.seal(token)
	require.NoError(t, err)
	again, err := s.seal(token)
	require.NoError(t, err)
	assert.NotContains(t, string(value), "very-secret")
	assert.NotEqual(t, value, again, "each nonce is used once")

	got, err := s.open(value)
	require.NoError(t, err)
	assert.Equal(t, token.Access, got.Access)
	assert.True(t, token.Expires.Equal(got.Expires))

	for i := range value {
		value[i] ^= 1
		_, err := s.open(value)
		require.ErrorIs(t, err, errSealed, "byte %d", i)
		value[i] ^= 1
	}

	_, err = s.open(nil)
	require.ErrorIs(t, err, errSealed)
}

func TestSealDependsOnEveryCredential(t *testing.T) {
	mine, err := newSealer(account())
	require.NoError(t, err)
	value, err := mine.seal(athoc.Token{Access: "very-secret"})
	require.NoError(t, err)

	for name, change := range map[string]func(*config.AtHoc){
		"org":      func(a *config.AtHoc) { a.OrgCode = "ORG2" },
		"client":   func(a *config.AtHoc) { a.ClientID = "client2" },
		"secret":   func(a *config.AtHoc) { a.ClientSecret = "client-secret2" },
		"account":  func(a *config.AtHoc) { a.APIUser = "operator2" },
		"password": func(a *config.AtHoc) { a.Password = "password2" },
		"shifted":  func(a *config.AtHoc) { a.ClientSecret, a.Password = "client-secretp", "assword" },
	} {
		t.Run(name, func(t *testing.T) {
			a := account()
			change(&a)
			other, err := newSealer(a)
			require.NoError(t, err)
			_, err = other.open(value)
			require.ErrorIs(t, err, errSealed)
		})
	}

	same := account()
	same.ServerURL, same.APIUser, same.Username = "https://gateway.example.org", "", "operator"
	other, err := newSealer(same)
	require.NoError(t, err)
	assert.Equal(t, mine.name, other.name, "the same account, written in another way")
	_, err = other.open(value)
	require.NoError(t, err)
}

func TestReplicasFetchOnceAndShare(t *testing.T) {
	_, js := broker(t)
	var athocAt issuer

	stores := make([]*Store, 4)
	for i := range stores {
		stores[i] = open(t, js, account())
	}

	old := ""
	for round := int64(1); round <= 3; round++ {
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				got, err := stores[i%4].Replace(t.Context(), old, athocAt.fetch)
				assert.NoError(t, err)
				assert.Equal(t, fmt.Sprint("token-", round), got.Access)
			})
		}

		wg.Wait()
		require.Equal(t, round, athocAt.issued.Load())

		for _, s := range append(stores, open(t, js, account())) {
			got, err := s.Current(t.Context())
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("token-", round), got.Access)
			old = got.Fingerprint()
		}
	}

	kv, err := js.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)
	entry, err := kv.Get(t.Context(), stores[0].key())
	require.NoError(t, err)
	assert.NotContains(t, string(entry.Value()), "token-")
}

func TestCurrentNeedsTheBrokerOnlyOnce(t *testing.T) {
	server, js := broker(t)
	var athocAt issuer
	s := open(t, js, account())
	got, err := s.Current(t.Context())
	require.NoError(t, err)
	assert.Empty(t, got.Access)
	_, err = s.Replace(t.Context(), "", athocAt.fetch)
	require.NoError(t, err)
	server.Down(t)

	for range 1000 {
		got, err = s.Current(t.Context())
		require.NoError(t, err)
	}

	assert.Equal(t, "token-1", got.Access)
}

func TestRefusedTokenGivesWayToTheBucketsNewerOne(t *testing.T) {
	_, js := broker(t)
	var athocAt issuer
	a, b := open(t, js, account()), open(t, js, account())
	first, err := a.Replace(t.Context(), "", athocAt.fetch)
	require.NoError(t, err)
	_, err = b.Current(t.Context())
	require.NoError(t, err)
	_, err = a.Replace(t.Context(), first.Fingerprint(), athocAt.fetch)
	require.NoError(t, err)

	got, err := b.Replace(t.Context(), first.Fingerprint(), noFetch)
	require.NoError(t, err)
	assert.Equal(t, "token-2", got.Access)
	got, err = b.Current(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "token-2", got.Access)
}

func TestExpiredTokenOfTheBucketIsNotHandedOut(t *testing.T) {
	_, js := broker(t)
	var athocAt issuer
	_, err := open(t, js, account()).Replace(t.Context(), "", athocAt.fetch)
	require.NoError(t, err)
	late := open(t, js, account())
	late.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	got, err := late.Replace(t.Context(), "", athocAt.fetch)
	require.NoError(t, err)
	assert.Equal(t, "token-2", got.Access)
}

func TestFailedFetchLeavesEverythingAsItWas(t *testing.T) {
	_, js := brokerFor(t, time.Minute)
	var athocAt issuer
	s := open(t, js, account())
	first, err := s.Replace(t.Context(), "", athocAt.fetch)
	require.NoError(t, err)

	refusal := &athoc.CallError{Kind: athoc.Unauthorized, Op: athoc.OpToken}
	_, err = s.Replace(t.Context(), first.Fingerprint(), func(context.Context) (athoc.Token, error) { return athoc.Token{}, refusal })
	require.ErrorIs(t, err, refusal)
	got, err := s.Current(t.Context())
	require.NoError(t, err)
	assert.Equal(t, first.Access, got.Access)

	// The lease was given back: nobody has to wait for its end.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	_, err = open(t, js, account()).Replace(ctx, first.Fingerprint(), athocAt.fetch)
	require.NoError(t, err)
}

func TestReplicaThatDiedWhileFetchingHoldsUpOnlyUntilItsLeaseEnds(t *testing.T) {
	t.Parallel()
	_, js := broker(t)
	var athocAt issuer
	dead, s := open(t, js, account()), open(t, js, account())
	_, err := dead.lock(t.Context())
	require.NoError(t, err)

	impatient, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()

	_, err = s.Replace(impatient, "", athocAt.fetch)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Zero(t, athocAt.issued.Load(), "two replicas fetch at once")

	patient, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()

	_, err = s.Replace(patient, "", athocAt.fetch)
	require.NoError(t, err)
	assert.EqualValues(t, 1, athocAt.issued.Load())
}

func TestFetchedTokenIsKeptEvenIfTheCallerHasGone(t *testing.T) {
	_, js := broker(t)
	var athocAt issuer
	ctx, cancel := context.WithCancel(t.Context())
	_, err := open(t, js, account()).Replace(ctx, "", func(ctx context.Context) (athoc.Token, error) {
		cancel()
		return athocAt.fetch(ctx)
	})
	require.NoError(t, err)
	got, err := open(t, js, account()).Replace(t.Context(), "", noFetch)
	require.NoError(t, err)
	assert.Equal(t, "token-1", got.Access)
}

func TestTokenThatCouldNotBeSharedDoesNotBringARefusedOneBack(t *testing.T) {
	_, js := broker(t)
	var athocAt issuer
	s := open(t, js, account())
	first, err := s.Replace(t.Context(), "", athocAt.fetch)
	require.NoError(t, err)
	kv, err := s.bucket(t.Context())
	require.NoError(t, err)
	second, err := s.Replace(t.Context(), first.Fingerprint(), func(ctx context.Context) (athoc.Token, error) {
		entry, err := kv.Get(ctx, s.key())
		require.NoError(t, err)
		_, err = kv.Put(ctx, s.key(), entry.Value()) // another replica writes meanwhile
		require.NoError(t, err)

		return athocAt.fetch(ctx)
	})
	require.NoError(t, err)
	assert.Equal(t, "token-2", second.Access)
	third, err := s.Replace(t.Context(), second.Fingerprint(), athocAt.fetch)
	require.NoError(t, err)
	assert.Equal(t, "token-3", third.Access, "the bucket's token is known to be refused")
}

func TestChangedPasswordReplacesTheToken(t *testing.T) {
	_, js := broker(t)
	var athocAt issuer
	_, err := open(t, js, account()).Replace(t.Context(), "", athocAt.fetch)
	require.NoError(t, err)

	a := account()
	a.Password = "next-password"
	changed := open(t, js, a)
	got, err := changed.Current(t.Context())
	require.NoError(t, err)
	assert.Empty(t, got.Access)
	got, err = changed.Replace(t.Context(), "", athocAt.fetch)
	require.NoError(t, err)
	assert.Equal(t, "token-2", got.Access)
	got, err = open(t, js, a).Replace(t.Context(), "", noFetch)
	require.NoError(t, err)
	assert.Equal(t, "token-2", got.Access)
}

func TestBucketThatIsGoneIsAnError(t *testing.T) {
	_, js := broker(t)
	s := open(t, js, account())
	require.NoError(t, js.DeleteKeyValue(t.Context(), topology.BucketState))
	_, err := s.Current(t.Context())
	require.ErrorIs(t, err, jetstream.ErrBucketNotFound)
	_, err = s.Replace(t.Context(), "", noFetch)
	require.ErrorIs(t, err, jetstream.ErrBucketNotFound)
}
