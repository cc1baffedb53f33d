package check

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/topology"
)

// brokerOnly returns a site of which only the broker is checked.
func brokerOnly(t *testing.T) *site {
	t.Helper()
	s := newSite(t, nil)
	service := s.Settings
	s.Settings = Settings{Service: topology.Resolver, Broker: service.Broker, Calls: service.Calls, AtHoc: service.AtHoc}
	s.AtHoc.ServerURL = "" // so that no AtHoc check runs

	return s
}

func TestBrokerFaults(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(*site)
		check string
		says  []string
	}{
		"nobody listens": {func(s *site) { s.Broker.URL = "nats://" + bustest.FreeAddr(s.t) }, stepBroker, []string{"nothing listens", "NATS_URL"}},
		"no such name":   {func(s *site) { s.Broker.URL = "nats://no-such-host.invalid:4222" }, stepBroker, []string{"name service (DNS)", "no-such-host.invalid"}},
		"no address":     {func(s *site) { s.Broker.URL = "http://[" }, stepBroker, []string{"NATS_URL"}},
		"no JetStream":   {func(s *site) { s.Broker.URL = natsServer(s.t, server.Options{}).ClientURL() }, stepJetStream, []string{"the broker has no JetStream"}},
		"not for this account": {func(s *site) {
			account := server.NewAccount("other")
			ns := natsServer(s.t, server.Options{JetStream: true, Accounts: []*server.Account{account}, Users: []*server.User{{Username: "u", Password: "p", Account: account}}})
			s.Broker.URL = "nats://u:p@" + ns.Addr().String()
		}, stepJetStream, []string{"JetStream is off for this account"}},
		"wrong password": {func(s *site) {
			ns := natsServer(s.t, server.Options{JetStream: true, Username: "u", Password: "p"})
			s.Broker.URL = "nats://u:hunter2@" + ns.Addr().String()
		}, stepLogin, []string{"refuses the credentials", "NATS_CREDS"}},
		"no credentials file": {func(s *site) {
			s.Broker.URL, s.Broker.Creds = natsServer(s.t, server.Options{}).ClientURL(), s.path("missing")
		}, stepLogin, []string{"cannot be read", "NATS_CREDS"}},
		"no credentials in it": {func(s *site) {
			s.Broker.URL, s.Broker.Creds = natsServer(s.t, server.Options{}).ClientURL(), s.path("empty")
			require.NoError(s.t, os.WriteFile(s.Broker.Creds, []byte("nothing"), 0o600))
		}, stepLogin, []string{"neither NATS credentials nor an nkey seed"}},
		"no TLS": {func(s *site) {
			s.Broker.URL = "tls://" + natsServer(s.t, server.Options{}).Addr().String()
		}, stepLogin, []string{"asks for TLS, and the broker has none"}},
		"may do nothing": {func(s *site) {
			deny := &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"$SYS.REQ.USER.INFO", "bobo.acks"}}}
			ns := natsServer(s.t, server.Options{JetStream: true, Users: []*server.User{{Username: "u", Password: "p", Permissions: deny}}})
			s.Broker.URL = "nats://u:p@" + ns.Addr().String()
		}, stepPermissions, []string{"resolver cannot work with these credentials", "may not publish to $JS.A"}},
		"may not use JetStream": {func(s *site) {
			deny := &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.>"}}}
			ns := natsServer(s.t, server.Options{JetStream: true, Users: []*server.User{{Username: "u", Password: "p", Permissions: deny}}})
			s.Broker.URL = "nats://u:p@" + ns.Addr().String()
		}, stepJetStream, []string{"this user may not use JetStream"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := brokerOnly(t)
			c.serve(s)
			v := s.verdict()
			v.has(Problem, c.check, c.says...)
			v.has(Skipped, stepStreams, "not tried")

			for _, r := range v.results {
				require.NotContains(t, r.Message, "hunter2")
			}
		})
	}
}

func TestBrokerCertificates(t *testing.T) {
	now := time.Now()
	a := newAuthority(t)
	for name, c := range map[string]struct {
		host        string
		from, until time.Time
		trusted     bool
		level       Level
		says        []string
	}{
		"unknown authority": {"127.0.0.1", now.Add(-time.Hour), now.AddDate(0, 6, 0), false, Problem, []string{"authority", "NATS_CA"}},
		"expired":           {"127.0.0.1", now.AddDate(0, -6, 0), now.Add(-time.Hour), true, Problem, []string{"expired"}},
		"other name":        {"broker.example.org", now.Add(-time.Hour), now.AddDate(0, 6, 0), true, Problem, []string{"not for the name", "NATS_URL"}},
		"expires soon":      {"127.0.0.1", now.Add(-time.Hour), now.Add(50 * time.Hour), true, Warning, []string{"expires in 2 days"}},
		"well":              {"127.0.0.1", now.Add(-time.Hour), now.AddDate(0, 6, 0), true, OK, []string{"TLS 1.3"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := brokerOnly(t)
			ns := natsServer(t, server.Options{TLSConfig: serverTLS(a.sign(c.host, c.from, c.until)), TLSTimeout: 5})
			s.Broker.URL = "nats://" + ns.Addr().String()
			if c.trusted {
				s.Broker.CA = a.file
			}

			s.verdict().has(c.level, stepLogin, c.says...)
		})
	}
}

func TestOneOfThreeAddresses(t *testing.T) {
	s := brokerOnly(t)
	b := bustest.Start(t)
	dead := bustest.FreeAddr(t)
	s.Broker.URL = "nats://" + dead + "," + b.ClientURL()
	v := s.verdict()
	v.has(Warning, stepBroker, "1 of 2 addresses answer", dead)
	v.has(OK, stepJetStream)
	v.has(Warning, stepStreams, "no streams yet", "start the services")
}

func TestPartsOfTheBroker(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*site, jetstream.JetStream) error
		level  Level
		check  string
		says   []string
	}{
		"stream missing": {func(s *site, js jetstream.JetStream) error {
			return js.DeleteStream(s.t.Context(), topology.StreamUpdates)
		},
			Problem, stepStreams, []string{"UPDATES is missing", "read again from the files"}},
		"consumer missing": {func(s *site, js jetstream.JetStream) error {
			return js.DeleteConsumer(s.t.Context(), topology.StreamUpdates, topology.PartitionConsumer(3))
		}, Problem, "consumers", []string{topology.PartitionConsumer(3)}},
		"bucket missing": {func(s *site, js jetstream.JetStream) error {
			return js.DeleteKeyValue(s.t.Context(), topology.BucketLeases)
		}, Problem, stepBuckets, []string{topology.BucketLeases}},
		"an age limit": {func(s *site, js jetstream.JetStream) error {
			want := s.wantedStream(topology.StreamEntries)
			want.MaxAge = time.Hour
			_, err := js.UpdateStream(s.t.Context(), want)
			return err
		}, Problem, stepStreams, []string{"ENTRIES: max age is 1h0m0s"}},
		"another size": {func(s *site, js jetstream.JetStream) error { s.Broker.EntriesMaxBytes *= 2; return nil },
			Warning, stepStreams, []string{"ENTRIES: max bytes"}},
		"another time-out": {func(s *site, js jetstream.JetStream) error { s.Calls.Timeout *= 2; return nil },
			Warning, stepBuckets, []string{"ATHOC_TIMEOUT"}},
		"gives up": {func(s *site, js jetstream.JetStream) error {
			_, err := js.UpdateConsumer(s.t.Context(), topology.StreamAcks, jetstream.ConsumerConfig{Durable: topology.ConsumerIngestAcks, AckPolicy: jetstream.AckExplicitPolicy, MaxDeliver: 3})
			return err
		}, Problem, "consumers", []string{"gives up after 3"}},
		"a consumer without payloads": {func(s *site, js jetstream.JetStream) error {
			c, err := js.Consumer(s.t.Context(), topology.StreamAcks, topology.ConsumerIngestAcks)
			if err != nil {
				return err
			}

			config := c.CachedInfo().Config
			config.HeadersOnly = true
			_, err = js.UpdateConsumer(s.t.Context(), topology.StreamAcks, config)

			return err
		}, Warning, "consumers", []string{"ingest-acks", "headers only is true, wanted not set"}},
		"a bucket that is copied elsewhere": {func(s *site, js jetstream.JetStream) error {
			bucket, err := js.Stream(s.t.Context(), "KV_"+topology.BucketState)
			if err != nil {
				return err
			}

			config := bucket.CachedInfo().Config
			config.RePublish = &jetstream.RePublish{Source: ">", Destination: "elsewhere.>"}
			_, err = js.UpdateStream(s.t.Context(), config)

			return err
		}, Warning, stepBuckets, []string{topology.BucketState, "republish is"}},
		"a bucket that drops what is old": {func(s *site, js jetstream.JetStream) error {
			bucket, err := js.Stream(s.t.Context(), "KV_"+topology.BucketState)
			if err != nil {
				return err
			}

			config := bucket.CachedInfo().Config
			config.MaxAge = time.Hour
			_, err = js.UpdateStream(s.t.Context(), config)

			return err
		}, Problem, stepBuckets, []string{topology.BucketState, "max age is 1h0m0s", "bobosync provision"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := brokerOnly(t)
			b := s.withBroker()
			require.NoError(t, c.change(s, b.Connect(t).JS))
			s.verdict().has(c.level, c.check, c.says...)
		})
	}
}

func (s *site) wantedStream(name string) jetstream.StreamConfig {
	for _, want := range topology.From(s.Broker, s.Calls).Streams() {
		if want.Name == name {
			return want
		}
	}

	s.t.Fatalf("no stream %s", name)

	return jetstream.StreamConfig{}
}

// TestNothingIsMade: a broker without streams still has none afterwards.
func TestNothingIsMade(t *testing.T) {
	s := newSite(t, nil)
	b := bustest.Start(t)
	s.Broker.URL = b.ClientURL()
	v := s.verdict()
	v.has(OK, stepToken, "by themselves")
	v.has(Warning, stepBuckets, "no buckets yet")

	for name := range b.Connect(t).JS.StreamNames(t.Context()).Name() {
		t.Errorf("the check made stream %s", name)
	}
}

func TestInsideARunningProgram(t *testing.T) {
	s := newSite(t, nil)
	b := s.withBroker()
	s.Broker.URL = ""
	require.NoError(t, os.WriteFile(s.InsideAddress, []byte(b.ClientURL()+"\n"), 0o600))
	v := s.verdict()
	v.has(OK, stepBroker, "inside the running bobosync")
	v.has(OK, stepStreams)
	v.has(OK, "sync to disk", "the broker inside syncs")
	v.only("AtHoc certificate")
	b.Down(t)
	s.verdict().has(Skipped, stepBroker, "not running")
}

// TestSyncing: the monitoring page and the system account of a real server show whether it syncs.
func TestSyncing(t *testing.T) {
	for _, always := range []bool{true, false} {
		seed, public := userKey(t)
		system, app := server.NewAccount("SYS"), server.NewAccount("APP")
		ns := natsServer(t, server.Options{
			JetStream: true, SyncAlways: always, ServerName: "n1", HTTPHost: "127.0.0.1", HTTPPort: server.RANDOM_PORT,
			Accounts: []*server.Account{system, app}, SystemAccount: "SYS",
			Nkeys: []*server.NkeyUser{{Nkey: public, Account: system}},
			Users: []*server.User{{Username: "u", Password: "p", Account: app}},
		})
		s := brokerOnly(t)
		s.Broker.URL = "nats://u:p@" + ns.Addr().String()
		creds := s.path("sys.nk")
		require.NoError(t, os.WriteFile(creds, seed, 0o600))

		for _, monitor := range []Monitor{{SysCreds: creds}, {URL: fmt.Sprintf("http://%s", ns.MonitorAddr())}} {
			s.Monitor = monitor

			v := s.verdict()
			if always {
				v.has(OK, "sync to disk", "each message is synced", "1 server")
			} else {
				v.has(Problem, "sync to disk", "acknowledges before it syncs", "n1 (every 2m0s)", "sync_interval: always")
			}
		}

		s.Monitor = Monitor{URL: "http://" + bustest.FreeAddr(t)}
		s.verdict().has(Warning, "sync to disk", "nothing listens")
		s.Monitor = Monitor{URL: s.athoc.URL()}
		s.verdict().has(Warning, "sync to disk", "no monitoring page")
	}
}

func userKey(t *testing.T) (seed []byte, public string) {
	t.Helper()

	key, err := nkeys.CreateUser()
	require.NoError(t, err)
	seed, err = key.Seed()
	require.NoError(t, err)
	public, err = key.PublicKey()
	require.NoError(t, err)

	return seed, public
}

func TestJudgeSync(t *testing.T) {
	answer := func(name string, always bool, interval time.Duration) storeServer {
		var s storeServer
		s.Name = name
		s.JetStream = &storing{Config: &storeConfig{SyncAlways: always, SyncInterval: interval}}
		return s
	}
	for name, c := range map[string]struct {
		servers  []storeServer
		replicas int
		want     Level
	}{
		"all sync":                {[]storeServer{answer("a", true, time.Minute), answer("b", true, time.Minute)}, 3, OK},
		"one of three is lazy":    {[]storeServer{answer("a", true, time.Minute), answer("b", false, time.Minute)}, 3, Warning},
		"alone and lazy":          {[]storeServer{answer("a", false, time.Minute)}, 1, Problem},
		"one without JetStream":   {[]storeServer{{Name: "leaf"}, answer("a", true, 0)}, 1, OK},
		"none has JetStream":      {[]storeServer{{Name: "leaf"}}, 1, Warning},
		"one that does not tell":  {[]storeServer{answer("a", false, 0)}, 1, Warning},
		"one lazy, one not there": {[]storeServer{answer("a", false, time.Second), {Name: "leaf"}}, 1, Problem},
	} {
		require.Equal(t, c.want, judgeSync(c.servers, c.replicas)[0].Level, name)
	}
}

func TestJudgeReplicas(t *testing.T) {
	peer := func(name string, current, offline bool) *jetstream.PeerInfo {
		return &jetstream.PeerInfo{Name: name, Current: current, Offline: offline, Lag: 7}
	}
	well, slow, gone := peer("well", true, false), peer("slow", false, false), peer("gone", true, true)
	for name, c := range map[string]struct {
		replicas int
		cluster  *jetstream.ClusterInfo
		want     Level
		says     string
	}{
		"alone":       {1, nil, "", ""},
		"all well":    {3, &jetstream.ClusterInfo{Leader: "l", Replicas: []*jetstream.PeerInfo{well, well}}, "", ""},
		"no leader":   {3, &jetstream.ClusterInfo{Replicas: []*jetstream.PeerInfo{well, well}}, Problem, "no leader"},
		"one offline": {3, &jetstream.ClusterInfo{Leader: "l", Replicas: []*jetstream.PeerInfo{well, gone}}, Warning, "gone is offline"},
		"two offline": {3, &jetstream.ClusterInfo{Leader: "l", Replicas: []*jetstream.PeerInfo{gone, gone}}, Problem, "2 of 3"},
		"one behind":  {3, &jetstream.ClusterInfo{Leader: "l", Replicas: []*jetstream.PeerInfo{well, slow}}, Warning, "slow (by 7)"},
		"one unnamed": {3, &jetstream.ClusterInfo{Leader: "l", Replicas: []*jetstream.PeerInfo{well}}, Warning, "no server"},
	} {
		results := judgeReplicas("S", c.replicas, c.cluster)
		if c.want == "" {
			require.Empty(t, results, name)
			continue
		}

		require.Len(t, results, 1, name)
		require.Equal(t, c.want, results[0].Level, name)
		require.Contains(t, results[0].Message, c.says, name)
	}
}

func TestJudgeStorage(t *testing.T) {
	require.Equal(t, OK, judgeStorage(1<<30, -1, 2<<30)[0].Level)
	require.Equal(t, OK, judgeStorage(1<<30, 8<<30, 2<<30)[0].Level)
	require.Equal(t, Warning, judgeStorage(0, 1<<30, 2<<30)[0].Level)
	require.Equal(t, Problem, judgeStorage(95<<20, 100<<20, 1<<20)[0].Level)
}

func TestJudgeVersion(t *testing.T) {
	require.Equal(t, Problem, judgeVersion(1, "2.11.4")[0].Level)
	old := judgeVersion(3, "2.12.0")[0]
	require.Equal(t, Warning, old.Level)
	require.Contains(t, old.Advice, "2.14.6")
	require.Equal(t, OK, judgeVersion(4, "2.14.6")[0].Level)
}

func TestAFullStreamIsWarnedOf(t *testing.T) {
	want := jetstream.StreamConfig{Name: "ENTRIES", MaxBytes: 1000}
	require.Empty(t, judgeStream(want, &jetstream.StreamInfo{Config: want, State: jetstream.StreamState{Bytes: 500}}))
	results := judgeStream(want, &jetstream.StreamInfo{Config: want, State: jetstream.StreamState{Bytes: 950}})
	require.Equal(t, Warning, results[0].Level)
	require.Contains(t, results[0].Message, "nearly full")
}

// TestAHistoryThatIsCutShort: a history that its size limit cuts short causes a warning; one whose messages are dropped
// because of their age does not.
func TestAHistoryThatIsCutShort(t *testing.T) {
	want := jetstream.StreamConfig{Name: topology.StreamHistory, MaxBytes: 1000, MaxAge: 90 * 24 * time.Hour}
	now := time.Now()
	judge := func(bytes uint64, days int) []Result {
		state := jetstream.StreamState{Bytes: bytes, FirstTime: now.AddDate(0, 0, -days)}
		return judgeStream(want, &jetstream.StreamInfo{Config: want, State: state, TimeStamp: now})
	}
	require.Empty(t, judge(500, 30))
	require.Empty(t, judge(1000, 90))
	results := judge(990, 30)
	require.Equal(t, Warning, results[0].Level)
	require.Contains(t, results[0].Message, "it is known for the last 30 days and not for 90 days")
	require.Contains(t, results[0].Advice, "HISTORY_MAX_BYTES")
}

func TestCovers(t *testing.T) {
	for pattern, subjects := range map[string]map[string]bool{
		"bobo.>":            {"bobo.acks": true, "bobo.entries.x": true, "bobo": false, "other.acks": false},
		"bobo.*":            {"bobo.acks": true, "bobo.entries.x": false},
		"bobo.entries.*":    {"bobo.entries.x": true, "bobo.entries": false},
		"bobo.acks queue":   {"bobo.acks": true},
		"$JS.ACK.S.>":       {"$JS.ACK.S.c.1": true, "$JS.ACK.T.c.1": false},
		"*.entries.*":       {"bobo.entries.x": true},
		"bobo.entries.*.>":  {"bobo.entries.x": false},
		">":                 {"a": true, "a.b": true},
		"bobo.acks.further": {"bobo.acks": false},
		"a.*":               {"a.*": true, "a.>": false},
		"a.b":               {"a.*": false},
		"a.>":               {"a.>": true, "a.*.c": true, ">": false},
	} {
		for subject, want := range subjects {
			require.Equal(t, want, covers(pattern, subject), "%s %s", pattern, subject)
		}
	}
}

// TestRights: the permissions from which the broker's configuration is generated let each service work; so do wildcards
// as an operator would write them; and missing rights are named.
func TestRights(t *testing.T) {
	const inbox = "_INBOX_own.abc"
	wide := permitted{Publish: &bounds{Allow: []string{"bobo.>", "$JS.>", "$KV.>", "$SYS.REQ.USER.INFO", "$SRV.>"}}, Subscribe: &bounds{Allow: []string{"_INBOX_own.>", "bobo.>", "$SRV.>"}}}
	for _, u := range topology.Users() {
		if !isService(u.Name) {
			continue
		}

		service := topology.Service(u.Name)
		exact := permitted{Publish: &bounds{Allow: u.Publish}, Subscribe: &bounds{Allow: append(u.Subscribe, "_INBOX_own.>")}}
		require.Equal(t, OK, judgePermissions(service, exact, inbox)[0].Level, u.Name)
		require.Equal(t, OK, judgePermissions(service, wide, inbox)[0].Level, u.Name)
		results := judgePermissions(service, permitted{Publish: &bounds{Deny: []string{"$JS.API.INFO"}}}, inbox)
		require.Equal(t, Problem, results[0].Level, u.Name)
		require.Contains(t, results[0].Message, "publish to $JS.API.INFO")
		results = judgePermissions(service, permitted{Subscribe: &bounds{Allow: []string{"_INBOX_other.>"}}}, inbox)
		require.Contains(t, results[0].Message, "subscribe to "+inbox)
	}

	require.Equal(t, OK, judgePermissions(topology.Everyone, wide, inbox)[0].Level)

	for _, u := range topology.Users() {
		if u.Name == topology.UserOperator {
			operator := permitted{Publish: &bounds{Allow: u.Publish}, Subscribe: &bounds{Allow: []string{"_INBOX_own.>"}}}
			results := judgePermissions(topology.Everyone, operator, inbox)
			require.Equal(t, OK, results[0].Level)
			require.Contains(t, results[0].Message, "operator")
			require.Equal(t, Problem, judgePermissions(topology.Resolver, operator, inbox)[0].Level)
		}
	}
}

func TestTargetOf(t *testing.T) {
	got, err := targetOf("nats://u:p@a:4223, b,wss://c")
	require.NoError(t, err)
	require.Equal(t, []string{"a:4223", "b:4222", "c:443"}, got.hosts)
	require.Equal(t, []string{"nats://a:4223", "nats://b", "wss://c"}, got.withoutUsers())

	for _, wrong := range []string{"http://a", "nats://", "", "nats://u:hunter2@[::1"} {
		_, err := targetOf(wrong)
		require.Error(t, err, wrong)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestLoopback(t *testing.T) {
	require.True(t, loopback("127.0.0.1:4222"))
	require.True(t, loopback(net.JoinHostPort("::1", "4222")))
	require.False(t, loopback("10.0.0.1:4222"))
	require.False(t, loopback("nonsense"))
}

// TestABrokerThatKeepsItsUsersApart runs the check with the rights from which the broker's configuration is generated:
// those of operators, who check everything, and those of each service, which checks what it may see.
func TestABrokerThatKeepsItsUsersApart(t *testing.T) {
	creds, keys := map[string]string{}, map[string]string{}
	dir := t.TempDir()
	for _, u := range topology.Users() {
		seed, public := userKey(t)
		keys[u.Name], creds[u.Name] = public, fmt.Sprintf("%s/%s.nk", dir, u.Name)
		require.NoError(t, os.WriteFile(creds[u.Name], append([]byte("# inbox: "+topology.Inbox(u.Name)+"\n"), seed...), 0o600))
	}

	conf := filepath.Join(dir, "nats.conf")
	accounts := topology.AccountsConf(func(user string) string { return "nkey: " + keys[user] })
	require.NoError(t, os.WriteFile(conf, []byte("jetstream { store_dir: '"+t.TempDir()+"', sync_interval: always }\n"+accounts), 0o600))
	opts, err := server.ProcessConfigFile(conf)
	require.NoError(t, err)
	ns := natsServer(t, *opts)
	s := newSite(t, nil)
	s.Timeout = DefaultTimeout // a user that may not query the servers waits for a share of it
	s.Broker.URL = "nats://" + ns.Addr().String()
	login, err := bus.Credentials(creds[topology.UserProvision])
	require.NoError(t, err)
	nc, err := nats.Connect(s.Broker.URL, login...)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	require.NoError(t, topology.Provision(t.Context(), js, topology.From(s.Broker, s.Calls), topology.Everyone))
	s.Broker.Creds = creds[topology.UserOperator]
	v := s.verdict()
	v.only("AtHoc certificate")
	v.has(OK, stepPermissions, "the rights of operator")
	v.has(OK, stepStreams, "all 8")
	v.has(OK, "consumers", "all 12")
	v.has(OK, stepToken, "shared with the services")
	v.has(OK, "sync to disk", "each message is synced")

	for _, service := range []topology.Service{topology.Publisher, topology.Janitor, topology.Ingest, topology.Resolver} {
		s.Service, s.Broker.Creds = service, creds[string(service)]
		v := s.verdict()
		v.only("AtHoc certificate", "sync to disk")
		v.has(OK, stepPermissions, "the rights of "+string(service))
	}

	s.Service, s.Monitor.SysCreds = topology.Publisher, creds[topology.UserMonitor]
	s.verdict().has(OK, "sync to disk", "each message is synced")
}
