package nats_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/deploy/nats/setup"
	inside "bobosync/shared/broker"
	"bobosync/shared/broker/guests"
	"bobosync/shared/bus"
	"bobosync/shared/topology"
)

// last is a subject that nobody may publish to: once the broker refuses it, it has judged everything sent before.
const last = "nobody.may"

// judge is a user's connection that records what the broker refuses.
type judge struct {
	t       *testing.T
	nc      *nats.Conn
	mu      sync.Mutex
	refused []string
	end     chan struct{}
}

func (in *installation) judge(t *testing.T, user string) *judge {
	t.Helper()

	key, err := nats.NkeyOptionFromSeed(setup.CredsFile(in.dir, user))
	require.NoError(t, err)

	return newJudge(t, in.url(), key, nats.RootCAs(in.ca), nats.CustomInboxPrefix(topology.Inbox(user)))
}

func newJudge(t *testing.T, url string, options ...nats.Option) *judge {
	t.Helper()
	j := &judge{t: t, end: make(chan struct{}, 1)}
	var err error
	j.nc, err = nats.Connect(url, append(options, nats.Timeout(timeout),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { j.note(err.Error()) }))...)
	require.NoError(t, err)
	t.Cleanup(j.nc.Close)

	return j
}

// note records the subject that a refusal names in quotes.
func (j *judge) note(text string) {
	_, rest, _ := strings.Cut(text, `"`)

	subject, _, _ := strings.Cut(rest, `"`)
	if subject == last {
		j.end <- struct{}{}
		return
	}

	j.mu.Lock()
	defer j.mu.Unlock()

	j.refused = append(j.refused, subject)
}

// refuses returns the subjects that the broker refuses, in the given order.
func (j *judge) refuses(do func(subject string) error, subjects []string) []string {
	j.t.Helper()
	j.mu.Lock()
	j.refused = nil
	j.mu.Unlock()

	for _, s := range append(slices.Clone(subjects), last) {
		require.NoError(j.t, do(s))
	}

	require.NoError(j.t, j.nc.FlushTimeout(timeout))

	select {
	case <-j.end:
	case <-time.After(timeout):
		require.Fail(j.t, "the broker has not judged all of it")
	}

	j.mu.Lock()
	defer j.mu.Unlock()

	return slices.Clone(j.refused)
}

func (j *judge) publish(subject string) error { return j.nc.Publish(subject, nil) }

func (j *judge) subscribe(subject string) error {
	_, err := j.nc.SubscribeSync(subject)
	return err
}

// concrete returns a subject that a permission covers.
func concrete(pattern string) string {
	return strings.ReplaceAll(strings.ReplaceAll(pattern, "*", "x"), ">", "x.y")
}

// everything lists subjects that represent everything that anybody may publish to, and some that nobody may.
func everything() []string {
	var all []string
	for _, u := range topology.Users() {
		for _, s := range u.Publish {
			all = append(all, concrete(s))
		}
	}

	for s := range owners() {
		all = append(all, s)
	}

	slices.Sort(all)

	return slices.Compact(all)
}

// owners returns who may publish to what, written down by hand: the users by subject.
func owners() map[string][]string {
	const (
		ingest, resolver, publisher, janitor  = "ingest", "resolver", "publisher", "janitor"
		provision, operator, viewer, backup   = topology.UserProvision, topology.UserOperator, topology.UserViewer, topology.UserBackup
		deleting, purging, reading, resetting = "$JS.API.STREAM.DELETE.%s", "$JS.API.STREAM.PURGE.%s", "$JS.API.DIRECT.GET.%s", "$JS.API.CONSUMER.RESET.%s.%s"
	)
	table := map[string][]string{
		// Messages.
		topology.EntriesSubject("f00"): {ingest, resolver}, topology.SubjectRecovered: {ingest, resolver},
		topology.UpdatesSubject("john"): {resolver}, topology.SubjectWake: {resolver},
		topology.SubjectAcks: {resolver, publisher}, topology.SubjectMapping: {janitor},
		topology.JournalEntrySubject("x"): {janitor}, topology.SubjectJournalMapping: {janitor},
		topology.DeadSubject(ingest): {ingest}, topology.DeadSubject(resolver): {resolver}, topology.DeadSubject(publisher): {publisher},
		// The audit: each service has a chain of its own, and nobody else has one.
		topology.AuditSubject(ingest): {ingest}, topology.AuditSubject(resolver): {resolver},
		topology.AuditSubject(publisher): {publisher}, topology.AuditSubject(janitor): {janitor}, topology.AuditSubject("x"): nil,
		"$KV.bobo_audit.head.resolver": {resolver}, "$KV.bobo_audit.resolver.x": {resolver}, "$KV.bobo_audit.x": nil,
		"$KV.bobo_audit.head.janitor": {janitor}, "$KV.bobo_audit.janitor.x": {janitor, resolver}, "$KV.bobo_audit.ingest.x": {ingest, resolver},
		"$JS.API.DIRECT.GET.KV_bobo_audit.$KV.bobo_audit.head.janitor": {janitor, operator, viewer},
		"$JS.API.DIRECT.GET.KV_bobo_audit.$KV.bobo_audit.janitor.x":    {janitor},
		"$JS.API.DIRECT.GET.AUDIT.bobo.audit.resolver":                 {resolver},
		// The history of what AtHoc was sent, and the calls that are about to be made.
		topology.HistorySubject("1", ""): {resolver}, topology.HistorySubject("", "john"): {resolver}, topology.SubjectHistoryInfo: {resolver},
		"$KV.bobo_calls.call.x": {publisher, resolver}, "$KV.bobo_calls.x": nil,
		"bobo.control.ingest.bookings": {operator}, "bobo.control.ingest.check": {operator}, "bobo.control.publisher.check": {operator}, "bobo.control.resolver.check": {operator}, "bobo.control.janitor.check": {operator},
		"bobo.control.resolver.worker-past": {operator}, "bobo.control.resolver.on-duty": {operator}, "bobo.control.resolver.file-calls": {operator}, "bobo.control.resolver.replay-forecast": {operator},
		"bobo.control.resolver.erase": {operator}, "bobo.control.resolver.erase-show": {operator}, "bobo.control.janitor.forget": {resolver},
		// Keys.
		"$KV.bobo_state.resolver.memory": {resolver}, "$KV.bobo_state.janitor.mapping": {janitor},
		"$KV.bobo_state.guard.history": {resolver}, "$KV.bobo_state.guard.hold.off-1": {resolver}, "bobo.control.resolver.held-decide": {operator},
		"bobo.control.resolver.held-show": {operator}, "bobo.control.resolver.held-requeue": {operator},
		"$KV.bobo_state.athoc.pause": {publisher}, "bobo.control.publisher.pause": {operator}, "bobo.control.publisher.resume": {operator},
		"bobo.control.janitor.emergency-login": {operator}, "bobo.control.janitor.mapping-held": {operator}, "bobo.control.resolver.dead-forecast": {operator},
		"bobo.control.janitor.notify-test": {operator}, "bobo.control.ingest.file-rows": {operator, viewer, janitor},
		"bobo.control.resolver.mapping-list": {operator, viewer},
		"$KV.bobo_state.athoc.brake":         {publisher, janitor}, "$KV.bobo_state.clock": {publisher, janitor},
		"$KV.bobo_state.athoc.token.ab": {publisher, janitor, operator}, "$KV.bobo_leases.athoc.token.ab": {publisher, janitor, operator},
		"$KV.bobo_leases.lane.3": {publisher}, "$KV.bobo_leases.janitor": {janitor},
		"$JS.API.DIRECT.GET.KV_bobo_state.$KV.bobo_state.athoc.token.ab": {publisher, janitor, operator},
		"$JS.API.DIRECT.GET.KV_bobo_state":                               nil, // this would get any key, by its sequence
		"$JS.API.STREAM.MSG.GET.KV_bobo_state":                           nil,
		// Requests.
		"bobo.control.resolver.observe": {janitor}, "bobo.control.ingest.purge": {janitor},
		"bobo.control.resolver.replay": {operator}, "bobo.control.resolver.requeue": {operator}, "bobo.control.resolver.dead-drop": {operator}, "bobo.control.janitor.mapping-approve": {operator},
		"bobo.control.resolver.worker": {operator, viewer}, "bobo.control.resolver.state": {operator, viewer, janitor, ingest},
		// Whole accounts, servers.
		"$JS.API.ACCOUNT.PURGE.BOBO": nil, "$JS.API.META.LEADER.STEPDOWN": nil, "$JS.API.SERVER.REMOVE": nil,
		"$SYS.REQ.SERVER.PING.VARZ": nil, "$SYS.REQ.SERVER.x.RELOAD": nil, topology.SubjectServers: {provision, operator, viewer},
	}
	streams := map[string]struct{ purges, reads []string }{
		topology.StreamEntries: {[]string{ingest}, []string{ingest, resolver}},
		topology.StreamUpdates: {nil, []string{resolver}},
		topology.StreamAcks:    {nil, []string{resolver}},
		topology.StreamHistory: {nil, []string{resolver}},
		"KV_bobo_calls":        {nil, []string{resolver}},
		topology.StreamMapping: {[]string{janitor}, []string{janitor, resolver}},
		topology.StreamDead:    {nil, []string{operator, viewer, resolver}},
		topology.StreamAudit:   {nil, []string{operator, viewer, janitor}},
		"KV_bobo_audit":        {nil, []string{operator, resolver}}, // a viewer sees who gave an order and when, but not what it was, which may name workers
		topology.StreamJournal: {[]string{janitor}, []string{janitor}},
		"KV_bobo_state":        {nil, nil},
		"KV_bobo_leases":       {nil, nil},
	}
	for name, s := range streams {
		table["$JS.API.STREAM.CREATE."+name], table["$JS.API.STREAM.UPDATE."+name] = []string{provision}, []string{provision}
		table[fmt.Sprintf(deleting, name)] = nil
		table[fmt.Sprintf(purging, name)] = s.purges
		table[fmt.Sprintf(reading, name)] = s.reads
		table["$JS.API.STREAM.MSG.GET."+name] = nil
		for _, verb := range []string{"SNAPSHOT", "RESTORE", "PEER.REMOVE", "LEADER.STEPDOWN"} {
			table["$JS.API.STREAM."+verb+"."+name] = nil
		}

		for _, consumer := range []string{"mine", "mine.bobo.x"} { // a consumer of the user's own making, which could deliver anywhere
			table["$JS.API.CONSUMER.CREATE."+name+"."+consumer] = nil
		}

		table["$JS.API.CONSUMER.CREATE."+name], table["$JS.API.CONSUMER.DURABLE.CREATE."+name+".mine"] = nil, nil
	}

	for _, name := range []string{topology.StreamDead, topology.StreamMapping, topology.StreamJournal, topology.StreamAudit, "KV_bobo_audit", topology.StreamHistory} {
		table["$JS.API.STREAM.SNAPSHOT."+name], table["$JS.API.STREAM.RESTORE."+name] = []string{backup}, []string{backup}
	}

	table["$JS.API.STREAM.MSG.DELETE."+topology.StreamDead] = []string{resolver}
	table["$JS.API.STREAM.MSG.DELETE."+topology.StreamAudit], table["$JS.API.STREAM.MSG.DELETE.KV_bobo_audit"] = nil, nil
	table["$JS.API.STREAM.MSG.DELETE."+topology.StreamJournal] = []string{janitor}
	for _, name := range []string{topology.StreamEntries, topology.StreamUpdates, topology.StreamAcks, topology.StreamHistory} { // for erasing a worker
		table["$JS.API.STREAM.MSG.DELETE."+name] = []string{resolver}
	}

	for stream, consumers := range (topology.Settings{}).Consumers() {
		for _, c := range consumers {
			owner, _, _ := strings.Cut(c.Durable, "-")

			consumer := stream + "." + c.Durable
			table["$JS.API.CONSUMER.CREATE."+consumer] = []string{provision}
			table["$JS.API.CONSUMER.MSG.NEXT."+consumer] = []string{owner}
			table["$JS.ACK."+consumer+".1.2.3.4.5"] = []string{owner}
			table[fmt.Sprintf(resetting, stream, c.Durable)] = nil
			for _, verb := range []string{"PAUSE", "DELETE", "UNPIN", "LEADER.STEPDOWN"} {
				table["$JS.API.CONSUMER."+verb+"."+consumer] = nil
			}
		}
	}

	return table
}

// TestNobodyMaySendWhatIsNotHis tries, for every user, the subjects of all other users on a real server.
func TestNobodyMaySendWhatIsNotHis(t *testing.T) {
	t.Parallel()

	in := broker(t)
	subjects := everything()
	byHand := owners()
	for _, u := range topology.Users() {
		t.Run(u.Name, func(t *testing.T) {
			j := in.judge(t, u.Name)
			refused := j.refuses(j.publish, subjects)
			for _, s := range subjects {
				allowed := !slices.Contains(refused, s)
				assert.Equal(t, u.MayPublish(s), allowed, "%s may send to %s: what is written down is what the server does", u.Name, s)

				if users, listed := byHand[s]; listed && u.Account != topology.AccountSystem {
					assert.Equal(t, slices.Contains(users, u.Name), allowed, "%s may send to %s", u.Name, s)
				}
			}

			require.NotEmpty(t, refused)
			require.Less(t, len(refused), len(subjects))
		})
	}
}

// targets returns subjects that a request could be made to reach, through its body or its reply subject: those of
// streams and buckets, and those of the services' orders.
func targets() []string {
	all := []string{
		topology.EntriesSubject("f00"), topology.UpdatesSubject("john"), topology.SubjectAcks, topology.SubjectMapping,
		topology.DeadSubject("ingest"), topology.AuditSubject("resolver"), "$KV.bobo_audit.resolver.x", topology.HistorySubject("1", ""), "$KV.bobo_calls.call.x", "$KV.bobo_state.athoc.brake", "$KV.bobo_state.athoc.pause", "$KV.bobo_state.resolver.memory", "$KV.bobo_leases.lane.3",
	}
	for _, order := range []string{"resolver.replay", "resolver.observe", "ingest.purge", "janitor.mapping-approve", "publisher.pause", "resolver.held-decide", "resolver.held-show"} {
		all = append(all, "bobo.control."+order)
	}

	return all
}

// bodyTo returns a request's body that names the target in every field that can name a subject, another stream, or a
// subject to deliver to.
func bodyTo(target string) []byte {
	return fmt.Appendf(nil, `{"seq":1,"batch":1,"expires":1000000,"next_by_subj":">","deliver_subject":%[1]q,"name":"ENTRIES","stream_name":"ENTRIES",
		"subjects":[%[1]q],"republish":{"src":">","dest":%[1]q},"sources":[{"name":"UPDATES"}],"mirror":{"name":"UPDATES"},
		"subject_transform":{"src":">","dest":%[1]q},"config":{"durable_name":"resolver","deliver_subject":%[1]q,"ack_policy":"explicit"},
		"consumer":{"deliver_subject":%[1]q},"reply":%[1]q,"respond":%[1]q}`, target)
}

// stores reports whether a message sent to the subject is stored.
func stores(subject string) bool {
	return !strings.HasPrefix(subject, "$JS.") && !strings.HasPrefix(subject, "bobo.control.") && !strings.HasPrefix(subject, "$SRV.")
}

// lastSequences returns the last sequences of all streams.
func lastSequences(t *testing.T, js jetstream.JetStream) map[string]uint64 {
	t.Helper()

	all := map[string]uint64{}
	for _, name := range []string{
		topology.StreamEntries, topology.StreamUpdates, topology.StreamAcks, topology.StreamMapping, topology.StreamDead, topology.StreamJournal,
		topology.StreamAudit, topology.StreamHistory, "KV_" + topology.BucketCalls, "KV_" + topology.BucketAudit, "KV_" + topology.BucketState, "KV_" + topology.BucketLeases,
	} {
		s, err := js.Stream(t.Context(), name)
		require.NoError(t, err)

		all[name] = s.CachedInfo().State.LastSeq
	}

	return all
}

// TestNoRequestReachesWhatIsNotHis makes, with each key, every request that the key may make, with a body and a reply
// subject that name what does not belong to the user. JetStream acts with the rights of an account, so answers are
// kept out only because each user has an account of its own.
func TestNoRequestReachesWhatIsNotHis(t *testing.T) {
	t.Parallel()
	in := broker(t)
	root := in.login(t, topology.UserProvision)
	require.NoError(t, topology.Provision(t.Context(), root.JS, settings, topology.Everyone))
	_, err := in.login(t, "ingest").JS.Publish(t.Context(), topology.EntriesSubject("f00"), []byte("something to read"))
	require.NoError(t, err)

	for _, u := range topology.Users() {
		if u.Account == topology.AccountStore || u.Account == topology.AccountSystem {
			continue // these count as root, or only look at servers
		}

		t.Run(u.Name, func(t *testing.T) {
			orders := map[string]*nats.Subscription{}
			for _, service := range services {
				if service == u.Name {
					continue
				}

				sub, err := in.login(t, service).NC.SubscribeSync("bobo.control." + service + ".*")
				require.NoError(t, err)

				orders[service] = sub
			}

			in.judge(t, u.Name).reachesNothing(u, root.JS)

			for _, sub := range orders {
				requireMaySend(t, u, sub)
			}
		})
	}
}

// reachesNothing makes every request that a user may make, with each target that does not belong to the user.
func (j *judge) reachesNothing(u topology.User, root jetstream.JetStream) {
	t := j.t
	t.Helper()

	for _, target := range targets() {
		if u.MayPublish(target) {
			continue
		}

		before := lastSequences(t, root)
		for _, subject := range u.Publish {
			if stores(subject) {
				continue // a message that the user may send
			}

			request := nats.Msg{Subject: concrete(subject), Reply: target, Data: bodyTo(target)}
			if strings.HasPrefix(subject, "$JS.ACK.") {
				request.Data = []byte(`+NXT {"batch":1,"no_wait":true}`) // fetches a message
			}

			require.NoError(t, j.nc.PublishMsg(&request))
		}

		_ = j.nc.PublishRequest("$JS.API.INFO", target, nil)
		require.NoError(t, j.nc.FlushTimeout(timeout))
		require.Equal(t, before, lastSequences(t, root), "%s reached %s", u.Name, target)
	}
}

// requireMaySend checks that the user may send everything that has arrived at the services.
func requireMaySend(t *testing.T, u topology.User, sub *nats.Subscription) {
	t.Helper()

	for {
		m, err := sub.NextMsg(pollInterval)
		if err != nil {
			return
		}

		require.True(t, u.MayPublish(m.Subject), "%s had the broker send %s", u.Name, m.Subject)
	}
}

// TestAnAcknowledgementFetchesNothingOfOthers checks that nobody can fetch another consumer's messages: "+NXT" in
// place of an acknowledgement fetches the next message. The subject of another consumer's acknowledgement
// ($JS.ACK.stream.consumer. and five tokens) must not be taken for the longer form of one's own
// ($JS.ACK.domain.account.stream.consumer. and five tokens).
func TestAnAcknowledgementFetchesNothingOfOthers(t *testing.T) {
	t.Parallel()
	in := broker(t)
	require.NoError(t, topology.Provision(t.Context(), in.login(t, topology.UserProvision).JS, settings, topology.Everyone))
	_, err := in.login(t, "ingest").JS.Publish(t.Context(), topology.EntriesSubject("f00"), []byte("an entry"))
	require.NoError(t, err)
	_, err = in.login(t, "resolver").JS.Publish(t.Context(), topology.UpdatesSubject("john"), []byte("an update"))
	require.NoError(t, err)

	all := consumers()
	for _, u := range topology.Users() {
		if u.Account == topology.AccountStore || u.Account == topology.AccountSystem {
			continue // these count as root, or only look at servers
		}

		t.Run(u.Name, func(t *testing.T) {
			nc := in.judge(t, u.Name).nc
			fetched, err := nc.SubscribeSync(topology.Inbox(u.Name) + ".fetched")
			require.NoError(t, err)

			for _, other := range all {
				if u.MayPublish("$JS.API.CONSUMER.MSG.NEXT." + other) {
					continue
				}

				for _, words := range append(slices.Clone(all), "1.2") {
					ack := nats.Msg{Subject: "$JS.ACK." + other + "." + words + ".3.4.5", Reply: fetched.Subject, Data: []byte(`+NXT {"batch":1,"no_wait":true}`)}
					require.NoError(t, nc.PublishMsg(&ack))
				}
			}

			require.NoError(t, nc.FlushTimeout(timeout))

			m, err := fetched.NextMsg(10 * pollInterval)
			require.ErrorIs(t, err, nats.ErrTimeout, "it was answered: %+v", m)
		})
	}
}

// TestTheLongerFormOfAnAcknowledgement checks that the same rights work with a broker that is set to use the longer
// form.
func TestTheLongerFormOfAnAcknowledgement(t *testing.T) {
	t.Parallel()
	in := install(t)
	opts := in.options(t, "nats.conf")
	opts.FeatureFlags = map[string]bool{server.FeatureFlagJsAckFormatV2: true}
	in.ns = serve(t, opts)
	require.NoError(t, topology.Provision(t.Context(), in.login(t, topology.UserProvision).JS, settings, topology.Everyone))
	_, err := in.login(t, "ingest").JS.Publish(t.Context(), topology.EntriesSubject("f00"), []byte("an entry"))
	require.NoError(t, err)
	entries, err := in.login(t, "resolver").JS.Consumer(t.Context(), topology.StreamEntries, topology.ConsumerResolverEntries)
	require.NoError(t, err)
	m, err := entries.Next(jetstream.FetchMaxWait(timeout))
	require.NoError(t, err)
	require.Len(t, strings.Split(m.Reply(), "."), 11)
	require.NoError(t, m.DoubleAck(t.Context()))
}

// consumers lists all durable consumers, in the form in which subjects name them.
func consumers() []string {
	var all []string
	for stream, list := range settings.Consumers() {
		for _, c := range list {
			all = append(all, stream+"."+c.Durable)
		}
	}

	return all
}

// TestTheBrokerInsideHasTheSameRights checks that whoever connects to the port of the all-in-one program's broker may
// do what operators may, by the same tables, and has none of the services' rights.
func TestTheBrokerInsideHasTheSameRights(t *testing.T) {
	t.Parallel()

	u := topology.Guest()
	ns, err := inside.Start(t.Context(), inside.Options{
		StoreDir: t.TempDir(), Port: inside.RandomPort, Token: "inside", Guests: guests.Of("over the port", u), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, ns.Shutdown(context.WithoutCancel(t.Context()))) })
	root, err := bus.Connect(t.Context(), bus.Config{InProcess: ns, Token: "inside", Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(root.Close)
	require.NoError(t, topology.Provision(t.Context(), root.JS, settings, topology.Everyone))

	for _, token := range []string{"", "wrong"} {
		_, err := nats.Connect(ns.ClientURL(), nats.Token(token))
		require.ErrorIs(t, err, nats.ErrAuthorization)
	}

	j := newJudge(t, ns.ClientURL(), nats.Token("over the port"))
	byHand := owners()
	subjects := everything()
	refused := j.refuses(j.publish, subjects)
	for _, s := range subjects {
		allowed := !slices.Contains(refused, s)
		assert.Equal(t, u.MayPublish(s), allowed, "what is written down is what the server does: %s", s)

		if users, listed := byHand[s]; listed {
			assert.Equal(t, slices.Contains(users, topology.UserOperator), allowed, "he may send to %s as an operator may", s)
		}
	}

	require.Len(t, j.refuses(j.subscribe, []string{">", "bobo.>", "$KV.>", "_INBOX_ingest.>"}), 4)

	_, err = root.JS.Publish(t.Context(), topology.EntriesSubject("f00"), []byte("something to read"))
	require.NoError(t, err)
	orders, err := root.NC.SubscribeSync("bobo.control.>")
	require.NoError(t, err)
	require.NoError(t, root.NC.Flush())
	j.reachesNothing(u, root.JS)
	requireMaySend(t, u, orders)

	js, err := jetstream.New(j.nc)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), topology.StreamDead)
	require.NoError(t, err, "he sees what he may see")
	require.Equal(t, topology.StreamDead, stream.CachedInfo().Config.Name)
	servers, err := topology.Servers(t.Context(), j.nc)
	require.NoError(t, err)
	require.Len(t, servers, 1)
	require.True(t, servers[0].Syncs)
	_, err = js.Publish(t.Context(), topology.UpdatesSubject("john"), []byte("{}"))
	require.Error(t, err)
}

// TestAKeyRemovesNoOther checks that a key cannot remove others' messages. A header of NATS (Nats-Rollup) could
// remove all other messages of a stream.
func TestAKeyRemovesNoOther(t *testing.T) {
	t.Parallel()
	in := broker(t)
	require.NoError(t, topology.Provision(t.Context(), in.login(t, topology.UserProvision).JS, settings, topology.Everyone))

	js := in.login(t, "publisher").JS
	for _, key := range []string{"lane.1", "lane.2"} {
		_, err := js.Publish(t.Context(), "$KV.bobo_leases."+key, []byte("held"))
		require.NoError(t, err)
	}

	for _, what := range []string{"all", "sub"} {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: "$KV.bobo_leases.lane.1", Header: nats.Header{"Nats-Rollup": {what}}})
		require.ErrorContains(t, err, "rollup not permitted")
	}
}

// TestNobodyReceivesWhatIsNotHis checks that nobody receives others' answers, requests to other services, or messages
// other than through the consumers.
func TestNobodyReceivesWhatIsNotHis(t *testing.T) {
	t.Parallel()
	in := broker(t)
	subjects := []string{
		">", "*", "bobo.>", "$JS.>", "$SYS.>", "$KV.>", "_INBOX.>", "_INBOX.*.x", "bobo.control.>", "bobo.control.*.*",
		topology.EntriesSubject("f00"), topology.UpdatesSubject("john"), topology.SubjectAcks, topology.SubjectMapping, "bobo.dead.>", "bobo.journal.>",
		"$JS.API.STREAM.CREATE.ENTRIES", "$JS.ACK.>", "$JS.EVENT.>", topology.SubjectServers,
	}

	allowed := map[string][]string{topology.SubjectWake: {"publisher"}}
	for _, u := range topology.Users() {
		inbox := topology.Inbox(u.Name) + ".abc.*"
		allowed[inbox] = []string{u.Name}
	}

	for _, s := range services {
		allowed["bobo.control."+s+".state"] = []string{s}
		allowed["$SRV.PING.bobosync-"+s] = []string{s}
	}

	for s := range allowed {
		subjects = append(subjects, s)
	}

	for _, u := range topology.Users() {
		t.Run(u.Name, func(t *testing.T) {
			j := in.judge(t, u.Name)
			refused := j.refuses(j.subscribe, subjects)
			for _, s := range subjects {
				want := slices.Contains(allowed[s], u.Name)
				assert.Equal(t, want, !slices.Contains(refused, s), "%s may receive %s", u.Name, s)
			}
		})
	}
}

// TestNobodyComesInWithoutTLS checks that the broker talks to no client that does not begin with TLS, or that uses an
// old version of TLS.
func TestNobodyComesInWithoutTLS(t *testing.T) {
	t.Parallel()
	in := broker(t)
	address := strings.TrimPrefix(in.url(), "tls://")
	conn, err := net.DialTimeout("tcp", address, timeout)
	require.NoError(t, err)

	defer conn.Close()

	require.NoError(t, conn.SetDeadline(time.Now().Add(timeout)))
	answers := bufio.NewReader(conn)
	info, err := answers.ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, info, `"tls_required":true`)

	_, err = conn.Write([]byte("CONNECT {\"verbose\":true}\r\nPING\r\n"))
	require.NoError(t, err)

	for err == nil {
		var line string
		line, err = answers.ReadString('\n')
		require.NotContains(t, line, "PONG")
		require.NotContains(t, line, "+OK")
	}

	key, err := nats.NkeyOptionFromSeed(setup.CredsFile(in.dir, "ingest"))
	require.NoError(t, err)
	_, err = nats.Connect(in.url(), key, nats.RootCAs(in.ca), nats.Secure(&tls.Config{MaxVersion: tls.VersionTLS11})) //nolint:gosec // it must be refused
	require.Error(t, err)
}

// TestConnectionsWithoutALoginKeepNobodyOut checks that a service can log in while hundreds of such connections are
// open, and that these are soon closed.
func TestConnectionsWithoutALoginKeepNobodyOut(t *testing.T) {
	t.Parallel()

	in := broker(t)
	var idle []net.Conn
	for range 400 {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(in.url(), "tls://"), timeout)
		require.NoError(t, err)

		defer conn.Close()

		idle = append(idle, conn)
	}

	key, err := nats.NkeyOptionFromSeed(setup.CredsFile(in.dir, "ingest"))
	require.NoError(t, err)
	service, err := nats.Connect(in.url(), key, nats.RootCAs(in.ca), nats.Timeout(timeout))
	require.NoError(t, err, "at once, not when they are put out")
	service.Close()

	for _, conn := range idle {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(timeout)))
		_, err := io.Copy(io.Discard, conn) // the server's greeting, and then the end of the connection
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it is put out")
	}
}
