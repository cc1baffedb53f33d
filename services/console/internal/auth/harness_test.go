package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

const password = "correct horse battery"

// clock is a clock that only the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.now = c.now.Add(d)
}

// door is a console with a page for each role, and one person's browser.
type door struct {
	t       *testing.T
	auth    *Auth
	handler http.Handler
	clock   *clock
	log     *bytes.Buffer
	dir     string
	peer    string
	origin  string
	told    chan Emergency
	cookies map[string]*http.Cookie
}

const defaultAddr = "127.0.0.1:8470"

func noState(context.Context) (jetstream.KeyValue, error) {
	return nil, errors.New("there is no broker")
}

// open makes a console that listens on loopback.
func open(t *testing.T, cfg Config, change ...func(*Options)) *door {
	t.Helper()
	d := &door{
		t: t, clock: &clock{now: time.Unix(1_800_000_000, 0)}, log: &bytes.Buffer{}, dir: t.TempDir(),
		peer: "127.0.0.1:4711", origin: "http://" + defaultAddr, cookies: map[string]*http.Cookie{}, told: make(chan Emergency, 10),
	}

	opt := Options{
		Clock: d.clock.Now, Log: slog.New(slog.NewTextHandler(d.log, nil)), State: noState, Addr: defaultAddr, Directory: d.dir,
		Notify: func(_ context.Context, e Emergency) error {
			d.told <- e
			return nil
		},
		Page: func(w http.ResponseWriter, _ *http.Request, status int, title string, body template.HTML) {
			w.WriteHeader(status)
			fmt.Fprint(w, title, "\n", body)
		},
	}
	for _, c := range change {
		c(&opt)
	}

	if opt.Addr != defaultAddr {
		d.origin = "https://" + opt.Addr
	}

	require.NoError(t, cfg.Validate(opt.Addr))
	ctx, cancel := context.WithCancel(t.Context())
	a, err := New(ctx, cfg, opt)
	require.NoError(t, err)

	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()

	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})

	mux := http.NewServeMux()
	for role := Nobody; role <= Approver; role++ {
		mux.HandleFunc("/"+role.String(), func(w http.ResponseWriter, r *http.Request) {
			if From(r.Context()).Role < role {
				a.Refuse(w, r)
				return
			}

			who := From(r.Context())
			fmt.Fprintf(w, "%s|%s|%s|%s", who.Name, who.Role, who.How, who.Address)
		})
	}

	a.Routes(mux)
	d.auth, d.handler = a, a.Protect(mux)

	return d
}

// file makes a console with three users who have the same password.
func file(t *testing.T, change ...func(*Options)) *door {
	t.Helper()
	return open(t, Config{Mode: ModeFile, UsersFile: usersFile(t)}, change...)
}

// hash is the hash of password, at the lowest cost of argon2id: tests log in often.
const hash = "$argon2id$v=19$m=8,t=1,p=1$c2l4dGVlbiBieXRlcyAuLg$XwJU3+17Pqn/THxHN5CMCUoKhHGFEM8WYtaNX72L2y8"

func usersFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "users")
	writeUsers(t, path, "victor viewer", "olga operator", "anna approver")
	return path
}

func writeUsers(t *testing.T, path string, users ...string) {
	t.Helper()

	var lines []string
	for _, u := range users {
		lines = append(lines, u+" "+hash)
	}

	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
}

// send sends a request as the browser would, and keeps the cookies of the answer.
func (d *door) send(method, target string, form url.Values, headers ...string) *httptest.ResponseRecorder {
	d.t.Helper()

	var body *strings.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	} else {
		body = strings.NewReader("")
	}

	r := httptest.NewRequestWithContext(d.t.Context(), method, d.origin+target, body)
	r.RemoteAddr = d.peer
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}

	if method == http.MethodPost {
		r.Header.Set("Origin", d.origin)
	}

	for i := 0; i < len(headers); i += 2 {
		switch headers[i] {
		case "Host":
			r.Host = headers[i+1]
		case "Origin":
			r.Header.Set("Origin", headers[i+1])
		default:
			r.Header.Add(headers[i], headers[i+1])
		}
	}

	for _, c := range d.cookies {
		r.AddCookie(c)
	}

	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)

	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(d.cookies, c.Name)
		} else {
			d.cookies[c.Name] = c
		}
	}

	return w
}

func (d *door) get(target string, headers ...string) *httptest.ResponseRecorder {
	d.t.Helper()
	return d.send(http.MethodGet, target, nil, headers...)
}

func (d *door) logIn(name, password, next string) *httptest.ResponseRecorder {
	d.t.Helper()
	return d.send(http.MethodPost, "/login", url.Values{"name": {name}, "password": {password}, "next": {next}})
}

// in logs in with the right password.
func (d *door) in(name string) {
	d.t.Helper()
	require.Equal(d.t, http.StatusSeeOther, d.logIn(name, password, "/viewer").Code)
}

// who returns how the console sees the browser; empty for nobody.
func (d *door) who() string {
	d.t.Helper()
	body := d.get("/nobody").Body.String()
	return strings.TrimSuffix(body, "|"+From(d.t.Context()).Address)
}

func (d *door) is(want string) {
	d.t.Helper()
	parts := strings.Split(d.who(), "|")
	require.Equal(d.t, want, strings.Join(parts[:3], "|"))
}

const isNobody = "|nobody|"
