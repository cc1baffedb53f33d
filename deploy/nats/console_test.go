package nats_test

import (
	"context"
	"encoding/json"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/deploy/nats/setup"
	"bobosync/shared/audit"
	"bobosync/shared/await"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// consoleOf starts a console with the viewer's key and these additional settings; it returns the address on which it
// listens.
func (in *installation) consoleOf(t *testing.T, settings ...string) string {
	t.Helper()
	const hash = "$argon2id$v=19$m=8,t=1,p=1$c2l4dGVlbiBieXRlcyAuLg$XwJU3+17Pqn/THxHN5CMCUoKhHGFEM8WYtaNX72L2y8"
	users := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(users, []byte("anna approver "+hash+"\n"), 0o600))
	addr := "127.0.0.1:" + strconv.Itoa(freePort(t))
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), build(t, "console", "bobosync/services/console/cmd/console"))
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{
		"NATS_URL=" + in.url(), "NATS_CA=" + in.ca, "NATS_CREDS=" + setup.CredsFile(in.dir, topology.UserViewer), "DATA_DIRECTORY=" + cmd.Dir,
		"CONSOLE_ADDR=" + addr, "CONSOLE_AUTH=file", "CONSOLE_USERS_FILE=" + users,
	}, settings...)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(os.Interrupt))
		require.NoError(t, cmd.Wait())
	})

	return "http://" + addr
}

// browser returns a client that is logged in as the approver.
func browser(t *testing.T, base string) *http.Client {
	t.Helper()

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)

	b := &http.Client{Jar: jar, Timeout: time.Minute}
	await.True(t, func() bool {
		res, err := b.PostForm(base+"/login", url.Values{"name": {"anna"}, "password": {"correct horse battery"}})
		return err == nil && res.Body.Close() == nil && res.StatusCode == http.StatusOK
	}, time.Minute)

	return b
}

func body(t *testing.T, res *http.Response, err error) (string, int) {
	t.Helper()
	require.NoError(t, err)

	defer res.Body.Close()

	data, err := io.ReadAll(res.Body)
	require.NoError(t, err)

	return html.UnescapeString(string(data)), res.StatusCode
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// order gives an order with its form: it reads what the form needs, or finds that there is no form.
func order(t *testing.T, b *http.Client, base, path string) (page string, code int) {
	t.Helper()

	res, err := b.Get(base + path)

	page, code = body(t, res, err)
	_, form, found := strings.Cut(page, `<form class="order" method="post"`)
	if !found {
		return page, code
	}

	form, _, _ = strings.Cut(form, "</form>")
	values := url.Values{"reason": {"a test"}, "for": {"1h"}}
	for _, m := range hiddenField.FindAllStringSubmatch(form, -1) {
		values.Add(m[1], m[2])
	}

	values.Set("number", values.Get("size"))

	path, _, _ = strings.Cut(path, "?")
	res, err = b.PostForm(base+path, values)

	return body(t, res, err)
}

// TestAConsoleWithoutTheOperatorsKey checks that such a console shows everything but cannot give an order: the broker
// refuses each, whoever is logged in and whatever the console sends. With the key, orders are carried out, and the
// audit records which key gave them and who, according to the console, asked for them.
func TestAConsoleWithoutTheOperatorsKey(t *testing.T) {
	t.Parallel()
	in := broker(t)
	require.NoError(t, topology.Provision(t.Context(), in.login(t, topology.UserProvision).JS, settings, topology.Everyone))

	var orders atomic.Int32
	count := func(name string) control.Endpoint {
		return control.On(name, func(context.Context, map[string]json.RawMessage) (map[string]string, error) {
			orders.Add(1)
			return map[string]string{}, nil
		})
	}
	for service, endpoints := range map[topology.Service][]control.Endpoint{
		topology.Resolver: {
			count(control.Replay), count(control.HeldDecide),
			control.On(control.DeadRequeue, func(context.Context, control.DeadRequest) ([]control.DeadResult, error) {
				orders.Add(1)
				return []control.DeadResult{}, nil
			}),
			control.On(control.ReplayForecast, func(context.Context, control.ReplayRequest) (control.ReplayState, error) {
				return control.ReplayState{Users: 3}, nil
			}),
			control.On(control.HeldShow, func(context.Context, control.HeldRequest) (control.HeldSet, error) {
				return control.HeldSet{HeldGroup: control.HeldGroup{ID: "off-1", Users: 3}, Token: "t"}, nil
			}),
		},
		topology.Publisher: {count(control.Pause)},
		topology.Janitor: {count(control.MappingRefresh), count(control.Reconcile), control.On(control.JournalNote, func(context.Context, control.JournalEntry) (control.Nothing, error) {
			return control.Nothing{}, nil
		})},
	} {
		stop, err := control.Serve(t.Context(), in.login(t, string(service)).NC, service, "dev", endpoints...)
		require.NoError(t, err)
		t.Cleanup(stop)
	}

	_, err := in.login(t, "resolver").JS.Publish(t.Context(), topology.DeadSubject("resolver"), []byte(`{}`))
	require.NoError(t, err)

	paths := []string{"/orders/pause", "/orders/refresh", "/orders/compare", "/orders/requeue?all=1", "/orders/replay?whom=all", "/orders/approve?id=off-1"}

	base := in.consoleOf(t)
	anna := browser(t, base)
	for _, path := range paths {
		page, code := order(t, anna, base, path)
		require.Equal(t, http.StatusServiceUnavailable, code, page)
		require.Contains(t, page, "The broker does not let this console do that", path)
	}

	began := time.Now()
	res, err := anna.Get(base + "/onduty")
	page, code := body(t, res, err)
	require.Equal(t, http.StatusServiceUnavailable, code, page)
	require.Contains(t, page, "The broker does not let this console do that")
	require.Less(t, time.Since(began), 10*time.Second, "an answer is waited for that cannot come")
	require.Zero(t, orders.Load())
	chains, err := audit.Load(t.Context(), in.login(t, topology.UserViewer).JS)
	require.NoError(t, err)
	require.Empty(t, chains.Links)

	base = in.consoleOf(t, "CONSOLE_OPERATOR_CREDS="+setup.CredsFile(in.dir, topology.UserOperator))
	anna = browser(t, base)
	for _, path := range paths {
		page, code := order(t, anna, base, path)
		require.Equal(t, http.StatusOK, code, page)
		require.Contains(t, page, "the service has done it", path)
		require.Contains(t, page, "operator (anna (console, password, 127.0.0.1))", path)
	}

	require.EqualValues(t, len(paths), orders.Load())
}
