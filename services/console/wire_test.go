package console

// What strangers, other sites and proxies send, byte for byte, to a console that is served as in production.

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/await"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/program"
)

const (
	password = "correct horse battery"
	// hash is the hash of password, at the lowest cost of argon2id.
	hash = "$argon2id$v=19$m=8,t=1,p=1$c2l4dGVlbiBieXRlcyAuLg$XwJU3+17Pqn/THxHN5CMCUoKhHGFEM8WYtaNX72L2y8"
)

// served starts a console with a user, and returns where it listens.
func served(t *testing.T, change ...func(*Config)) string {
	t.Helper()
	users := filepath.Join(t.TempDir(), "users")
	require.NoError(t, os.WriteFile(users, []byte("anna approver "+hash+"\n"), 0o600))

	cfg := Config{Addr: bustest.FreeAddr(t), Data: config.Data{Directory: t.TempDir()}, Auth: auth.Config{Mode: auth.ModeFile, UsersFile: users}}
	for _, c := range change {
		c(&cfg)
	}

	require.NoError(t, cfg.Auth.Validate(cfg.Addr))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg, program.Deps{Log: slog.New(slog.DiscardHandler)}) }()

	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	await.True(t, func() bool {
		conn, err := net.Dial("tcp", cfg.Addr)
		if err != nil {
			return false
		}

		return conn.Close() == nil
	}, time.Minute)

	return cfg.Addr
}

// said sends bytes over a new connection and returns the first answer; nil if the console hangs up without one.
func said(t *testing.T, addr, bytes string) (*http.Response, string) {
	t.Helper()

	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)

	defer conn.Close()

	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, _ = io.WriteString(conn, bytes) // it may hang up before it has read all

	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, ""
	}
	defer res.Body.Close()

	body, _ := io.ReadAll(res.Body) // it may hang up in the middle

	return res, string(body)
}

func request(line, host string, more ...string) string {
	return line + "\r\nHost: " + host + "\r\nConnection: close\r\n" + strings.Join(more, "") + "\r\n"
}

// TestPathsLeadNowhere checks that, however a path is written, it leads to a page or to nothing, and that the answer
// contains nothing of the disk or of a person.
func TestPathsLeadNowhere(t *testing.T) {
	t.Parallel()

	addr := served(t)
	for _, path := range []string{
		"/../../../../etc/passwd", "/..%2f..%2f..%2fetc%2fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "/assets/../console.go", "/assets/..%2fconsole.go",
		"/assets/%2e%2e%2f%2e%2e%2fetc%2fpasswd", `/assets/..\..\windows\win.ini`, "/assets/", "/assets", "/assets/console.css%00.txt", "/help/..%2f..%2fauth", "/help/%00",
		"/files/..%2f..%2fetc%2fpasswd", "//evil.example.org/", "//evil.example.org/%2f..", "/./worker", "/worker/", "/worker;x", "/WORKER", "/worker%20", "/worker%2f",
		"/.git/config", "/debug/pprof/", "/metrics", "/healthz", "/%ff%fe", "/" + strings.Repeat("a/", 3000), "http://evil.example.org/worker", "*",
	} {
		res, body := said(t, addr, request("GET "+path+" HTTP/1.1", addr))
		if res == nil {
			continue // it hung up
		}

		require.NotEqual(t, http.StatusOK, res.StatusCode, path)
		require.Less(t, res.StatusCode, 500, path)
		require.NotContains(t, body, "root:", path)

		if to := res.Header.Get("Location"); to != "" {
			u, err := url.Parse(to)
			require.NoError(t, err, path)
			require.Empty(t, u.Host, "%s leads to %s", path, to)
			require.False(t, strings.HasPrefix(to, "//"), "%s leads to %s", path, to)
		}
	}
}

// TestRequestsThatNoBrowserSends checks that each such request gets an error, and that the console goes on.
func TestRequestsThatNoBrowserSends(t *testing.T) {
	t.Parallel()

	addr := served(t)
	form := "name=anna&password=" + strings.Repeat("x", 1<<20)
	for about, c := range map[string]struct {
		bytes string
		codes []int // any of them; 0 means that the console hangs up
	}{
		"a head without end":             {"GET / HTTP/1.1\r\nHost: " + addr + "\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 100), []int{431}},
		"a long line":                    {"GET /" + strings.Repeat("a", 100_000) + " HTTP/1.1\r\n", []int{431}},
		"a large form":                   {request("POST /login HTTP/1.1", addr, "Origin: http://"+addr+"\r\n", "Content-Type: application/x-www-form-urlencoded\r\n", fmt.Sprintf("Content-Length: %d\r\n", len(form))) + form, []int{0, 401, 413}},
		"a large order":                  {request("POST /orders/pause HTTP/1.1", addr, "Origin: http://"+addr+"\r\n", "Content-Type: application/x-www-form-urlencoded\r\n", fmt.Sprintf("Content-Length: %d\r\n", len(form))) + form, []int{0, 401, 413}},
		"two lengths":                    {request("POST /login HTTP/1.1", addr, "Content-Length: 3\r\n", "Content-Length: 30\r\n") + "a=b", []int{400}},
		"a length and parts":             {request("POST /login HTTP/1.1", addr, "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n") + "0\r\n\r\nGET /worker HTTP/1.1\r\n\r\n", []int{0, 400, 403, 401}},
		"an unknown encoding":            {request("POST /login HTTP/1.1", addr, "Transfer-Encoding: chunked, identity\r\n") + "0\r\n\r\n", []int{400, 501}},
		"two hosts":                      {request("GET / HTTP/1.1", addr, "Host: evil.example.org\r\n"), []int{400}},
		"no host":                        {"GET / HTTP/1.1\r\n\r\n", []int{400}},
		"a host with a line's end":       {"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", []int{400, 421}},
		"another name for this machine":  {request("GET / HTTP/1.1", "evil.example.org"), []int{421}},
		"a header's name with a blank":   {request("GET / HTTP/1.1", addr, "X A: b\r\n"), []int{400}},
		"no HTTP":                        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}},
		"a proxy's request":              {request("CONNECT evil.example.org:443 HTTP/1.1", addr), []int{405, 421, 400}},
		"a trace":                        {request("TRACE / HTTP/1.1", addr, "Cookie: a=b\r\n"), []int{405}},
		"a method that is none":          {request("GE\x00T / HTTP/1.1", addr), []int{400}},
		"an upgrade":                     {request("GET / HTTP/1.1", addr, "Upgrade: websocket\r\n"), []int{303}},
		"cookies without end":            {request("GET /viewer HTTP/1.1", addr, "Cookie: "+strings.Repeat("bobosync-session=x; ", 700)+"\r\n"), []int{404, 431, 303}},
		"a form that is none":            {request("POST /login HTTP/1.1", addr, "Origin: http://"+addr+"\r\n", "Content-Type: multipart/form-data\r\n", "Content-Length: 3\r\n") + "%zz", []int{400, 401}},
		"an order of somebody unknown":   {request("POST /orders/pause HTTP/1.1", addr, "Origin: http://"+addr+"\r\n", "Content-Length: 0\r\n"), []int{401}},
		"an order from another site":     {request("POST /orders/pause HTTP/1.1", addr, "Origin: https://evil.example.org\r\n", "Content-Length: 0\r\n"), []int{403}},
		"an order of a browser from one": {request("POST /orders/pause HTTP/1.1", addr, "Sec-Fetch-Site: cross-site\r\n", "Content-Length: 0\r\n"), []int{403}},
	} {
		res, _ := said(t, addr, c.bytes)
		code := 0
		if res != nil {
			code = res.StatusCode
		}

		require.Contains(t, c.codes, code, about)

		if res != nil && code != 400 && code != 431 && code != 501 { // net/http itself gives those answers
			require.Contains(t, res.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'", about)
			require.Equal(t, "nosniff", res.Header.Get("X-Content-Type-Options"), about)
		}
	}

	res, _ := said(t, addr, request("GET /login HTTP/1.1", addr))
	require.Equal(t, http.StatusOK, res.StatusCode, "it goes on")
}

// TestNothingIsPutIntoHeaders checks that an address that a request asks to be sent to cannot become a header line of
// the answer.
func TestNothingIsPutIntoHeaders(t *testing.T) {
	t.Parallel()

	addr := served(t)
	const line = "%0d%0aSet-Cookie:%20evil=1%0d%0a%0d%0a<script>"
	for _, path := range []string{"/login?next=/" + line, "/worker?q=" + line, "/files/" + line, "/files.csv?q=" + line, "/" + line, "/wall?token=" + line, "/live?page=" + line} {
		res, body := said(t, addr, request("GET "+path+" HTTP/1.1", addr))
		require.NotNil(t, res, path)

		for _, c := range res.Cookies() {
			require.NotEqual(t, "evil", c.Name, path)
		}

		require.NotContains(t, body, "<script>", path)
	}

	form := "back=" + "/" + line + "&theme=dark"
	res, _ := said(t, addr, request("POST /look HTTP/1.1", addr, "Origin: http://"+addr+"\r\n", "Content-Type: application/x-www-form-urlencoded\r\n", fmt.Sprintf("Content-Length: %d\r\n", len(form)))+form)
	require.NotNil(t, res)
	require.Len(t, res.Cookies(), 1)
	require.Equal(t, "theme", res.Cookies()[0].Name)
}

// TestWhoIsSlowIsCutOff checks that a head or a form that arrives byte by byte is cut off within seconds, and that
// others are served meanwhile.
func TestWhoIsSlowIsCutOff(t *testing.T) {
	t.Parallel()

	addr := served(t)
	started := time.Now()
	ends := make(chan error, 2)
	for _, begin := range []string{"GET / HTTP/1.1\r\nHost: " + addr + "\r\nX-Slow: ", "POST /login HTTP/1.1\r\nHost: " + addr + "\r\nOrigin: http://" + addr + "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 60000\r\n\r\n"} {
		conn, err := net.Dial("tcp", addr)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })

		require.NoError(t, conn.SetDeadline(started.Add(2*time.Minute)))
		_, err = io.WriteString(conn, begin)
		require.NoError(t, err)
		go func() {
			for {
				if _, err := io.WriteString(conn, "a"); err != nil {
					ends <- err
					return
				}

				time.Sleep(100 * time.Millisecond) // the slowness under test
			}
		}()
	}

	res, _ := said(t, addr, request("GET /login HTTP/1.1", addr))
	require.Equal(t, http.StatusOK, res.StatusCode)

	for range 2 {
		err := <-ends
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "it was left open for two minutes")
	}
}

// browser logs in at an address, and gives an order from a page of origin.
func browser(t *testing.T, base, origin string, tlsConfig *tls.Config) (login, order int, page string) {
	t.Helper()

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)

	client := &http.Client{
		Jar: jar, Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}

	post := func(path string, form url.Values) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+path, strings.NewReader(form.Encode()))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		res, err := client.Do(r)
		require.NoError(t, err)

		defer res.Body.Close()

		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)

		return res.StatusCode, string(body)
	}
	login, page = post("/login", url.Values{"name": {"anna"}, "password": {password}})
	if login == http.StatusSeeOther {
		order, page = post("/orders/refresh", url.Values{})
	}

	return login, order, page
}

// TestBehindAProxyThatChangesHost checks that with CONSOLE_URL everything works, and that without it each request is
// refused with a page that says what to set.
func TestBehindAProxyThatChangesHost(t *testing.T) {
	t.Parallel()

	front := httptest.NewTLSServer(nil) // ends TLS, as a proxy does
	t.Cleanup(front.Close)

	roots := &tls.Config{RootCAs: front.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	through := func(addr, host string) {
		front.Config.Handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.Out.Host = host
		}}
	}
	for _, c := range []struct {
		about, url, host string
		login, order     int
		says             string
	}{
		// There is no broker here, so an order that is let in ends with 503.
		{"with CONSOLE_URL", front.URL, "", 303, 503, "Nothing was ordered"},
		{"with CONSOLE_URL, by its right name", front.URL, front.Listener.Addr().String(), 303, 503, "Nothing was ordered"},
		{"without", "", "", 403, 0, "set CONSOLE_URL to the one that browsers show"},
		{"without, by a name that is not this machine's", "", "bobosync.example.org", 421, 0, "set CONSOLE_URL to the address that browsers show"},
	} {
		addr := served(t, func(cfg *Config) { cfg.Auth.URL = c.url })
		through(addr, c.host)

		login, order, page := browser(t, front.URL, front.URL, roots)
		require.Equal(t, c.login, login, c.about)
		require.Equal(t, c.order, order, c.about)
		require.Contains(t, page, c.says, c.about)
	}

	// Another site is refused behind a proxy, too.
	addr := served(t, func(cfg *Config) { cfg.Auth.URL = front.URL })
	through(addr, "")

	login, _, page := browser(t, front.URL, "https://evil.example.org", roots)
	require.Equal(t, http.StatusForbidden, login)
	require.Contains(t, page, "sent from another site")
}

// TestOverTLSWithABrowsersCertificate checks that a browser with a certificate logs in and orders, and that a browser
// without one, or with another authority's, is refused before any page.
func TestOverTLSWithABrowsersCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cert := func(name string) tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)

		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		require.NoError(t, err)
		raw, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), 0o600))
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key"))
		require.NoError(t, err)

		return pair
	}
	server, ours, others := cert("server"), cert("ours"), cert("others")
	addr := served(t, func(cfg *Config) {
		cfg.Auth.Cert, cfg.Auth.Key, cfg.Auth.ClientCA = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key"), filepath.Join(dir, "ours.crt")
	})
	roots := x509.NewCertPool()
	roots.AddCert(server.Leaf)

	base := "https://" + addr
	login, order, page := browser(t, base, base, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{ours}})
	require.Equal(t, []int{303, 503}, []int{login, order})
	require.Contains(t, page, "Nothing was ordered")

	for about, cfg := range map[string]*tls.Config{
		"none":       {RootCAs: roots},
		"another's":  {RootCAs: roots, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &others, nil }},
		"an old TLS": {RootCAs: roots, Certificates: []tls.Certificate{ours}, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10},
	} {
		client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}

		res, err := client.Get(base + "/login")
		if err == nil {
			_ = res.Body.Close()
		}

		require.ErrorContains(t, err, "tls: ", about)
	}

	res, body := said(t, addr, request("GET /login HTTP/1.1", addr))
	require.NotNil(t, res)
	require.Equal(t, http.StatusBadRequest, res.StatusCode)
	require.Contains(t, body, "HTTP request to an HTTPS server")
}

// TestAProxyThatKeepsAllToItself checks that a stream carries heartbeats even while nothing changes, so that a page
// notices when a proxy passes the stream on late, and that its headers keep proxies from storing it.
func TestAProxyThatKeepsAllToItself(t *testing.T) {
	t.Parallel()
	addr := served(t, func(cfg *Config) { cfg.Auth.WallToken = config.Secret(strings.Repeat("w", 20)) })
	client := &http.Client{Timeout: 2 * time.Minute}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/live?page=%2Fwall&token="+strings.Repeat("w", 20), nil)
	require.NoError(t, err)
	r.Header.Set("Accept", "text/event-stream")
	res, err := client.Do(r)
	require.NoError(t, err)

	defer res.Body.Close()

	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "no", res.Header.Get("X-Accel-Buffering"))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	require.True(t, strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream"))

	lines := bufio.NewScanner(res.Body)
	beats := 0
	for beats < 2 && lines.Scan() { // while nothing changes
		if strings.HasPrefix(lines.Text(), "event:") && strings.Contains(lines.Text(), "beat") {
			beats++
		}
	}

	require.Equal(t, 2, beats, "%v", lines.Err())
}
