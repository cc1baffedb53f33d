package publisher_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/await"
	"bobosync/shared/breaker"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// wantAll publishes updates for users 1 to n, and returns the outcomes to expect if all goes well.
func (b *bench) wantAll(n, minutesAgo int) map[string]event.Outcome {
	b.t.Helper()

	want := map[string]event.Outcome{}
	for i := 1; i <= n; i++ {
		b.wants(user(i), minutesAgo, true)
		want[user(i)] = event.Applied
	}

	return want
}

// TestTheFirstUpdateAfterAnOutage: whatever the kind of outage, probes are as frequent late in it as early on, and the
// first one that is answered lets everything through.
func TestTheFirstUpdateAfterAnOutage(t *testing.T) {
	t.Parallel()

	for name, fault := range map[string]sim.Fault{
		"503":     {Kind: sim.FaultStatus, Status: 503},
		"reset":   {Kind: sim.FaultReset},
		"hang":    {Kind: sim.FaultHang},
		"refused": {Kind: sim.FaultRefuse, For: sim.Duration(6 * time.Second)},
		"updates": {Kind: sim.FaultStatus, Status: 500, Scope: []string{sim.EndpointUpdate}},
		"token":   {Kind: sim.FaultStatus, Status: 502, Scope: []string{sim.EndpointToken}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 20, map[string]string{"ATHOC_TIMEOUT": "2s", "ATHOC_RATE_LIMIT": "2"})
			b.fault(fault)
			want := b.wantAll(20, 5)
			b.start()
			await.True(t, func() bool { return b.breakerState().Class == breaker.Outage }, timeout)

			over, longest := time.Now().Add(6*time.Second), time.Duration(0)
			for time.Now().Before(over) { // the outage has to last
				longest = max(longest, time.Until(b.breakerState().ProbeAt))

				<-time.After(20 * time.Millisecond)
			}

			require.Less(t, longest, 5*time.Second, "until the next probe, at any time; it is 1 s")

			if fault.Kind != sim.FaultRefuse {
				b.athoc.ClearFaults()
			}

			ended := time.Now().UnixNano()

			await.True(t, func() bool { return len(b.answers()) > 0 }, timeout)
			t.Logf("first update %s after the end of the outage", time.Since(over))

			tried := 0
			for _, call := range b.athoc.Calls(sim.CallFilter{}) {
				if call.Arrived > ended {
					tried++
				}
			}

			require.LessOrEqual(t, tried, 8, "a token, a search and the update")
			b.outcomes(want)
			require.LessOrEqual(t, b.maxUserCalls(), 1, "each user is sent once after it")
		})
	}
}

// maxUserCalls returns the most calls for any one user that AtHoc took and whose answer was waited for.
func (b *bench) maxUserCalls() (most int) {
	sent := map[string]int{}
	for _, call := range b.updateCalls() {
		if call.Status != http.StatusOK || call.ClientGone {
			continue
		}

		for _, u := range call.Users {
			sent[u.LoginID]++
			most = max(most, sent[u.LoginID])
		}
	}

	return most
}

// TestABurstOfTooLarge: for a while something on the path answers 413 to whatever is sent. Nobody is dead-lettered for
// that, and soon afterwards calls are as large as before.
func TestABurstOfTooLarge(t *testing.T) {
	t.Parallel()
	b := newBench(t, 400, map[string]string{"BATCH_SIZE": "200", "ATHOC_RATE_LIMIT": "50"})
	b.fault(sim.Fault{Kind: sim.FaultStatus, Status: 413, Scope: []string{sim.EndpointUpdate}, For: sim.Duration(1500 * time.Millisecond)})
	want := b.wantAll(400, 50)
	b.start()
	b.outcomes(want)
	require.Empty(t, b.payloads(topology.StreamDead))

	began := time.Now()
	for round := 1; b.state().BatchSize < 200; round++ { // calls grow only when there is something to send
		require.Less(t, time.Since(began), 30*time.Second)
		b.wantAll(400, 50-round%40)
		b.idle()
	}
}

// TestOneUserAloneIsTooLarge: a 413 for a single user is not the user's fault.
func TestOneUserAloneIsTooLarge(t *testing.T) {
	t.Parallel()
	b := newBench(t, 1, nil)
	b.fault(sim.Fault{Kind: sim.FaultStatus, Status: 413, Scope: []string{sim.EndpointUpdate}})
	want := b.wantAll(1, 5)
	b.start()
	await.True(t, func() bool { return len(b.updateCalls()) >= 3 }, timeout)
	require.Equal(t, breaker.Outage, b.breakerState().Class)
	require.Contains(t, b.breakerState().Cause, "on the path to AtHoc")
	require.Empty(t, b.payloads(topology.StreamDead))
	b.athoc.ClearFaults()
	b.outcomes(want)
}

// TestASlowAtHocGetsCallsThatItCanAnswer: a call of BATCH_SIZE users could not end within ATHOC_TIMEOUT.
func TestASlowAtHocGetsCallsThatItCanAnswer(t *testing.T) {
	t.Parallel()
	const users, perUser = 400, 15 * time.Millisecond
	b := newBench(t, users, map[string]string{"ATHOC_TIMEOUT": "3s", "BATCH_SIZE": "300"})
	settings := b.athoc.Settings()
	settings.Latency = sim.Latency{PerUser: sim.Duration(perUser)}
	require.NoError(t, b.athoc.SetSettings(settings))
	want := b.wantAll(users, 5)
	began := time.Now()

	b.start()
	b.outcomes(want)
	t.Logf("%s for %s of AtHoc's work", time.Since(began), users*perUser)

	sent := 0
	for _, call := range b.updateCalls() {
		sent += len(call.Users)
	}

	require.LessOrEqual(t, sent, 2*users, "calls in vain")
	require.LessOrEqual(t, len(b.updateCalls()), 20, "on an idle machine it is 4")
	require.LessOrEqual(t, b.maxUserCalls(), 1)
}

// TestOneUserMakesCallsFail: AtHoc answers all calls except those that hold a culprit. The other users are sent, while
// the culprits are put off, named, and sent once they do no more harm.
func TestOneUserMakesCallsFail(t *testing.T) {
	t.Parallel()

	status := func(code int, text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(text))
		}
	}
	hangUp := func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }
	redirect := func(w http.ResponseWriter) {
		w.Header().Set("Location", "https://example.org/blocked")
		w.WriteHeader(http.StatusFound)
	}

	const page = "<!DOCTYPE html><html><head><title>Request rejected</title></head></html>"
	for name, c := range map[string]struct {
		users, culprits int
		play            func(http.ResponseWriter)
	}{
		"500, seven users":            {7, 1, status(500, "")},
		"500":                         {150, 1, status(500, "oops")},
		"500, two users":              {60, 2, status(500, "")},
		"reset":                       {7, 1, hangUp},
		"a firewall's page":           {30, 1, status(403, page)},
		"a firewall's page, with 200": {30, 1, status(200, page)},
		"half an answer":              {30, 1, status(200, `[{"LOGIN_ID":"x",`)},
		"an empty answer":             {30, 1, status(200, "")},
		"null":                        {30, 1, status(200, "null")},
		"no content":                  {30, 1, status(204, "")},
		"unauthorized":                {30, 1, status(401, "")},
		"not found":                   {30, 1, status(404, "")},
		"a redirect to a block page":  {30, 1, redirect},
		"a timeout of the request":    {30, 1, status(408, "")},
		"a conflict":                  {30, 1, status(409, "conflict")},
		"too large":                   {30, 1, status(413, "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, c.users, map[string]string{"ATHOC_RATE_LIMIT": "20"})
			var mended atomic.Bool
			b.gateway(func(w http.ResponseWriter, body []byte) bool {
				for n := 1; n <= c.culprits; n++ {
					if bytes.Contains(body, []byte(`"`+user(n)+`"`)) && !mended.Load() {
						c.play(w)
						return true
					}
				}

				return false
			})

			want := b.wantAll(c.users, 5)
			innocent := map[string]event.Outcome{}
			for n := c.culprits + 1; n <= c.users; n++ {
				innocent[user(n)] = event.Applied
			}

			began := time.Now()

			b.start()
			b.outcomes(innocent)
			t.Logf("the others were done after %s, with %d calls", time.Since(began), len(b.updateCalls()))
			await.NoFailure(t, func(t *await.Try) {
				state := b.state().Breaker
				assert.False(t, state.Open())
				assert.Len(t, state.PutOff, c.culprits)

				for n := 1; n <= c.culprits; n++ {
					known, _ := state.PutOff.Of(user(n))
					assert.NotEmpty(t, known.Cause)
					assert.NotContains(t, known.Cause, user(n))
				}
			}, timeout)
			require.Empty(t, b.payloads(topology.StreamDead))

			mended.Store(true)
			b.outcomes(want)
			await.True(t, func() bool { return len(b.breakerState().PutOff) == 0 }, timeout)
		})
	}
}

// TestOneUserWhoComesAloneMakesCallsFail: AtHoc took others lately, so AtHoc is not to blame. Users who follow need not
// wait.
func TestOneUserWhoComesAloneMakesCallsFail(t *testing.T) {
	t.Parallel()

	for name, code := range map[string]int{"forbidden": 403, "not found": 404, "too large": 413, "a redirect": 302} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 10, map[string]string{"ATHOC_RATE_LIMIT": "20"})
			b.gateway(func(w http.ResponseWriter, body []byte) bool {
				if bytes.Contains(body, []byte(`"`+user(1)+`"`)) {
					w.WriteHeader(code)
					return true
				}

				return false
			})

			want := map[string]event.Outcome{}
			for n := 2; n <= 5; n++ {
				b.wants(user(n), 5, true)
				want[user(n)] = event.Applied
			}

			b.start()
			b.outcomes(want)
			b.wants(user(1), 5, true)
			await.True(t, func() bool { return len(b.breakerState().PutOff) == 1 }, timeout)
			require.False(t, b.breakerState().Open(), b.breakerState().Cause)

			for n := 6; n <= 10; n++ {
				b.wants(user(n), 5, true)
				want[user(n)] = event.Applied
			}

			b.outcomes(want)
			require.False(t, b.breakerState().Open(), b.breakerState().Cause)
		})
	}
}

// TestWhatCutsLongCallsOff: something on the path, or AtHoc itself, does not take or does not answer calls with more
// than 40 users, in one of several ways. Calls become smaller until all users are sent, and nobody is blamed.
func TestWhatCutsLongCallsOff(t *testing.T) {
	t.Parallel()

	const users, takes = 120, 40
	status := func(code int, text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.WriteHeader(code)
			_, _ = w.Write([]byte(text))
		}
	}

	const page = "<!DOCTYPE html><html><head><title>Request rejected</title></head></html>"
	for name, play := range map[string]func(http.ResponseWriter){
		"a gateway's timeout":      status(504, ""),
		"IIS, by its own limit":    status(404, page),
		"a firewall":               status(403, page),
		"a bad request":            status(400, ""),
		"an empty answer":          status(200, ""),
		"an error of the database": status(500, "timeout expired"),
		"a reset":                  func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"an answer that trickles": func(w http.ResponseWriter) {
			for range 30 {
				_, _ = w.Write([]byte(" "))
				_ = http.NewResponseController(w).Flush()

				time.Sleep(100 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, users, map[string]string{"ATHOC_RATE_LIMIT": "50", "ATHOC_TIMEOUT": "2s", "BATCH_SIZE": "300"})
			b.gateway(func(w http.ResponseWriter, body []byte) bool {
				if bytes.Count(body, []byte("LOGIN_ID")) > takes {
					play(w)
					return true
				}

				return false
			})
			want := b.wantAll(users, 5)
			began := time.Now()

			b.start()
			b.outcomes(want)
			t.Logf("done after %s, with %d calls", time.Since(began), len(b.updateCalls()))
			require.Empty(t, b.payloads(topology.StreamDead))
			require.Empty(t, b.breakerState().PutOff)
		})
	}
}

// TestALoginPageInsteadOfAtHoc: no user is blamed, and the cause names the page.
func TestALoginPageInsteadOfAtHoc(t *testing.T) {
	t.Parallel()

	for _, code := range []int{200, 403} {
		b := newBench(t, 5, nil)
		var over atomic.Bool
		b.gateway(func(w http.ResponseWriter, _ []byte) bool {
			if over.Load() {
				return false
			}

			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(code)
			_, _ = w.Write([]byte("\n<html><head><title>Please log in</title></head><body></body></html>"))

			return true
		})
		want := b.wantAll(5, 5)
		b.start()
		await.True(t, func() bool { return b.breakerState().Open() }, timeout)

		cause := b.breakerState().Cause
		require.Contains(t, cause, "web page")
		require.Contains(t, cause, "Please log in")
		require.Empty(t, b.answers())
		over.Store(true)
		b.probeNow()
		b.outcomes(want)
		require.Empty(t, b.payloads(topology.StreamDead))
	}
}

// TestTheSizeOfCallsIsShared: what one publisher has learned, the next one knows.
func TestTheSizeOfCallsIsShared(t *testing.T) {
	t.Parallel()
	b := newBench(t, 60, nil)
	kv, err := b.conn.JS.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)
	state, err := json.Marshal(breaker.State{Size: breaker.Size{Most: 20, Hold: time.Minute, GrowAt: time.Now().Add(time.Minute)}})
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), breaker.Key, state)
	require.NoError(t, err)

	want := b.wantAll(60, 5)
	b.start()
	b.outcomes(want)

	for _, call := range b.updateCalls() {
		require.LessOrEqual(t, len(call.Users), 20)
	}

	require.Equal(t, 20, b.state().BatchSize)
}
