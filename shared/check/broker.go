package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/config"
	"bobosync/shared/topology"
)

// Names of the steps that other steps depend on.
const (
	stepBroker      = "broker"
	stepLogin       = "broker login"
	stepPermissions = "broker permissions"
	stepJetStream   = "JetStream"
	stepStreams     = "streams"
	stepBuckets     = "buckets"
)

// Shares of the total time that a step may take, so that later steps have some left.
const (
	dialShare = 0.25
	askShare  = 0.2
)

func brokerSteps(s Settings) []step {
	steps := []step{
		{name: stepBroker, run: checkBroker},
		{name: stepLogin, needs: []string{stepBroker}, run: checkLogin},
		{name: stepPermissions, needs: []string{stepLogin}, run: checkPermissions},
		{name: stepJetStream, needs: []string{stepLogin}, after: []string{stepPermissions}, run: checkJetStream},
		{name: stepStreams, needs: []string{stepJetStream}, run: checkStreams},
		{name: "consumers", needs: []string{stepJetStream}, after: []string{stepStreams}, run: checkConsumers},
		{name: stepBuckets, needs: []string{stepJetStream}, run: checkBuckets},
		{name: "replicas", needs: []string{stepJetStream}, after: []string{stepStreams}, run: checkReplicas},
		{name: "broker storage", needs: []string{stepJetStream}, run: checkStorage},
	}
	if !s.Running { // a service's key does not permit it; bobosync status reports it instead
		steps = append(steps, step{name: "sync to disk", after: []string{stepPermissions}, run: checkSync})
	}

	return steps
}

// target is the broker that is checked.
type target struct {
	// urls are the addresses as set, with credentials; hosts are the host:port of each, without.
	urls, hosts []string
}

// checkBroker checks whether something listens at the broker's address.
func checkBroker(ctx context.Context, f *facts) []Result {
	address := f.Broker.URL
	if address == "" {
		f.inside = true

		content, err := os.ReadFile(f.InsideAddress)
		if err != nil {
			return insideIsDown()
		}

		address = strings.TrimSpace(string(content))
	}

	t, err := targetOf(address)
	if err != nil {
		return bad("set NATS_URL to an address such as nats://localhost:4222", "NATS_URL: %v", err)
	}

	f.broker = t
	failures := dialAll(ctx, f, t.hosts)
	switch {
	case len(failures) > 0 && f.inside:
		return insideIsDown()
	case len(failures) == len(t.hosts):
		return bad("start the broker, or correct NATS_URL", "%s", strings.Join(failures, "; "))
	case len(failures) > 0:
		return warn("look after these servers", "%d of %d addresses answer; %s", len(t.hosts)-len(failures), len(t.hosts), strings.Join(failures, "; "))
	case f.inside:
		return good("the broker inside the running bobosync answers")
	}

	return good("%s can be reached", strings.Join(t.hosts, ", "))
}

func insideIsDown() []Result {
	return skipped("NATS_URL is not set: the broker inside runs with bobosync run, which is not running now")
}

// targetOf splits the address from the settings. Its error does not repeat the address, which may hold a password.
func targetOf(address string) (target, error) {
	ports := map[string]string{"nats": "4222", "tls": "4222", "ws": "80", "wss": "443"}
	var t target
	for part := range strings.SplitSeq(address, ",") {
		part = strings.TrimSpace(part)
		if !strings.Contains(part, "://") {
			part = "nats://" + part
		}

		u, err := url.Parse(part)
		if err != nil || u.Hostname() == "" || ports[u.Scheme] == "" {
			return target{}, fmt.Errorf("address %d is not a NATS address", len(t.urls)+1)
		}

		port := u.Port()
		if port == "" {
			port = ports[u.Scheme]
		}

		t.urls = append(t.urls, part)
		t.hosts = append(t.hosts, net.JoinHostPort(u.Hostname(), port))
	}

	return t, nil
}

// dialAll dials all addresses at once and returns what is wrong with those that do not answer.
func dialAll(ctx context.Context, f *facts, hosts []string) []string {
	ctx, cancel := f.part(ctx, dialShare)
	defer cancel()

	errs := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, host := range hosts {
		wg.Go(func() {
			var d net.Dialer

			conn, err := d.DialContext(ctx, "tcp", host)
			if err == nil {
				err = conn.Close()
			}

			errs[i] = err
		})
	}

	wg.Wait()

	var failures []string
	for i, err := range errs {
		if err != nil {
			failures = append(failures, whyNoConnection(err, hosts[i]))
		}
	}

	return failures
}

// checkLogin connects to the broker as a service does.
func checkLogin(_ context.Context, f *facts) []Result {
	opts, err := loginOptions(f.Broker)
	if err != nil {
		return loginFailed(err, f.Now())
	}

	wait := time.Duration(dialShare * float64(f.Timeout) / float64(len(f.broker.urls)))
	opts = append(opts, nats.Timeout(wait), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { f.denied.add(err) }))

	nc, err := nats.Connect(strings.Join(f.broker.urls, ","), opts...)
	if err != nil {
		return loginFailed(err, f.Now())
	}

	f.nc = nc
	state, err := nc.TLSConnectionState()
	switch {
	case err == nil:
		results := judgeTLS(state, f.Now())
		results[0].Message = "accepted, " + results[0].Message
		return results
	case !f.inside && !loopback(nc.ConnectedAddr()):
		return warn("switch TLS on in the broker: passwords and the events of workers cross the network",
			"accepted, but the connection to %s is not encrypted", nc.ConnectedAddr())
	}

	return good("accepted")
}

// loopback reports whether an address is on this machine.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// loginOptions returns the options of a service's connection, except that it gives up at once.
func loginOptions(b config.Broker) ([]nats.Option, error) {
	opts := []nats.Option{nats.Name("bobosync check"), nats.NoReconnect()}
	if b.CA != "" {
		opts = append(opts, nats.RootCAs(b.CA))
	}

	if b.Creds == "" {
		return opts, nil
	}

	creds, err := bus.Credentials(b.Creds)

	return append(opts, creds...), err
}

// loginFailed says in plain words why the broker cannot be used.
func loginFailed(err error, now time.Time) []Result {
	if message, advice, ok := whyNoTLS(err, now, "NATS_CA", "NATS_URL"); ok {
		return bad(advice, "%s", message)
	}

	const check = "check NATS_CREDS, or user and password in NATS_URL, against the broker's configuration"
	switch {
	case errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAccountAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return bad("have new credentials made", "the credentials have expired or were revoked (%v)", err)
	case errors.Is(err, nats.ErrAuthorization), strings.Contains(strings.ToLower(err.Error()), "authorization violation"):
		return bad(check, "the broker refuses the credentials")
	case strings.Contains(err.Error(), "holds neither"), strings.Contains(err.Error(), "nkeys: "):
		return bad("name a file with credentials or an nkey seed in NATS_CREDS", "NATS_CREDS: %v", err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return bad("name files that this user can read in NATS_CREDS and NATS_CA", "a file cannot be read: %v", err)
	case errors.Is(err, nats.ErrSecureConnWanted):
		return bad("use nats:// in NATS_URL, or switch TLS on in the broker", "NATS_URL asks for TLS, and the broker has none")
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, nats.ErrNoInfoReceived):
		return bad("check host and port of NATS_URL; if they are right, look at the broker", "something listens there, but it does not answer as a NATS broker does")
	case errors.Is(err, nats.ErrMaxConnectionsExceeded), errors.Is(err, nats.ErrMaxAccountConnectionsExceeded):
		return bad("raise max_connections in the broker", "the broker takes no more connections")
	}

	return bad("look at the broker's log", "the broker cannot be used: %v", err)
}

// denials collects the subjects that the broker denied. It is safe for concurrent use.
type denials struct {
	mu    sync.Mutex
	texts []string
}

func (d *denials) add(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	d.texts = append(d.texts, err.Error())
}

// named reports whether one of the denials names the subject.
func (d *denials) named(subject string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()

	return slices.ContainsFunc(d.texts, func(text string) bool {
		return strings.Contains(strings.ToUpper(text), `"`+strings.ToUpper(subject)+`"`)
	})
}

// checkJetStream requests the account info, which includes the API level.
func checkJetStream(ctx context.Context, f *facts) []Result {
	if !f.mayAsk("$JS.API.INFO") {
		return noJetStream(nil, true)
	}

	js, err := jetstream.New(f.nc)
	if err != nil {
		return bad("", "JetStream cannot be used: %v", err)
	}

	ctx, cancel := f.part(ctx, askShare)
	defer cancel()

	info, err := js.AccountInfo(ctx)
	if err != nil {
		return noJetStream(err, f.denied.named("$JS.API.INFO"))
	}

	f.js = js

	return judgeVersion(info.API.Level, f.nc.ConnectedServerVersion())
}

func noJetStream(err error, denied bool) []Result {
	switch {
	case denied:
		return bad("allow this user to publish to $JS.API.> in the broker", "this user may not use JetStream")
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return bad("switch JetStream on for this account in the broker", "JetStream is off for this account")
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, nats.ErrNoResponders):
		return bad("switch JetStream on in the broker's configuration; deploy/nats/server.conf shows how", "the broker has no JetStream")
	case errors.Is(err, context.DeadlineExceeded):
		return bad("look at the broker: a full disk, or too few servers of the cluster running", "JetStream does not answer")
	}

	return bad("look at the broker's log", "JetStream does not answer: %v", err)
}

func judgeVersion(level int, version string) []Result {
	if level < topology.MinAPILevel {
		return bad("use nats-server 2.12 or newer", "nats-server %s is too old (JetStream API level %d, %d is needed)", version, level, topology.MinAPILevel)
	}

	if !topology.ServerIsSafe(version) {
		return warn("use nats-server "+topology.SafeServer+" or newer",
			"nats-server %s may lose what it has acknowledged in a power failure, in spite of sync_interval: always", version)
	}

	return good("nats-server %s, JetStream API level %d", version, level)
}
