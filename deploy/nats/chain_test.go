//go:build unix

package nats_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/deploy/nats/setup"
	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/topology"
)

const (
	worker = "90909"
	login  = "probe@example.org"
	// works is how long it may take on a busy machine until the whole chain has worked.
	works = 90 * time.Second
)

// programs builds the real programs and returns their directory.
func programs(t *testing.T) string {
	t.Helper()

	if bin := os.Getenv("BOBOSYNC_BIN"); bin != "" {
		return bin
	}

	for _, name := range services {
		build(t, name, "bobosync/services/"+name+"/cmd/"+name)
	}

	return filepath.Dir(build(t, "bobosync", "bobosync/cmd/bobosync"))
}

// chain is the four services as separate programs, each with its user's key, with a broker and a simulated AtHoc.
type chain struct {
	*installation
	t     *testing.T
	bin   string
	work  string
	athoc *sim.Simulator
	run   map[string]*exec.Cmd
	http  map[string]string // where each service serves its metrics
	hook  *hook
	files int
}

// hook receives the janitor's notices.
type hook struct {
	*httptest.Server
	mu  sync.Mutex
	got []notice
}

// notice is the part of a notice that the tests check.
type notice struct {
	Type string
	Data struct {
		Notice struct{ Text string }
		Facts  struct {
			Unread                               []string
			Ingest, Resolver, Publisher, Janitor []json.RawMessage
		}
	}
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n notice
		if !assert.NoError(t, json.NewDecoder(r.Body).Decode(&n)) {
			w.WriteHeader(http.StatusBadRequest)
			return
		}

		h.mu.Lock()
		defer h.mu.Unlock()

		h.got = append(h.got, n)
	}))
	t.Cleanup(h.Close)

	return h
}

// last returns the last notice of a kind.
func (h *hook) last(kind string) (last notice, found bool) {
	h.mu.Lock()
	defer h.mu.Unlock()

	for _, n := range h.got {
		if n.Type == "bobosync."+kind {
			last, found = n, true
		}
	}

	return last, found
}

func newChain(t *testing.T) *chain {
	if testing.Short() {
		t.Skip("it runs the real programs")
	}

	c := &chain{installation: broker(t), t: t, bin: programs(t), work: t.TempDir(), run: map[string]*exec.Cmd{}}
	c.http, c.hook = map[string]string{}, newHook(t)
	for _, name := range services {
		c.http[name] = bustest.FreeAddr(t)
	}

	var err error
	c.athoc, err = sim.New(sim.Options{
		Logger: slog.New(slog.DiscardHandler),
		Users:  []sim.User{{LoginID: login, Attributes: map[string]string{sim.DefaultCollar: worker}}},
	})
	require.NoError(t, err)
	require.NoError(t, c.athoc.Start(context.WithoutCancel(t.Context()), "127.0.0.1:0"))
	t.Cleanup(func() { require.NoError(t, c.athoc.Close()) })

	for _, dir := range []string{"in", "done", "failed"} {
		require.NoError(t, os.Mkdir(filepath.Join(c.work, dir), 0o700))
	}

	t.Cleanup(func() {
		if t.Failed() {
			c.showLogs() // before stop, which may fail the test again and would then end this function
		}

		for name := range c.run {
			c.stop(name)
		}
	})

	return c
}

func (c *chain) environment(user string) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + c.work, "TZ=UTC", "NATS_URL=" + c.url(), "NATS_CA=" + c.ca,
		"NATS_CREDS=" + setup.CredsFile(c.dir, user), "CSV_DIRECTORY=" + c.path("in"), "PROCESSED_DIRECTORY=" + c.path("done"),
		"FAILED_FILES_DIRECTORY=" + c.path("failed"), "DATA_DIRECTORY=" + c.path("data"), "POLL_INTERVAL=200ms", "SETTLE_TIME=100ms",
		"ATHOC_TIMEOUT=2s", "ATHOC_RATE_LIMIT=50", "ENTRIES_MAX_BYTES=67108864", "LOG_FORMAT=json", "LOG_LEVEL=DEBUG",
		"BOBO_TIMEZONE=UTC", "ATHOC_TIMEZONE=UTC", "HTTP_ADDR=" + c.http[user],
		"NOTIFY_WEBHOOK_URL=" + c.hook.URL, "NOTIFY_WEBHOOK_SECRET=whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
	}
	for _, f := range c.athoc.Env() {
		if strings.HasPrefix(f.Name, "ATHOC_TIMEOUT") {
			continue
		}

		env = append(env, f.Name+"="+f.Value)
	}

	return env
}

func (c *chain) path(name string) string { return filepath.Join(c.work, name) }

// start starts services, each under its own user.
func (c *chain) start(names ...string) {
	c.t.Helper()

	for _, name := range names {
		c.launch(name, name)
	}
}

// launch starts a program with a user's key.
func (c *chain) launch(user, program string, args ...string) {
	c.t.Helper()
	out, err := os.OpenFile(c.path(user+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(c.t, err)
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.environment(user), c.work, out, out
	require.NoError(c.t, cmd.Start())
	require.NoError(c.t, out.Close())
	c.run[user] = cmd
}

// provision starts the provisioner, which creates what the services must not create.
func (c *chain) provision() {
	c.t.Helper()
	c.launch(topology.UserProvision, "bobosync", "provision", "--keep")
}

// stop ends a service in the way an operator does.
func (c *chain) stop(name string) {
	c.t.Helper()

	cmd := c.run[name]
	if cmd == nil {
		return
	}

	delete(c.run, name)
	require.NoError(c.t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(c.t, cmd.Wait(), "%s ends gracefully", name)
}

// operate runs a bobosync command as this user.
func (c *chain) operate(user string, args ...string) (string, error) {
	cmd := exec.CommandContext(c.t.Context(), filepath.Join(c.bin, "bobosync"), args...)
	cmd.Env, cmd.Dir = c.environment(user), c.work
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// drop drops a file that books the worker on, and waits until AtHoc shows it and the file is done.
func (c *chain) drop() {
	c.t.Helper()
	at := time.Now().UTC().Add(-time.Hour + time.Duration(c.files)*time.Minute)
	c.files++
	created := at.Format("20060102150405")
	row := strings.Join([]string{"BON", worker, "", created[:8], created[8:], created, "", "", "", ""}, ",") + "\n"
	require.NoError(c.t, os.WriteFile(c.path("in/"+fmt.Sprintf("%d.csv", c.files)), []byte(row), 0o600))

	want := at.Format(sim.DateLayout)
	c.eventually("the booking shows in AtHoc", func() bool { return c.athoc.DutyState()[login] == want })
	c.eventually("the file is done", func() bool {
		left, err := os.ReadDir(c.path("in"))
		return err == nil && len(left) == 0
	})
}

func (c *chain) eventually(what string, holds func() bool) {
	c.t.Helper()
	await.True(c.t, holds, works, what)
}

// logged returns the lines of a service's log that contain a text.
func (c *chain) logged(name, text string) []string {
	content, err := os.ReadFile(c.path(name + ".log"))
	require.NoError(c.t, err)

	var lines []string
	for s := bufio.NewScanner(bytes.NewReader(content)); s.Scan(); {
		if strings.Contains(s.Text(), text) {
			lines = append(lines, s.Text())
		}
	}

	return lines
}

func (c *chain) showLogs() {
	for name := range c.run {
		content, _ := os.ReadFile(c.path(name + ".log"))
		c.t.Logf("%s:\n%s", name, content[max(0, len(content)-6000):])
	}
}

// requireNothingRefused checks that the broker has refused none of the services' requests.
func (c *chain) requireNothingRefused() {
	c.t.Helper()

	for _, name := range services {
		assert.Empty(c.t, c.logged(name, "ermissions"), "what the broker refused to %s", name)
	}
}

// TestEachServiceWorksWithItsOwnRights runs the chain from an empty broker, loses the broker's store and the
// resolver's state store, and gives the operators' orders. Nobody has more rights than their user.
func TestEachServiceWorksWithItsOwnRights(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	c.provision()
	c.start(services...)
	c.drop()
	c.requireNothingRefused()

	t.Run("the broker's store is lost", func(t *testing.T) {
		c.down()
		require.NoError(t, os.RemoveAll(filepath.Join(c.dir, "store")))
		c.up(c.t) // until the end of the whole test
		c.drop()
	})
	t.Run("the resolver's memory is lost", func(t *testing.T) {
		c.stop("resolver")
		require.NoError(t, os.Remove(c.path("data/resolver.db")))
		c.start("resolver")
		c.drop()
	})
	t.Run("operators give orders", func(t *testing.T) {
		for _, args := range [][]string{
			{"replay", "--all"}, {"replay", "--file", "1.csv"}, {"mapping", "refresh"}, {"reconcile"},
		} {
			out, err := c.operate(topology.UserOperator, args...)
			require.NoError(t, err, "%s: %s", args, out)
		}
	})
	t.Run("dead letters", func(t *testing.T) {
		conn := c.login(t, string(topology.Publisher))
		_, err := conn.JS.Publish(t.Context(), topology.SubjectAcks, []byte("not to be read"))
		require.NoError(t, err)
		c.eventually("both readers have kept it", func() bool {
			out, err := c.operate(topology.UserViewer, "dead", "list")
			return err == nil && strings.Contains(out, "ingest") && strings.Contains(out, "resolver")
		})
		out, err := c.operate(topology.UserViewer, "dead", "drop", "--all")
		require.Error(t, err, out)
		out, err = c.operate(topology.UserOperator, "dead", "drop", "--all")
		require.NoError(t, err, out)
	})
	t.Run("a viewer looks", func(t *testing.T) {
		for _, args := range [][]string{
			{"dead", "list"}, {"files", "list"}, {"mapping", "show"}, {"mapping", "list"}, {"journal"}, {"worker", worker}, {"replay", "list"},
			{"audit", "list"}, {"audit", "verify"},
		} {
			out, err := c.operate(topology.UserViewer, args...)
			require.NoError(t, err, "%s: %s", args, out)
		}

		out, _ := c.operate(topology.UserViewer, "status", "--json") // the exit status is the verdict
		require.Contains(t, out, `"backlog"`)
		require.NotContains(t, out, `"unread"`, "all that status looks at can be seen")
		out, err := c.operate(topology.UserViewer, "replay", "--all")
		require.Error(t, err, out)
	})
	t.Run("people are told", func(t *testing.T) {
		kept, err := c.login(t, string(topology.Janitor)).JS.KeyValue(t.Context(), topology.BucketState)
		require.NoError(t, err)
		c.eventually("the janitor has looked: it tells of what comes later", func() bool { _, err := kept.Get(t.Context(), "janitor.notices"); return err == nil })
		require.NoError(t, os.WriteFile(c.path("in/bad.csv"), []byte("BON,broken\n"), 0o600))
		c.eventually("of a row that was rejected", func() bool { _, told := c.hook.last("files"); return told })
		told, _ := c.hook.last("files")
		require.Contains(t, told.Data.Notice.Text, "lines 1", "the janitor may ask for it")
		facts := told.Data.Facts
		require.Empty(t, facts.Unread, "it sees all that the verdict is judged from")
		require.Equal(t, []int{1, 1, 1, 1}, []int{len(facts.Ingest), len(facts.Resolver), len(facts.Publisher), len(facts.Janitor)})
	})
	t.Run("metrics are gathered", func(t *testing.T) {
		for _, name := range services {
			resp, err := http.Get("http://" + c.http[name] + "/metrics")
			require.NoError(t, err)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, errors.Join(err, resp.Body.Close()))
			require.Equal(t, http.StatusOK, resp.StatusCode, "%s: %s", name, body)
		}
	})
	t.Run("every endpoint is somebody's to ask", func(t *testing.T) { requireEndpointsAsked(t, c) })
	c.requireNothingRefused()

	for _, name := range services {
		require.Empty(t, c.logged(name, "is not as this service's settings want it"))
	}
}

// requireEndpointsAsked compares what the services offer with what operators and viewers may ask.
func requireEndpointsAsked(t *testing.T, c *chain) {
	conn := c.login(t, topology.UserViewer)
	seen := map[string]bool{}
	for _, service := range services {
		m, err := conn.NC.Request("$SRV.INFO.bobosync-"+service, nil, timeout)
		require.NoError(t, err)
		var info micro.Info
		require.NoError(t, json.Unmarshal(m.Data, &info))

		seen[info.Name] = true
		for _, e := range info.Endpoints {
			require.True(t, strings.HasPrefix(e.Subject, "bobo.control."), e.Subject)
			require.NotEmpty(t, topology.KindOf(topology.Service(service), e.Name), "%s is declared", e.Subject)

			asked := false
			for _, u := range topology.Users() {
				asked = asked || u.MayPublish(e.Subject)
			}

			require.True(t, asked, "%s: say in shared/topology/permissions.go who may ask it", e.Subject)
		}
	}

	require.Len(t, seen, len(services), "the services tell of themselves: %v", seen)
}

// TestServicesWaitForTheProvisioner checks that services create nothing, say what they wait for, and go on once it
// exists, and that what somebody has changed meanwhile is repaired.
func TestServicesWaitForTheProvisioner(t *testing.T) {
	t.Parallel()
	c := newChain(t)
	c.start(services...)
	c.eventually("they wait", func() bool { return len(c.logged("ingest", "waiting for parts")) > 0 })
	require.Contains(t, c.logged("ingest", "waiting for parts")[0], "stream ENTRIES")
	c.provision()
	c.drop()
	c.requireNothingRefused()

	root := c.login(t, topology.UserProvision)
	stream, err := root.JS.Stream(t.Context(), topology.StreamEntries)
	require.NoError(t, err)

	config := stream.CachedInfo().Config
	config.RePublish = &jetstream.RePublish{Source: ">", Destination: "somewhere.>"}
	_, err = root.JS.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	c.eventually("it is mended", func() bool {
		stream, err := root.JS.Stream(t.Context(), topology.StreamEntries)
		return err == nil && stream.CachedInfo().Config.RePublish == nil
	})
	c.eventually("it is told of", func() bool { return len(c.logged(topology.UserProvision, "republish")) > 0 })
}

// TestRefusalsAreClear checks what a program says if the broker does not admit it.
func TestRefusalsAreClear(t *testing.T) {
	t.Parallel()
	in := broker(t)
	other := t.TempDir()
	_, err := setup.Keys(other, topology.Users())
	require.NoError(t, err)
	require.NoError(t, setup.Certificates(other, []string{"127.0.0.1"}, time.Now()))

	for name, tc := range map[string]struct {
		change func(*bus.Config)
		want   string
	}{
		"unknown authority": {func(c *bus.Config) { c.CAFile = filepath.Join(other, setup.CAFile) }, "is the file of NATS_CA that of the authority"},
		"no authority":      {func(c *bus.Config) { c.CAFile = "" }, "name the certificate of the authority that has signed it in NATS_CA"},
		"another name":      {func(c *bus.Config) { c.URL = strings.Replace(c.URL, "127.0.0.1", "localhost", 1) }, "its certificate is for other names"},
		"another's key":     {func(c *bus.Config) { c.CredsFile = setup.CredsFile(other, "ingest") }, "it does not know the key"},
		"no key":            {func(c *bus.Config) { c.CredsFile = "" }, "name the file with this program's key in NATS_CREDS"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := in.config("ingest")
			tc.change(&cfg)

			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()

			_, err := bus.Connect(ctx, cfg)
			require.ErrorContains(t, err, tc.want)
			require.NoError(t, ctx.Err(), "it fails at once")
		})
	}
}

// TestACertificateThatIsNotValidNowIsNamed checks that the certificate is named as the cause: neither another
// authority's file nor the authority's name would help.
func TestACertificateThatIsNotValidNowIsNamed(t *testing.T) {
	t.Parallel()

	for name, issued := range map[string]time.Time{"expired": time.Now().AddDate(-3, 0, 0), "not valid yet": time.Now().AddDate(0, 0, 2)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := install(t)
			require.NoError(t, setup.Certificates(filepath.Dir(in.ca), []string{"127.0.0.1"}, issued))
			in.up(t)

			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()

			_, err := bus.Connect(ctx, in.config("ingest"))
			require.ErrorContains(t, err, "have it renewed")
			require.ErrorContains(t, err, "clock")
			require.NotContains(t, err.Error(), "NATS_CA")
		})
	}
}
