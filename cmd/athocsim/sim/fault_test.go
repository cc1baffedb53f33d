package sim_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"bobosync/cmd/athocsim/sim"

	"github.com/stretchr/testify/require"
)

func (c *client) fault(f sim.Fault) sim.Fault {
	c.t.Helper()
	f, err := c.sim.AddFault(f)
	require.NoError(c.t, err)
	return f
}

func TestStatusFaults(t *testing.T) {
	c := start(t, nil)
	for _, status := range []int{400, 401, 403, 404, 413, 429, 500, 502, 503, 504} {
		c.fault(sim.Fault{Kind: sim.FaultStatus, Scope: []string{"update"}, Status: status, Calls: 1, RetryAfter: "7", Body: "gone fishing"})
		res := c.update(existing, one(w1, date1))
		require.Equal(t, status, res.status)
		require.Equal(t, "7", res.header.Get("Retry-After"))
		require.Equal(t, "gone fishing", res.body)
		require.Equal(t, sim.FaultStatus, c.lastCall().Fault)
		require.Equal(t, sim.OutcomeNotProcessed, c.lastCall().Users[0].Outcome)
	}

	require.Empty(t, c.sim.DutyState())
	require.Empty(t, c.sim.Faults(), "all used up")

	c.fault(sim.Fault{Kind: sim.FaultStatus, Status: 503, Apply: true, RetryAfter: "date+90s"})
	res := c.update(existing, one(w1, date1))
	at, err := http.ParseTime(res.header.Get("Retry-After"))
	require.NoError(t, err)
	require.InDelta(t, 90, time.Until(at).Seconds(), 3)
	require.Equal(t, date1, c.sim.DutyState()[w1])
	require.True(t, c.lastCall().Users[0].Applied)
	require.Equal(t, 503, c.lastCall().Status)
}

// TestACulprit checks that each call that carries a certain user fails, and no other call.
func TestACulprit(t *testing.T) {
	c := start(t, nil)
	c.fault(sim.Fault{Kind: sim.FaultStatus, Status: 500, Users: []string{strings.ToUpper(w1)}})
	require.Equal(t, 500, c.update(existing, one(w1, date1)).status)
	require.Equal(t, 200, c.update(existing, one(w2, date1)).status)
}

func TestFaultScopeAndEnd(t *testing.T) {
	c := start(t, nil)
	f := c.fault(sim.Fault{Kind: sim.FaultStatus, Scope: []string{"token", "search"}, Status: 500})
	require.Equal(t, 200, c.update(existing, one(w1, date1)).status)
	require.Equal(t, 500, c.search(nil).status)
	require.Equal(t, 1, c.sim.Faults()[0].Hits)
	require.True(t, c.sim.ClearFault(f.ID))
	require.False(t, c.sim.ClearFault(f.ID))
	require.False(t, c.sim.ClearFault(0))
	c.login()

	c.fault(sim.Fault{Kind: sim.FaultStatus, Status: 500, For: sim.Duration(time.Millisecond)})
	eventually(t, "the fault ends by itself", func() bool { return len(c.sim.Faults()) == 0 })
	require.Equal(t, 200, c.update(existing, one(w1, date2)).status)

	c.fault(sim.Fault{Kind: sim.FaultStatus, Status: 500, Probability: 0.5, Seed: 3})

	count := map[int]int{}
	for range 60 {
		count[c.update(existing, one(w1, date2)).status]++
	}

	require.Greater(t, count[200], 10)
	require.Greater(t, count[500], 10)
}

func TestConnectionFaults(t *testing.T) {
	for _, tc := range []struct {
		fault   sim.Fault
		applied bool
		err     error
	}{
		{sim.Fault{Kind: sim.FaultReset}, false, syscall.ECONNRESET},
		{sim.Fault{Kind: sim.FaultReset, Apply: true}, true, syscall.ECONNRESET},
		{sim.Fault{Kind: sim.FaultLostAnswer}, true, syscall.ECONNRESET},
		{sim.Fault{Kind: sim.FaultHang, Hold: sim.Duration(time.Millisecond)}, false, syscall.ECONNRESET},
		{sim.Fault{Kind: sim.FaultTruncated}, true, nil},
	} {
		c := start(t, nil)
		c.fault(tc.fault)
		_, err := c.tryUpdate(existing, one(w1, date1))
		require.Error(t, err, tc.fault.Kind)

		if tc.err != nil {
			require.ErrorIs(t, err, tc.err)
		} else {
			require.ErrorContains(t, err, "unexpected EOF")
		}

		require.Equal(t, tc.applied, c.sim.DutyState()[w1] != "", tc.fault.Kind)
		require.Equal(t, tc.applied, c.lastCall().Users[0].Applied)
		require.Equal(t, tc.fault.Kind, c.lastCall().Fault)
	}
}

func TestBodyFaults(t *testing.T) {
	c := start(t, nil)
	c.fault(sim.Fault{Kind: sim.FaultBrokenJSON, Calls: 1})
	res := c.update(existing, one(w1, date1))
	require.Equal(t, 200, res.status)
	require.False(t, json.Valid([]byte(res.body)))
	require.Equal(t, date1, c.sim.DutyState()[w1])

	c.fault(sim.Fault{Kind: sim.FaultSlowBody, Hold: sim.Duration(60 * time.Millisecond)})

	began := time.Now()
	res = c.update(existing, one(w1, date2))
	require.True(t, json.Valid([]byte(res.body)))
	require.GreaterOrEqual(t, time.Since(began), 50*time.Millisecond)
}

// giveUp sends an update, and cancels it once the simulator has it. It reports whether the call was cancelled before
// the answer.
func (c *client) giveUp(login, value string) bool {
	c.t.Helper()

	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()

	done := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/api/v2/orgs/ATHOCSIM/users/SyncByCommonNames?"+existing, strings.NewReader(one(login, value)))
		if err == nil {
			req.Header = http.Header{"Authorization": {"Bearer " + c.token}, "Content-Type": {"application/json"}}
			_, err = c.http.Do(req)
		}

		done <- err
	}()

	eventually(c.t, "the call arrives", func() bool {
		return len(done) > 0 || c.sim.Stats().InFlight == 1 && (len(c.sim.Faults()) == 0 || c.sim.Faults()[0].Hits > 0)
	})
	cancel()

	err := <-done
	if err != nil {
		require.ErrorIs(c.t, err, context.Canceled)
	}

	return err != nil
}

func TestHangUntilTheClientGivesUp(t *testing.T) {
	c := start(t, nil)
	c.fault(sim.Fault{Kind: sim.FaultHang, Calls: 1})
	require.True(t, c.giveUp(w1, date1))
	eventually(t, "the call ends", func() bool { return c.sim.Stats().InFlight == 0 })
	require.True(t, c.lastCall().ClientGone)
	require.Equal(t, 0, c.lastCall().Status)
	require.Empty(t, c.sim.DutyState())
}

func TestLateApply(t *testing.T) {
	var c *client
	for delay := 150 * time.Millisecond; ; delay *= 4 {
		c = start(t, nil)
		c.fault(sim.Fault{Kind: sim.FaultLateApply, Calls: 1, Delay: sim.Duration(delay)})
		require.True(t, c.giveUp(w1, date1))
		require.Equal(t, 200, c.update(existing, one(w1, date2)).status, "the newer value goes in between")

		between := c.sim.DutyState()[w1] == date2 && len(c.sim.History(w1)) == 1
		if !between && delay < 2*time.Second {
			continue // the machine is too busy for that
		}

		require.True(t, between)

		break
	}

	eventually(t, "the older value is applied late", func() bool { return c.sim.DutyState()[w1] == date1 })
	eventually(t, "the call ends", func() bool { return c.sim.Stats().InFlight == 0 })

	call := c.sim.Calls(sim.CallFilter{Endpoint: "update"})[0]
	require.True(t, call.ClientGone)
	require.Greater(t, call.Users[0].AppliedAt, call.Finished, "finished is when the client was gone")
}

func TestLatencyDoesNotDependOnTheClient(t *testing.T) {
	for latency := 100 * time.Millisecond; ; latency *= 4 {
		c := start(t, func(o *sim.Options) { o.Settings.Latency.PerUser = sim.Duration(latency) })

		gone := c.giveUp(w1, date1)
		if !gone && latency < 5*time.Second {
			continue // the machine is too busy to give up in that time
		}

		require.True(t, gone)
		eventually(t, "applied though the client has gone", func() bool { return c.sim.DutyState()[w1] == date1 })

		return
	}
}

func TestRefuse(t *testing.T) {
	c := start(t, nil)
	addr := c.sim.Addr()
	f := c.fault(sim.Fault{Kind: sim.FaultRefuse, For: sim.Duration(time.Hour)})
	_, err := c.tryUpdate(existing, one(w1, date1))
	require.Error(t, err, "the connection that was open is closed")
	_, err = c.tryUpdate(existing, one(w1, date1))
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.True(t, c.sim.ClearFault(f.ID))

	reachable := func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			err = conn.Close()
		}

		return err == nil
	}
	eventually(t, "the same port opens again", reachable)
	require.Equal(t, 200, c.update(existing, one(w1, date1)).status)

	res := c.do("POST", "/sim/faults", `{"kind":"refuse","for":"50ms"}`)
	require.Equal(t, 200, res.status, "the wish itself is answered")
	eventually(t, "the port opens by itself", reachable)
	c.fault(sim.Fault{Kind: sim.FaultRefuse, For: sim.Duration(time.Hour)})
	require.NoError(t, c.sim.Close(), "closing does not wait for the port")
}

func TestFaultsAreChecked(t *testing.T) {
	c := start(t, nil)
	for want, f := range map[string]sim.Fault{
		"kind":        {Kind: "nonsense"},
		"scope":       {Kind: sim.FaultReset, Scope: []string{"all"}},
		"status":      {Kind: sim.FaultStatus},
		"probability": {Kind: sim.FaultReset, Probability: 1.1},
		"negative":    {Kind: sim.FaultReset, Calls: -1},
		"for":         {Kind: sim.FaultRefuse},
		"hold":        {Kind: sim.FaultSlowBody},
		"retry_after": {Kind: sim.FaultStatus, Status: 429, RetryAfter: "date+soon"},
		"search":      {Kind: sim.FaultPartial, Scope: []string{"search"}},
	} {
		_, err := c.sim.AddFault(f)
		require.ErrorContains(t, err, want)
	}

	require.Empty(t, c.sim.Faults())
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	c := start(t, func(o *sim.Options) { o.TLS, o.TLSDirectory = true, dir })
	_, err := c.try("GET", "/sim/", "")
	var unknown x509.UnknownAuthorityError
	require.ErrorAs(t, err, &unknown)

	ca, err := os.ReadFile(c.sim.CACertFile())
	require.NoError(t, err)

	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca))
	c.http = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(c.http.CloseIdleConnections)
	c.login()
	c.fault(sim.Fault{Kind: sim.FaultReset, Calls: 1})
	_, err = c.tryUpdate(existing, one(w1, date1))
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.Equal(t, 200, c.update(existing, one(w1, date1)).status)

	_, err = tls.Dial("tcp", c.sim.Addr(), &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	require.ErrorContains(t, err, "protocol version")

	again := start(t, func(o *sim.Options) { o.TLS, o.TLSDirectory = true, dir })
	same, err := os.ReadFile(again.sim.CACertFile())
	require.NoError(t, err)
	require.Equal(t, ca, same, "clients go on trusting the file after a restart")
}

func TestCloseEndsHangingCalls(t *testing.T) {
	c := start(t, nil)
	c.fault(sim.Fault{Kind: sim.FaultHang})

	done := make(chan error, 1)
	go func() { _, err := c.tryUpdate(existing, one(w1, date1)); done <- err }()

	eventually(t, "the call arrives", func() bool { return c.sim.Stats().InFlight == 1 })
	require.NoError(t, c.sim.Close())
	require.Error(t, <-done)
	require.ErrorIs(t, c.sim.Start(t.Context(), "127.0.0.1:0"), sim.ErrClosed)
}
