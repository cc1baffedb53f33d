package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"
	"github.com/synadia-io/orbit.go/natsext"

	"bobosync/shared/audit"
	"bobosync/shared/topology"
)

// endpoints returns all endpoints of the running services, by subject.
func (s *site) endpoints() map[string]topology.EndpointKind {
	s.t.Helper()

	all := map[string]topology.EndpointKind{}
	answers, err := natsext.RequestMany(s.t.Context(), s.broker().NC, "$SRV.INFO", nil, natsext.RequestManyStall(time.Second))
	require.NoError(s.t, err)

	for m, err := range answers {
		require.NoError(s.t, err)
		var info micro.Info
		require.NoError(s.t, json.Unmarshal(m.Data, &info))

		for _, e := range info.Endpoints {
			all[e.Subject] = topology.KindOf(topology.Service(strings.TrimPrefix(info.Name, "bobosync-")), e.Name)
		}
	}

	return all
}

// TestEveryOrderIsInTheAudit checks that each endpoint of the running services is declared with its kind. A request
// for an order, or for a person's past, must be in the audit with its caller, whether or not it succeeds. Other
// requests leave no trace.
func TestEveryOrderIsInTheAudit(t *testing.T) {
	s := newSite(t, 2)
	s.open()
	stop := s.start()
	s.until("the janitor takes orders", func() bool { return s.endpoints()["bobo.control.janitor.reconcile"] != "" })

	want := map[string]bool{}
	for subject, kind := range s.endpoints() {
		require.NotEmpty(t, kind, "%s: say in shared/topology/permissions.go what it is for", subject)
		_, err := s.broker().NC.Request(subject, []byte(`{"by":"the test"}`), 30*time.Second)
		require.NoError(t, err)

		service, endpoint, _ := strings.Cut(strings.TrimPrefix(subject, "bobo.control."), ".")
		if kind == topology.Ordering || topology.IsAuditedRead(topology.Service(service), endpoint) {
			want[strings.ReplaceAll(strings.TrimPrefix(subject, "bobo.control."), ".", " ")] = true
		}
	}

	require.Greater(t, len(want), 8)

	var orders []struct {
		audit.Entry
		Answer *audit.Detail
	}
	require.NoError(t, json.Unmarshal([]byte(s.succeeds("audit", "list", "--most", "1000", "--json")), &orders))

	got := map[string]bool{}
	for _, o := range orders {
		got[o.Service+" "+o.Endpoint] = true
		require.Equal(t, audit.Caller{Known: audit.ByLogin, Said: "the test"}, o.Caller)

		if o.Kind != audit.Read {
			require.NotEmpty(t, o.Outcome)
			require.NotNil(t, o.Answer)
		}
	}

	require.Equal(t, want, got)
	require.Contains(t, s.succeeds("audit", "list"), "the test")
	require.Contains(t, s.succeeds("audit", "verify"), "are as they were written")
	stop()
	s.fails(1, "the hashes of the days could not be compared", "audit", "verify")
}

// TestAVerificationFindsWhatWasPutIn checks that the verification reports what is wrong, and ends with an exit status.
func TestAVerificationFindsWhatWasPutIn(t *testing.T) {
	s := newSite(t, 1)
	s.open()
	stop := s.start()
	s.until("the janitor takes orders", func() bool { return s.endpoints()["bobo.control.janitor.reconcile"] != "" })
	require.Contains(t, s.succeeds("audit", "list"), "Nothing was ordered")
	s.succeeds("replay", "--all")

	forged, err := json.Marshal(audit.Record{ID: "x", N: 1, Service: "resolver", Kind: audit.Order, At: time.Now()})
	require.NoError(t, err)
	_, err = s.broker().JS.Publish(t.Context(), topology.AuditSubject(topology.Resolver), forged)
	require.NoError(t, err)
	s.fails(1, "the audit is not as it was written", "audit", "verify")
	out, _, status := s.call("audit", "verify", "--json")
	require.Equal(t, 1, status)
	var told struct{ Findings []audit.Finding }
	require.NoError(t, json.Unmarshal([]byte(out), &told))
	require.NotEmpty(t, told.Findings)
	stop()
}
