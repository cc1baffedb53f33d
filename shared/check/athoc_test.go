package check

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/athocconf"
	"bobosync/shared/breaker"
	"bobosync/shared/bustest"
	"bobosync/shared/tokens"
	"bobosync/shared/topology"
)

// plainAtHoc are the checks that always warn with a simulator without TLS.
var plainAtHoc = []string{"AtHoc certificate", "sync to disk"}

func tls12(o *sim.Options) { o.TLS = true }

func TestEverythingIsWell(t *testing.T) {
	s := newSite(t, tls12)
	s.withBroker()
	require.NoError(t, s.athoc.PutUsers(sim.User{LoginID: "w00002@example.org", Attributes: map[string]string{sim.DefaultDutyAttribute: "17/06/2024 14:30:00"}}))
	before := s.athoc.Users()
	v := s.verdict()
	v.only("sync to disk")
	v.has(OK, "AtHoc certificate", "TLS 1.3", "valid until")
	v.has(OK, "AtHoc clock")
	v.has(OK, "AtHoc organisation", "3 users", "1 page")
	v.has(OK, "duty status attribute", "on duty now: 1")
	v.has(OK, "duty status right", "nobody was changed")
	v.has(OK, "employee id attribute", "3 of 3")
	v.has(OK, "streams", "all 8")
	v.has(OK, "consumers", "all 12")
	v.has(OK, "buckets", "all 4")
	v.has(Warning, "sync to disk", "cannot be seen from here", "NATS_MONITOR_URL")
	require.Equal(t, 1, Status(v.results))
	require.Equal(t, before, s.athoc.Users(), "the check has changed somebody")
}

// TestOneTokenForAll: a second run, and a service, use the token that the first run has shared.
func TestOneTokenForAll(t *testing.T) {
	s := newSite(t, nil)
	s.withBroker()
	s.verdict().has(OK, stepToken, "shared with the services")
	s.verdict().has(OK, stepToken, "no new one was asked for")
	require.Len(t, s.athoc.Calls(sim.CallFilter{Endpoint: sim.EndpointToken}), 1)
	// A revoked token is replaced once.
	s.athoc.RevokeTokens()
	v := s.verdict()
	v.only(plainAtHoc...)
	require.Len(t, s.athoc.Calls(sim.CallFilter{Endpoint: sim.EndpointToken}), 2)
}

func TestWithoutABrokerATokenOfItsOwn(t *testing.T) {
	s := newSite(t, nil)
	v := s.verdict()
	v.has(Skipped, stepBroker, "bobosync run, which is not running")
	v.has(OK, stepToken, "get a new access token by themselves")
	v.has(OK, "sync to disk", "the broker inside syncs")
	v.only("AtHoc certificate")

	for _, r := range v.results {
		require.NotEqual(t, stepStreams, r.Check, "what the broker inside would have need not be named one by one")
	}
}

// TestLogins: each way in which AtHoc refuses the account is named, with at most one token request.
func TestLogins(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*site)
		says   []string
	}{
		"wrong password":     {func(s *site) { s.AtHoc.Password = "hunter2" }, []string{"invalid_grant", "password", "check PASSWORD"}},
		"wrong account":      {func(s *site) { s.AtHoc.APIUser = "nobody" }, []string{"invalid_grant", "APIUSER"}},
		"wrong client":       {func(s *site) { s.AtHoc.ClientID = "other" }, []string{"invalid_client", "CLIENT_ID"}},
		"wrong organisation": {func(s *site) { s.AtHoc.OrgCode = "OTHER" }, []string{"the organisation", "ORG_CODE"}},
		"wrong scope":        {func(s *site) { s.AtHoc.Scope = "everything" }, []string{"invalid_scope", "SCOPE"}},
		"locked": {func(s *site) {
			s.fault(sim.Fault{Kind: sim.FaultStatus, Status: http.StatusForbidden, Scope: []string{sim.EndpointToken}})
		}, []string{"status 403", "locked"}},
		"no JSON":      {func(s *site) { s.fault(sim.Fault{Kind: sim.FaultBrokenJSON, Scope: []string{sim.EndpointToken}}) }, []string{"what answers is not AtHoc"}},
		"out of order": {func(s *site) { s.fault(sim.Fault{Kind: sim.FaultStatus, Status: 503}) }, []string{"status 503", "wait"}},
		"other path":   {func(s *site) { s.AtHoc.ServerURL += "/elsewhere" }, []string{"no AtHoc at this address", "ATHOC_SERVER_URL"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			c.change(s)
			v := s.verdict()
			v.has(Problem, stepToken, c.says...)
			v.has(Skipped, stepOrganisation, "not tried: "+stepToken)
			v.has(Skipped, "duty status right", "not tried")
			require.Equal(t, 2, Status(v.results))
			require.LessOrEqual(t, len(s.athoc.Calls(sim.CallFilter{Endpoint: sim.EndpointToken})), 1)
		})
	}
}

func (s *site) fault(f sim.Fault) {
	s.t.Helper()
	_, err := s.athoc.AddFault(f)
	require.NoError(s.t, err)
}

// TestNoPasswordWhileTheServicesAreRefused: after AtHoc has refused the services, the check asks for no token with the
// same settings, but does with others.
func TestNoPasswordWhileTheServicesAreRefused(t *testing.T) {
	s := newSite(t, nil)
	b := s.withBroker()
	s.AtHoc.Password = "hunter2"
	store, err := tokens.New(b.Connect(t).JS, *s.AtHoc, bustest.Logger())
	require.NoError(t, err)
	limits, err := athocconf.Limits(t.Context(), *s.AtHoc, s.Calls, store)
	require.NoError(t, err)
	kv, err := b.Connect(t).JS.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)
	state, err := json.Marshal(breaker.State{Class: breaker.Refused, Cause: "AtHoc refused the credentials", Settings: limits.Settings, Since: time.Now(), ProbeAt: time.Now().Add(time.Minute)})
	require.NoError(t, err)
	revision, err := kv.Put(t.Context(), breaker.Key, state)
	require.NoError(t, err)

	v := s.verdict()
	v.has(Problem, stepToken, "no further password is tried", "AtHoc refused the credentials")
	require.Empty(t, s.athoc.Calls(sim.CallFilter{Endpoint: sim.EndpointToken}))

	s.AtHoc.Password = sim.DefaultPassword
	v = s.verdict()
	v.has(OK, stepToken)
	v.has(Warning, stepServices, "other settings")

	entry, err := kv.Get(t.Context(), breaker.Key)
	require.NoError(t, err)
	require.Equal(t, revision, entry.Revision(), "the check has changed the services' brake")
}

// TestServicesThatAreRefusedWithAGoodToken: AtHoc may refuse the services for something other than the login, which the
// check itself does not run into; the check reports it all the same.
func TestServicesThatAreRefusedWithAGoodToken(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	conn := s.withBroker().Connect(t)
	s.verdict().has(OK, stepToken, "shared with the services")
	store, err := tokens.New(conn.JS, *s.AtHoc, bustest.Logger())
	require.NoError(t, err)
	limits, err := athocconf.Limits(t.Context(), *s.AtHoc, s.Calls, store)
	require.NoError(t, err)
	kv, err := conn.JS.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)
	state, err := json.Marshal(breaker.State{Class: breaker.Refused, Cause: "AtHoc does not take the updates", Settings: limits.Settings, Since: time.Now(), ProbeAt: time.Now().Add(time.Minute)})
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), breaker.Key, state)
	require.NoError(t, err)

	v := s.verdict()
	v.has(OK, stepToken, "in use")
	v.has(Problem, stepServices, "AtHoc does not take the updates", "next at")
	v.has(OK, "duty status right")
}

// TestAPauseHoldsTheCheckBackAsWell: there is no update during a pause, and no call at all if the pause is for all
// calls.
func TestAPauseHoldsTheCheckBackAsWell(t *testing.T) {
	t.Parallel()

	for name, all := range map[string]bool{"updates": false, "all": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			conn := s.withBroker().Connect(t)
			kv, err := conn.JS.KeyValue(t.Context(), topology.BucketState)
			require.NoError(t, err)

			now := time.Now()
			value, err := json.Marshal(breaker.Pause{By: "jo", At: now, Until: now.Add(time.Hour), All: all})
			require.NoError(t, err)
			_, err = kv.Put(t.Context(), breaker.PauseKey, value)
			require.NoError(t, err)

			v := s.verdict()
			v.has(Warning, "duty status right", "an operator has paused it", "bobosync resume")
			require.Empty(t, s.athoc.Calls(sim.CallFilter{Endpoint: sim.EndpointUpdate}))

			if all {
				v.has(Warning, "AtHoc token", "an operator has paused it")
				require.Empty(t, s.athoc.Calls(sim.CallFilter{Endpoint: sim.EndpointToken}))
				require.Empty(t, s.athoc.Calls(sim.CallFilter{Endpoint: sim.EndpointSearch}))
			} else {
				v.has(OK, "AtHoc token")
			}
		})
	}
}

func TestAttributesAndRights(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*site)
		check  string
		level  Level
		says   []string
	}{
		"missing duty attribute": {func(s *site) { s.AtHoc.DutyStatusField = "No-Such" }, stepDuty, Problem, []string{`no attribute "No-Such"`, "DUTY_STATUS_FIELD"}},
		"duty attribute is a text": {func(s *site) { s.AtHoc.DutyStatusField = sim.DefaultCollar }, stepDuty, Problem,
			[]string{"something else than dates"}},
		"missing collar attribute": {func(s *site) { s.CollarField = "No-Such" }, "employee id attribute", Problem, []string{`no attribute "No-Such"`, "COLLAR_ID_FIELD"}},
		"missing user attribute":   {func(s *site) { s.UserAttributes = []string{"FIRSTNAME"} }, "user attributes", Problem, []string{"FIRSTNAME", "USER_ATTRIBUTES"}},
		"nobody has an employee id": {func(s *site) {
			_, err := s.athoc.ClearAttribute(sim.DefaultCollar)
			require.NoError(s.t, err)
		}, "employee id attribute", Problem, []string{"no user has a value"}},
		"zone": {func(s *site) {
			require.NoError(s.t, s.athoc.PutUsers(sim.User{LoginID: "w00001@example.org", Attributes: map[string]string{sim.DefaultDutyAttribute: time.Now().UTC().Add(time.Hour).Format(sim.DateLayout)}}))
		}, stepDuty, Warning, []string{"in the future", "ATHOC_TIMEZONE"}},
		"no role": {func(s *site) {
			s.fault(sim.Fault{Kind: sim.FaultStatus, Status: http.StatusForbidden, Scope: []string{sim.EndpointSearch}})
		}, stepOrganisation, Problem, []string{"status 403", "role"}},
		"wrong path to the organisation": {func(s *site) {
			s.fault(sim.Fault{Kind: sim.FaultStatus, Status: http.StatusNotFound, Scope: []string{sim.EndpointSearch}})
		}, stepOrganisation, Problem, []string{"no such organisation", "ORG_CODE"}},
		"no right to update": {func(s *site) {
			s.fault(sim.Fault{Kind: sim.FaultStatus, Status: http.StatusForbidden, Scope: []string{sim.EndpointUpdate}})
		}, "duty status right", Problem, []string{"status 403", "update users"}},
		"denied": {func(s *site) { s.fault(sim.Fault{Kind: sim.FaultDenyUser}) }, "duty status right", Warning, []string{"denies the right"}},
		"odd answer": {func(s *site) { s.fault(sim.Fault{Kind: sim.FaultPartial}) }, "duty status right", Warning,
			[]string{"does not show whether"}},
		"throttled": {func(s *site) {
			s.fault(sim.Fault{Kind: sim.FaultStatus, Status: 429, Scope: []string{sim.EndpointUpdate}})
		}, "duty status right", Warning, []string{"fewer calls"}},
		"no users": {func(s *site) {
			_, err := s.athoc.RemoveUsers("w00001@example.org", "w00002@example.org", "w00003@example.org")
			require.NoError(s.t, err)
		}, stepOrganisation, Problem, []string{"no user that this account can see"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, nil)
			c.change(s)
			users := len(s.athoc.Users())
			s.verdict().has(c.level, c.check, c.says...)
			require.Len(t, s.athoc.Users(), users)
		})
	}
}

// TestTheTrialWritesNothing: the update names one user, who does not exist, with the safety option set and an empty
// value.
func TestTheTrialWritesNothing(t *testing.T) {
	for _, first := range []string{"user", "attribute"} {
		s := newSite(t, func(o *sim.Options) { o.Settings.JudgeFirst = first })
		s.verdict().has(OK, "duty status right")
		calls := s.athoc.Calls(sim.CallFilter{Endpoint: sim.EndpointUpdate})
		require.Len(t, calls, 1)
		require.Len(t, calls[0].Users, 1)
		u := calls[0].Users[0]
		require.Contains(t, u.LoginID, "bobosync-check-")
		require.Equal(t, sim.OutcomeUnknownUser, u.Outcome)
		value, _ := u.Fields.Get(sim.DefaultDutyAttribute)
		require.Empty(t, value)
		require.Len(t, s.athoc.Users(), 3)
	}
}

func TestCertificates(t *testing.T) {
	now := time.Now()
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		serve func(s *site, a *authority)
		level Level
		says  []string
	}{
		"unknown authority": {func(s *site, a *authority) {
			s.serveTLS(a.sign("127.0.0.1", now.Add(-day), now.Add(90*day)), nil)
			s.AtHoc.SSLCertPath = ""
		}, Problem, []string{"authority that this machine does not know", "Test Authority", "SSL_CERT_PATH"}},
		"expired": {func(s *site, a *authority) { s.serveTLS(a.sign("127.0.0.1", now.Add(-90*day), now.Add(-day)), nil) },
			Problem, []string{"expired on", "renewed"}},
		"not valid yet": {func(s *site, a *authority) { s.serveTLS(a.sign("127.0.0.1", now.Add(day), now.Add(90*day)), nil) },
			Problem, []string{"not valid before", "clock"}},
		"expires soon": {func(s *site, a *authority) {
			s.serveTLS(a.sign("127.0.0.1", now.Add(-90*day), now.Add(10*day+time.Hour)), nil)
		},
			Warning, []string{"expires in 10 days"}},
		"other name": {func(s *site, a *authority) {
			s.serveTLS(a.sign("other.example.org", now.Add(-day), now.Add(90*day)), nil)
		},
			Problem, []string{"not for the name 127.0.0.1", "other.example.org", "ATHOC_SERVER_URL"}},
		"old TLS": {func(s *site, a *authority) {
			s.serveTLS(a.sign("127.0.0.1", now.Add(-day), now.Add(90*day)), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 })
		}, Problem, []string{"no TLS 1.2 or newer"}},
		"no TLS": {func(s *site, _ *authority) { s.AtHoc.ServerURL = "https" + s.AtHoc.ServerURL[len("http"):] },
			Problem, []string{"does not speak TLS", "ATHOC_SERVER_URL"}},
		"well": {func(s *site, a *authority) { s.serveTLS(a.sign("127.0.0.1", now.Add(-day), now.Add(90*day)), nil) },
			OK, []string{"Test Authority"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newSite(t, nil), newAuthority(t)
			s.AtHoc.SSLCertPath = a.file
			c.serve(s, a)
			v := s.verdict()
			v.has(c.level, "AtHoc certificate", c.says...)

			if c.level == Problem {
				v.has(Skipped, stepToken, "not tried: AtHoc connection has a problem (AtHoc certificate)")
			}
		})
	}
}

// TestTheEndOfAnAuthority: the certificates by which AtHoc's certificate is trusted count, including the authority's
// own, which no server sends. Additional certificates that a server sends do not count.
func TestTheEndOfAnAuthority(t *testing.T) {
	now := time.Now()
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		until, beside time.Time
		level         Level
		says          []string
	}{
		"has come":             {until: now.Add(-day), level: Problem, says: []string{"Test Authority", "has expired", "new certificate into SSL_CERT_PATH"}},
		"comes soon":           {until: now.Add(10*day + time.Hour), level: Warning, says: []string{"of an authority in its chain expires in 10 days"}},
		"of one beside it has": {until: now.AddDate(2, 0, 0), beside: now.Add(-day), level: OK, says: []string{"valid until"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, a := newSite(t, nil), newAuthorityUntil(t, c.until)
			s.AtHoc.SSLCertPath = a.file

			cert := a.sign("127.0.0.1", now.AddDate(-1, 0, 0), now.Add(90*day))
			if !c.beside.IsZero() {
				cert.Certificate = append(cert.Certificate, newAuthorityUntil(t, c.beside).cert.Raw)
			}

			s.serveTLS(cert, nil)
			s.verdict().has(c.level, "AtHoc certificate", c.says...)
		})
	}
}

func TestNoCAFile(t *testing.T) {
	s := newSite(t, nil)
	s.AtHoc.SSLCertPath = s.path("missing.pem")
	v := s.verdict()
	v.has(Problem, stepClient, "SSL_CERT_PATH")
	v.has(Skipped, stepConnection, "not tried")
}

func TestProxies(t *testing.T) {
	for status, says := range map[int][]string{
		http.StatusProxyAuthRequired: {"wants a login", "not AtHoc", "HTTPS_PROXY"},
		http.StatusForbidden:         {"does not let this machine through", "not AtHoc"},
		http.StatusBadGateway:        {"cannot reach AtHoc"},
		http.StatusTeapot:            {"status 418"},
	} {
		s := newSite(t, nil)
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(proxy.Close)
		s.AtHoc.ServerURL, s.AtHoc.HTTPSProxy = "https://alerts.example.org", "http://user:hunter2@"+proxy.Listener.Addr().String()
		v := s.verdict()
		v.has(OK, stepClient, "through the proxy "+proxy.Listener.Addr().String())
		v.has(Problem, stepConnection, append(says, proxy.Listener.Addr().String())...)

		for _, r := range v.results {
			require.NotContains(t, r.Message+r.Advice, "hunter2")
		}
	}

	s := newSite(t, nil)
	s.AtHoc.ServerURL, s.AtHoc.HTTPSProxy = "https://alerts.example.org", "http://"+bustest.FreeAddr(t)
	s.verdict().has(Problem, stepConnection, "nothing listens at the proxy", "HTTPS_PROXY")
	s = newSite(t, nil)
	s.AtHoc.HTTPProxy, s.AtHoc.NoProxy = "http://"+bustest.FreeAddr(t), "127.0.0.1"
	s.verdict().has(OK, stepClient, "without a proxy", "NO_PROXY")
}

func TestNobodyListens(t *testing.T) {
	s := newSite(t, nil)
	s.AtHoc.ServerURL = "https://" + bustest.FreeAddr(t)
	s.verdict().has(Problem, stepConnection, "nothing listens", "ATHOC_SERVER_URL")
}

func TestNoSuchName(t *testing.T) {
	s := newSite(t, nil)
	s.AtHoc.ServerURL = "https://no-such-host.invalid"
	v := s.verdict()
	v.has(Problem, stepConnection, "name service (DNS)", "no-such-host.invalid", "ATHOC_SERVER_URL")
	v.has(Skipped, stepToken, "not tried")
}

// TestHangs: whatever hangs, everything else is checked, and the run ends in time.
func TestHangs(t *testing.T) {
	t.Run("token", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, nil)
		s.Timeout = DefaultTimeout
		s.fault(sim.Fault{Kind: sim.FaultHang})
		v := s.verdict()
		v.has(Problem, stepToken, "AtHoc hangs")
		v.has(Skipped, stepOrganisation, "not tried")
		v.has(OK, "CSV_DIRECTORY")
	})
	t.Run("update", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, nil)
		s.Timeout = DefaultTimeout
		s.fault(sim.Fault{Kind: sim.FaultHang, Scope: []string{sim.EndpointUpdate}})
		v := s.verdict()
		v.has(Problem, "duty status right", "AtHoc hangs")
		v.has(OK, "employee id attribute")
	})
	t.Run("everything", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, nil)
		s.Timeout = DefaultTimeout
		ended := make(chan struct{})
		s.serve(func(http.ResponseWriter, *http.Request) { <-ended })
		t.Cleanup(func() { close(ended) })

		v := s.verdict()
		v.has(Warning, stepConnection, "hangs")
		v.has(Problem, stepToken, "AtHoc hangs")
	})
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, nil)
		s.Timeout = DefaultTimeout
		s.AtHoc.ServerURL = "https://" + silent(t)
		s.Broker.URL = "nats://" + silent(t)
		v := s.verdict()
		v.has(Problem, stepConnection, "does not answer the TLS handshake")
		v.has(Problem, stepLogin, "does not answer as a NATS broker")
		v.has(Skipped, stepStreams, "not tried")
	})
}

// silent returns the address of a server that accepts connections and never answers.
func silent(t *testing.T) string {
	t.Helper()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)

	done := make(chan struct{})
	go func() {
		defer close(done)

		var conns []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				break
			}

			conns = append(conns, c)
		}

		for _, c := range conns {
			c.Close()
		}
	}()

	t.Cleanup(func() { l.Close(); <-done })

	return l.Addr().String()
}

func TestClock(t *testing.T) {
	s := newSite(t, nil)
	s.serve(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(-10*time.Minute).UTC().Format(http.TimeFormat))
		s.athoc.Handler().ServeHTTP(w, r)
	})
	s.verdict().has(Problem, "AtHoc clock", "behind this machine's", "NTP")
}
