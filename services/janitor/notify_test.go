package janitor

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/services/janitor/internal/notice"
	"bobosync/shared/athocconf"
	"bobosync/shared/config"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

const webhookSecret = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" //nolint:gosec // made up

func TestNotifySettings(t *testing.T) {
	t.Parallel()
	require.NotEmpty(t, base64.StdEncoding.EncodeToString([]byte{1}))

	for name, c := range map[string]struct {
		vars map[string]string
		says string
	}{
		"nothing": {nil, ""},
		"mail":    {map[string]string{"NOTIFY_SMTP_HOST": "mail.example.org", "NOTIFY_FROM": "a@example.org", "NOTIFY_TO": "b@example.org, c@example.org"}, ""},
		"all": {map[string]string{
			"NOTIFY_WEBHOOK_URL": "https://hook.example.org/x", "NOTIFY_WEBHOOK_SECRET": webhookSecret, "NOTIFY_TEAMS_URL": "https://flow.example.org/?sig=1",
			"HEARTBEAT_URL": "http://127.0.0.1:9/ping",
		}, ""},
		"no sender":            {map[string]string{"NOTIFY_SMTP_HOST": "mail.example.org", "NOTIFY_TO": "b@example.org"}, "NOTIFY_FROM"},
		"no receiver":          {map[string]string{"NOTIFY_SMTP_HOST": "mail.example.org", "NOTIFY_FROM": "b@example.org"}, "NOTIFY_TO"},
		"no server":            {map[string]string{"NOTIFY_TO": "b@example.org"}, "NOTIFY_SMTP_HOST"},
		"user, no password":    {map[string]string{"NOTIFY_SMTP_HOST": "m", "NOTIFY_FROM": "a@b.org", "NOTIFY_TO": "a@b.org", "NOTIFY_SMTP_USER": "a"}, "NOTIFY_SMTP_PASSWORD"},
		"password in the open": {map[string]string{"NOTIFY_SMTP_HOST": "m.org", "NOTIFY_FROM": "a@b.org", "NOTIFY_TO": "a@b.org", "NOTIFY_SMTP_USER": "a", "NOTIFY_SMTP_PASSWORD": "hunter2", "NOTIFY_SMTP_TLS": "none"}, "NOTIFY_SMTP_TLS"},
		"unknown TLS":          {map[string]string{"NOTIFY_SMTP_HOST": "m.org", "NOTIFY_FROM": "a@b.org", "NOTIFY_TO": "a@b.org", "NOTIFY_SMTP_TLS": "ssl"}, "NOTIFY_SMTP_TLS"},
		"port":                 {map[string]string{"NOTIFY_SMTP_HOST": "m.org", "NOTIFY_FROM": "a@b.org", "NOTIFY_TO": "a@b.org", "NOTIFY_SMTP_PORT": "0"}, "NOTIFY_SMTP_PORT"},
		"no secret":            {map[string]string{"NOTIFY_WEBHOOK_URL": "https://hook.example.org/x"}, "NOTIFY_WEBHOOK_SECRET"},
		"short secret":         {map[string]string{"NOTIFY_WEBHOOK_URL": "https://hook.example.org/x", "NOTIFY_WEBHOOK_SECRET": "whsec_hunter2"}, "NOTIFY_WEBHOOK_SECRET"},
		"in the clear":         {map[string]string{"NOTIFY_TEAMS_URL": "http://hunter2.example.org"}, "NOTIFY_TEAMS_URL"},
		"no address":           {map[string]string{"HEARTBEAT_URL": "hunter2"}, "HEARTBEAT_URL"},
		"hour":                 {map[string]string{"NOTIFY_DIGEST_HOUR": "24"}, "NOTIFY_DIGEST_HOUR"},
	} {
		var n Notify
		err := config.Load(t.Context(), config.Map(c.vars), &n)
		if c.says == "" {
			require.NoError(t, err, name)
			_, err = n.sinks(http.DefaultClient, time.Now)
			require.NoError(t, err, name)
			continue
		}

		require.ErrorContains(t, err, c.says, name)
		require.NotContains(t, err.Error(), "hunter2", name)
	}
}

// TestNoticesGoTheWayOfCallsToAtHoc checks that notices use the proxy and the certificate authority that are set for
// calls to AtHoc.
func TestNoticesGoTheWayOfCallsToAtHoc(t *testing.T) {
	t.Parallel()

	h := &hook{}
	srv := httptest.NewTLSServer(h) // its certificate is also valid for example.com
	t.Cleanup(srv.Close)
	var tunnels atomic.Int64
	status := http.StatusOK
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tunnels.Add(1)

		if r.Method != http.MethodConnect || r.Host != "example.com:443" || status != http.StatusOK {
			w.WriteHeader(status)
			return
		}

		// Hijack before the answer is sent: what the client sends right after it might otherwise be in the server's
		// buffer.
		ours, _, err := http.NewResponseController(w).Hijack()
		theirs, err2 := net.Dial("tcp", srv.Listener.Addr().String())
		if assert.NoError(t, errors.Join(err, err2)) {
			_, _ = io.WriteString(ours, "HTTP/1.1 200 OK\r\n\r\n")
			go func() { _, _ = io.Copy(ours, theirs); _ = ours.Close() }()

			_, _ = io.Copy(theirs, ours)
			_ = theirs.Close()
		}
	}))
	t.Cleanup(proxy.Close)
	authority := filepath.Join(t.TempDir(), "authority.pem")
	require.NoError(t, os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600))
	set := config.AtHoc{HTTPSProxy: proxy.URL, SSLCertPath: authority, DisableSSLVerify: true}
	send := func() error {
		t.Helper()

		web, err := athocconf.Web(set, time.Minute)
		require.NoError(t, err)
		sinks, err := Notify{WebhookURL: "https://example.com/hook", WebhookSecret: webhookSecret}.sinks(web, time.Now)
		require.NoError(t, err)

		defer web.CloseIdleConnections()

		return sinks[0].Send(t.Context(), notice.Message{Notice: notice.Notice{Title: "hello"}})
	}
	require.NoError(t, send())
	require.Equal(t, []string{"hello"}, h.got())
	require.Equal(t, int64(1), tunnels.Load())

	set.SSLCertPath = ""

	require.ErrorContains(t, send(), "its certificate is not trusted", "DISABLE_SSL_VERIFY is for AtHoc alone")

	status = http.StatusForbidden

	require.ErrorContains(t, send(), "the proxy refuses the way to it with status 403")
	proxy.Close()
	require.ErrorContains(t, send(), "the proxy cannot be reached")
	require.Equal(t, []string{"hello"}, h.got())
}

// hook is the receiver of a webhook.
type hook struct {
	mu     sync.Mutex
	down   bool
	titles []string
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()

	var got struct {
		Data struct {
			Notice struct{ Title string }
		}
	}
	if h.down || json.NewDecoder(r.Body).Decode(&got) != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}

	h.titles = append(h.titles, got.Data.Notice.Title)
}

func (h *hook) got() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.titles...)
}

// TestNoticesOfAJanitor checks that the janitor judges the status as the command does, notifies when it is bad, and
// does not repeat that after a take-over. A receiver that fails is a finding, and its address is never shown.
func TestNoticesOfAJanitor(t *testing.T) {
	t.Parallel()

	h := &hook{}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	w := newWorld(t, sim.Options{Users: sim.GenerateUsers(2, sim.DefaultCollar)})
	require.NoError(t, topology.Provision(t.Context(), w.js, topology.Settings{Replicas: 1, EntriesMaxBytes: 1 << 20, CallTimeout: time.Second}, topology.Everyone))
	cfg := w.config()
	cfg.Notify = Notify{WebhookURL: config.Secret(srv.URL + "/hook?token=abracadabra"), WebhookSecret: webhookSecret, DigestHour: -1}
	stop := w.run(cfg)
	w.eventually("the janitor looks", func() bool {
		_, err := control.Ask[control.NotifyTest](t.Context(), w.conn.NC, topology.Janitor, control.TestNotify, control.RunRequest{By: "jo"})
		return err == nil
	})
	require.Equal(t, "A test: notices of BOBO Sync arrive", h.got()[0])
	w.eventually("its state is kept", func() bool {
		kv, err := w.js.KeyValue(t.Context(), topology.BucketState)
		if err != nil {
			return false
		}

		_, err = kv.Get(t.Context(), "janitor.notices")

		return err == nil
	})
	w.pass(2 * time.Minute)
	w.eventually("people are told", func() bool { return len(h.got()) == 2 })
	require.True(t, strings.HasPrefix(h.got()[1], "PROBLEM: "), h.got()[1])
	_, err := control.Ask[control.Nothing](t.Context(), w.conn.NC, topology.Janitor, control.EmergencyLogin, control.EmergencyLoginRequest{By: "anna", Role: "approver", At: time.Now()})
	require.NoError(t, err)
	w.eventually("people are told of the login", func() bool { return len(h.got()) == 3 })
	require.Equal(t, "PROBLEM: emergency login to the console", h.got()[2])
	stop()
	stop = w.run(cfg)

	h.mu.Lock()
	h.down = true
	h.mu.Unlock()
	var answer control.NotifyTest
	w.eventually("the next one is at work", func() bool {
		var err error
		answer, err = control.Ask[control.NotifyTest](t.Context(), w.conn.NC, topology.Janitor, control.TestNotify, control.RunRequest{By: "jo"})
		return err == nil
	})
	require.Equal(t, []control.NotifyResult{{Sink: "webhook", Error: "it answers with status 503"}}, answer.Results)
	require.Len(t, h.got(), 3, "nothing is repeated")
	stop()
	require.NotContains(t, w.logs.String(), "abracadabra")
}
