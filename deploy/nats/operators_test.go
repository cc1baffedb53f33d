package nats_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"bobosync/deploy/nats/setup"
	"bobosync/shared/audit"
	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// withOperators gives operators keys of their own, before the broker is started.
func (in *installation) withOperators(t *testing.T, names ...string) {
	t.Helper()

	_, err := setup.Keys(in.dir, topology.Users(names...))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(in.dir, setup.AccountsFile), setup.Accounts(names...), 0o600))
}

// TestTheBrokerSaysWhoGivesAnOrder checks that each operator is known by their key, whatever their program says or
// writes into a request.
func TestTheBrokerSaysWhoGivesAnOrder(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.withOperators(t, "jsmith", "ajones")
	in.up(t)
	require.NoError(t, topology.Provision(t.Context(), in.login(t, topology.UserProvision).JS, settings, topology.Everyone))
	stop, err := control.Serve(t.Context(), in.login(t, "resolver").NC, topology.Resolver, "dev",
		control.On(control.StopReplay, func(_ context.Context, req control.StopRequest) (control.ReplayState, error) {
			return control.ReplayState{ID: req.ID, By: req.By}, nil
		}))
	require.NoError(t, err)
	t.Cleanup(stop)

	for user, want := range map[string]string{
		topology.OperatorUser("jsmith"): "jsmith (boss@pc)", topology.OperatorUser("ajones"): "ajones (boss@pc)", topology.UserOperator: "operator (boss@pc)",
	} {
		state, err := control.Ask[control.ReplayState](t.Context(), in.login(t, user).NC, topology.Resolver, control.StopReplay,
			control.StopRequest{ID: user, By: "boss@pc"})
		require.NoError(t, err)
		require.Equal(t, want, state.By)
	}

	chains, err := audit.Load(t.Context(), in.login(t, topology.UserViewer).JS)
	require.NoError(t, err)
	require.Empty(t, audit.Verify(chains, nil, time.Now()))

	for _, e := range chains.Entries() {
		require.Equal(t, audit.ByKey, e.Caller.Known)
		require.Equal(t, "127.0.0.1", e.Caller.Host)
		require.True(t, strings.HasPrefix(e.Caller.Key, "U"), "%+v", e.Caller)
		require.Equal(t, e.Caller.Name == "operator", e.Caller.Shared)
	}

	// A forged header, sent by hand because a library would write it properly.
	const forged = `{"acc":"OPERATOR-AJONES","user":"U","host":"192.0.2.7"}`
	wire := in.wire(t, topology.OperatorUser("jsmith"))
	for name, c := range map[string]struct {
		headers string
		known   bool // the server has noticed the header and replaced it with its own
	}{
		"none":                   {"", true},
		"as it is written":       {"Nats-Request-Info: " + forged + "\r\n", true},
		"twice":                  {strings.Repeat("Nats-Request-Info: "+forged+"\r\n", 2), true},
		"behind one that has it": {"X: Nats-Request-Info: y\r\nNats-Request-Info:" + forged + "\r\n", true},
		"without CR":             {"X: y\nNats-Request-Info: " + forged + "\r\n", false},
		"in other letters":       {"nats-request-info: " + forged + "\r\n", false},
		"with a blank":           {"Nats-Request-Info : " + forged + "\r\n", false},
	} {
		answer := wire.request(t, "bobo.control.resolver.stop-replay", c.headers, `{"id":"1","by":"boss@pc"}`)
		require.NotContains(t, answer, `"by":"ajones`, name)

		if c.known {
			require.Contains(t, answer, `"by":"jsmith (boss@pc)"`, name)
		} else {
			require.Contains(t, answer, "does not say who gives the order", name)
		}
	}

	chains, err = audit.Load(t.Context(), in.login(t, topology.UserViewer).JS)
	require.NoError(t, err)

	for _, e := range chains.Entries()[:8] {
		require.Equal(t, "jsmith", e.Caller.Name)
	}
}

// TestAServicesKeyOrdersNothingOfThatService checks an attack with a service's key: to store a message that reads
// like an order, and to fetch it with the service's own subject as the subject for the answer. The message then comes
// from the service's own account, bypassing the import at which the server adds who sent it.
func TestAServicesKeyOrdersNothingOfThatService(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.withOperators(t, "ajones")
	in.up(t)
	require.NoError(t, topology.Provision(t.Context(), in.login(t, topology.UserProvision).JS, settings, topology.Everyone))

	followed := make(chan string, 10)
	stop, err := control.Serve(t.Context(), in.login(t, "resolver").NC, topology.Resolver, "dev",
		control.On(control.StopReplay, func(_ context.Context, req control.StopRequest) (control.ReplayState, error) {
			followed <- "an order of " + req.By
			return control.ReplayState{}, nil
		}),
		control.On(control.Observe, func(context.Context, control.ObserveRequest) (control.ObserveAnswer, error) {
			followed <- "an observation"
			return control.ObserveAnswer{}, nil
		}))
	require.NoError(t, err)
	t.Cleanup(stop)

	const forged = `{"acc":"OPERATOR-AJONES","user":"U","host":"192.0.2.7"}`
	stolen := in.login(t, "resolver")
	wire := in.wire(t, "resolver")
	for _, headers := range []string{"", "nats-request-info: " + forged + "\r\n", "X: y\nNats-Request-Info: " + forged + "\r\n"} {
		answer := wire.request(t, topology.EntriesSubject("f00"), headers, `{"id":"1","by":"boss@pc"}`)
		require.Contains(t, answer, `"seq":`, "it is stored")

		for _, endpoint := range []string{control.StopReplay, control.Observe} {
			require.NoError(t, stolen.NC.PublishRequest("$JS.API.DIRECT.GET.ENTRIES", control.Subject(topology.Resolver, endpoint), []byte(`{"last_by_subj":"bobo.entries.f00"}`)))
		}
	}

	require.NoError(t, stolen.NC.Flush())

	select {
	case what := <-followed:
		require.Fail(t, "it was followed", what)
	case <-time.After(20 * pollInterval):
	}

	chains, err := audit.Load(t.Context(), in.login(t, topology.UserViewer).JS)
	require.NoError(t, err)
	require.Empty(t, chains.Entries())

	_, err = control.Ask[control.ObserveAnswer](t.Context(), in.login(t, "janitor").NC, topology.Resolver, control.Observe, control.ObserveRequest{})
	require.NoError(t, err, "who may ask still may")
}

// wire speaks NATS's protocol by hand.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
	user string
}

func (in *installation) wire(t *testing.T, user string) *wire {
	t.Helper()

	conn, err := net.Dial("tcp", strings.TrimPrefix(in.url(), "tls://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	var info struct {
		Nonce string `json:"nonce"`
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(strings.TrimPrefix(line, "INFO ")), &info))

	ca, err := os.ReadFile(in.ca)
	require.NoError(t, err)

	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca))
	secure := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
	require.NoError(t, secure.SetDeadline(time.Now().Add(works)))

	seed, err := os.ReadFile(setup.CredsFile(in.dir, user))
	require.NoError(t, err)
	key, err := nkeys.ParseDecoratedUserNKey(seed)
	require.NoError(t, err)
	public, err := key.PublicKey()
	require.NoError(t, err)
	signature, err := key.Sign([]byte(info.Nonce))
	require.NoError(t, err)

	w := &wire{conn: secure, in: bufio.NewReader(secure), user: user}
	w.write(t, fmt.Sprintf("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1,\"nkey\":%q,\"sig\":%q}\r\nSUB %s.* 1\r\n",
		public, base64.RawURLEncoding.EncodeToString(signature), topology.Inbox(user)))

	return w
}

func (w *wire) write(t *testing.T, text string) {
	t.Helper()

	_, err := w.conn.Write([]byte(text))
	require.NoError(t, err)
}

// request sends a request with the given headers unchanged, and returns the answer with its headers.
func (w *wire) request(t *testing.T, subject, headers, body string) string {
	t.Helper()

	head := "NATS/1.0\r\n" + headers + "\r\n"
	w.write(t, fmt.Sprintf("HPUB %s %s.1 %d %d\r\n%s%s\r\n", subject, topology.Inbox(w.user), len(head), len(head)+len(body), head, body))

	for {
		line, err := w.in.ReadString('\n')
		require.NoError(t, err)

		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "PING"):
			w.write(t, "PONG\r\n")
		case strings.HasPrefix(line, "MSG"), strings.HasPrefix(line, "HMSG"):
			var size int
			_, err := fmt.Sscan(fields[len(fields)-1], &size)
			require.NoError(t, err)

			answer := make([]byte, size+len("\r\n"))
			_, err = io.ReadFull(w.in, answer)
			require.NoError(t, err)

			return string(answer)
		default:
			require.False(t, strings.HasPrefix(line, "-ERR"), line)
		}
	}
}

// TestAnOperatorsKeyIsWithdrawn while it is in use: the operator is disconnected when the broker reloads its files,
// without a restart, and the others work on.
func TestAnOperatorsKeyIsWithdrawn(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.withOperators(t, "jsmith", "a-jones2")
	names, err := setup.Operators(in.dir)
	require.NoError(t, err)
	require.Equal(t, []string{"a-jones2", "jsmith"}, names)
	program := in.program(t)
	require.NoError(t, topology.Provision(t.Context(), in.login(t, topology.UserProvision).JS, settings, topology.Everyone))

	one, other := in.login(t, topology.OperatorUser("jsmith")), in.login(t, topology.OperatorUser("a-jones2"))
	service := in.login(t, "ingest")
	for _, conn := range []*bus.Conn{one, other} {
		_, err := conn.JS.Stream(t.Context(), topology.StreamDead)
		require.NoError(t, err)
	}

	old := in.config(topology.OperatorUser("jsmith"))
	content, err := os.ReadFile(old.CredsFile)
	require.NoError(t, err)

	old.CredsFile = filepath.Join(in.dir, "old.nk")
	require.NoError(t, os.WriteFile(old.CredsFile, content, 0o600))

	require.NoError(t, setup.Withdraw(in.dir, topology.OperatorUser("jsmith")))
	in.withOperators(t, "a-jones2")
	names, err = setup.Operators(in.dir)
	require.NoError(t, err)
	require.Equal(t, []string{"a-jones2"}, names)
	require.NoFileExists(t, setup.CredsFile(in.dir, topology.OperatorUser("jsmith")))
	in.reload(t, program)
	await.True(t, func() bool { return !one.Connected() }, works, "he is put out")
	require.Never(t, one.Connected, 10*pollInterval, pollInterval)
	await.True(t, func() bool {
		_, err := other.JS.Stream(t.Context(), topology.StreamDead)
		_, err2 := service.JS.Publish(t.Context(), topology.EntriesSubject("f00"), []byte("x"))
		return err == nil && err2 == nil
	}, works, "the others work on")
	conn, err := nats.Connect(in.url(), nats.RootCAs(in.ca), mustKey(t, old.CredsFile), nats.Timeout(timeout))
	require.ErrorIs(t, err, nats.ErrAuthorization)
	require.Nil(t, conn)
}

// TestAnOperatorIsAddedWhileItRuns checks that a new operator can give orders after the broker was reloaded twice,
// and that the others work on.
func TestAnOperatorIsAddedWhileItRuns(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.withOperators(t, "jsmith")
	program := in.program(t)
	require.NoError(t, topology.Provision(t.Context(), in.login(t, topology.UserProvision).JS, settings, topology.Everyone))
	one, service := in.login(t, topology.OperatorUser("jsmith")), in.login(t, "ingest")

	in.withOperators(t, "jsmith", "a-jones2")
	in.reloadTwice(t, program)

	for _, conn := range []*bus.Conn{one, in.login(t, topology.OperatorUser("a-jones2"))} {
		_, err := conn.JS.Stream(t.Context(), topology.StreamDead)
		require.NoError(t, err)
	}

	_, err := service.JS.Publish(t.Context(), topology.EntriesSubject("f00"), []byte("x"))
	require.NoError(t, err)
}

func mustKey(t *testing.T, file string) nats.Option {
	t.Helper()

	key, err := nats.NkeyOptionFromSeed(file)
	require.NoError(t, err)

	return key
}
