package audit_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/audit"
	"bobosync/shared/bustest"
	"bobosync/shared/topology"
)

const age = 400 * 24 * time.Hour

func store(t *testing.T) jetstream.JetStream {
	t.Helper()
	js := bustest.Start(t).Connect(t).JS
	s := topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: time.Second, AuditAge: age}
	require.NoError(t, topology.Provision(t.Context(), js, s, topology.Everyone))

	return js
}

// order records an order and its result.
func order(t *testing.T, js jetstream.JetStream, service topology.Service, set string) {
	t.Helper()

	log := audit.NewLog(js, service)
	caller := audit.Caller{Name: "jsmith", Known: audit.ByKey, Said: "j@pc"}
	id, err := log.Append(t.Context(), audit.Record{Endpoint: "replay", Kind: audit.Order, Caller: caller},
		audit.Detail{Request: fmt.Appendf(nil, "%q", set)})
	require.NoError(t, err)
	_, err = log.Append(t.Context(), audit.Record{Endpoint: "replay", Kind: audit.Result, Order: id, Outcome: audit.OK, Caller: caller},
		audit.Detail{Result: json.RawMessage(`{"users":7}`)})
	require.NoError(t, err)
}

func load(t *testing.T, js jetstream.JetStream) audit.Chains {
	t.Helper()
	chains, err := audit.Load(t.Context(), js)
	require.NoError(t, err)
	return chains
}

// TestManyWriteOneChain: several instances of a service write at once, and all records end up in one chain.
func TestManyWriteOneChain(t *testing.T) {
	t.Parallel()

	js := store(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				order(t, js, topology.Resolver, "all")
			}
		})
	}

	wg.Wait()
	order(t, js, topology.Janitor, "mapping")
	chains := load(t, js)
	require.Len(t, chains.Links, 42)
	require.Equal(t, age, chains.Age)
	require.Empty(t, audit.Verify(chains, nil, time.Now()))

	entries := chains.Entries()
	require.Len(t, entries, 42)
	require.Equal(t, audit.Result, entries[0].Kind)
	require.Equal(t, entries[1].ID, entries[0].Order)
	require.JSONEq(t, `"mapping"`, string(entries[1].What.Request))
	require.Equal(t, "jsmith (j@pc)", entries[1].Caller.String())
}

// tampered are the ways to tamper with a chain at one of its records.
var tampered = map[string]func(b *audit.Chains, at int){
	"changed": func(b *audit.Chains, at int) {
		b.Links[at].Data = slices.Replace(slices.Clone(b.Links[at].Data), len(b.Links[at].Data)-3, len(b.Links[at].Data)-2, 'x')
	},
	"another caller": func(b *audit.Chains, at int) {
		var r audit.Record
		if err := json.Unmarshal(b.Links[at].Data, &r); err != nil {
			panic(err)
		}

		r.Caller.Name = "ajones"
		b.Links[at].Data, _ = json.Marshal(r) // it was read from JSON
	},
	"unreadable": func(b *audit.Chains, at int) { b.Links[at].Data = []byte("{") },
	"removed":    func(b *audit.Chains, at int) { b.Links = slices.Delete(b.Links, at, at+1) },
	"put in":     func(b *audit.Chains, at int) { b.Links = slices.Insert(b.Links, at, b.Links[at]) },
	"put behind, rightly chained": func(b *audit.Chains, at int) {
		var r audit.Record
		if err := json.Unmarshal(b.Links[at].Data, &r); err != nil {
			panic(err)
		}

		forged := audit.Record{ID: "forged", N: r.N + 1, Prev: audit.HashOf(b.Links[at].Data), PrevAt: r.At, At: r.At, Service: r.Service}
		data, _ := json.Marshal(forged) // it holds nothing that JSON cannot hold
		b.Links = slices.Insert(b.Links, at+1, audit.Link{Service: b.Links[at].Service, Data: data, Detail: []byte("{}")})
	},
	"another order":    func(b *audit.Chains, at int) { b.Links[at].Detail = []byte(`{"salt":"x","request":"none"}`) },
	"no order":         func(b *audit.Chains, at int) { b.Links[at].Detail = nil },
	"of other service": func(b *audit.Chains, at int) { b.Links[at].Service = topology.Ingest },
	"all up to here":   func(b *audit.Chains, at int) { b.Links = slices.Delete(b.Links, 0, at+1) },
	"all from here":    func(b *audit.Chains, at int) { b.Links = b.Links[:at] },
}

// TestWhatIsNotAsItWasWrittenIsFound: each way to tamper is found, at each record.
func TestWhatIsNotAsItWasWrittenIsFound(t *testing.T) {
	t.Parallel()

	js := store(t)
	for n := range 4 {
		order(t, js, topology.Resolver, fmt.Sprint(n))
	}

	chains := load(t, js)
	now := time.Now()
	require.Empty(t, audit.Verify(chains, nil, now))

	for name, tamper := range tampered {
		for at := range chains.Links {
			b := chains
			b.Links = slices.Clone(chains.Links)
			tamper(&b, at)
			require.NotEmpty(t, audit.Verify(b, nil, now), "%s at %d", name, at)
		}
	}
}

// TestTheJournalKnowsTheEndsOfDays: somebody who changes both the records and the ends that the services report is
// still found out.
func TestTheJournalKnowsTheEndsOfDays(t *testing.T) {
	t.Parallel()
	js := store(t)
	order(t, js, topology.Resolver, "one")
	chains, now := load(t, js), time.Now()
	require.Empty(t, chains.Days(now), "today is not over")
	tomorrow := now.Add(24 * time.Hour)
	days := chains.Days(tomorrow)
	require.Len(t, days, 1)
	require.Equal(t, chains.Ends[topology.Resolver], days[0].Ends["resolver"])
	require.Empty(t, audit.Verify(chains, days, tomorrow))

	other := store(t)
	order(t, other, topology.Resolver, "two")
	require.NotEmpty(t, audit.Verify(load(t, other), days, tomorrow), "another chain, right in itself")
	require.NotEmpty(t, audit.Verify(audit.Chains{Age: age}, days, tomorrow), "none at all")
	require.Empty(t, audit.Verify(audit.Chains{Age: age}, days, now.Add(age+time.Hour)), "it was dropped for its age")
}

// TestWhatIsTooOldIsNotMissed: records that the stream drops because of their age, together with their details, are no
// finding.
func TestWhatIsTooOldIsNotMissed(t *testing.T) {
	t.Parallel()
	js := store(t)
	order(t, js, topology.Resolver, "one")
	order(t, js, topology.Resolver, "two")
	b := load(t, js)
	b.Links = b.Links[2:]
	require.NotEmpty(t, audit.Verify(b, nil, time.Now()))
	require.Empty(t, audit.Verify(b, nil, time.Now().Add(age)))
	b.Links = nil
	require.Empty(t, audit.Verify(b, nil, time.Now().Add(age)))
}

// TestALostStreamIsMissed: the chain continues where it ended, so the records that were lost with the stream are
// missed.
func TestALostStreamIsMissed(t *testing.T) {
	t.Parallel()
	js := store(t)
	order(t, js, topology.Resolver, "one")
	require.NoError(t, js.DeleteStream(t.Context(), topology.StreamAudit))
	_, err := audit.NewLog(js, topology.Resolver).Append(t.Context(), audit.Record{Kind: audit.Order}, audit.Detail{})
	require.ErrorContains(t, err, "AUDIT")
	require.NoError(t, topology.Provision(t.Context(), js, topology.Settings{EntriesMaxBytes: 1 << 20, CallTimeout: time.Second, AuditAge: age}, topology.Janitor))
	order(t, js, topology.Resolver, "two")
	b := load(t, js)
	require.Len(t, b.Links, 2)
	require.Contains(t, audit.Verify(b, nil, time.Now())[0].Text, "the records up to number 2 are missing")
}

// TestNobodyRemovesARecord: the stream denies everybody the deletion of records.
func TestNobodyRemovesARecord(t *testing.T) {
	t.Parallel()
	js := store(t)
	order(t, js, topology.Resolver, "one")
	stream, err := js.Stream(t.Context(), topology.StreamAudit)
	require.NoError(t, err)
	require.Error(t, stream.DeleteMsg(t.Context(), 1))
	require.Error(t, stream.SecureDeleteMsg(t.Context(), 1))
	require.Error(t, stream.Purge(t.Context()))
	require.Len(t, load(t, js).Links, 2)
}
