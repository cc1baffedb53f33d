package athoc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startTLS serves with a certificate of its own for athoc.test and 127.0.0.1, and returns the file with that
// certificate.
func startTLS(t *testing.T, f *fake, expires time.Time, change ...func(*tls.Config)) (caFile string) {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)

	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: expires.Add(-24 * time.Hour), NotAfter: expires,
		DNSNames: []string{"athoc.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)

	f.server = httptest.NewUnstartedServer(f)
	f.server.EnableHTTP2 = true
	f.server.Config.ErrorLog = discardLog()
	f.server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	for _, c := range change {
		c(f.server.TLS)
	}

	f.server.StartTLS()
	t.Cleanup(f.server.Close)
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))

	return caFile
}

func TestTLS(t *testing.T) {
	protocol := make(chan string, 10)
	api := func(w http.ResponseWriter, r *http.Request) {
		protocol <- r.Proto

		_, _ = io.WriteString(w, "[]")
	}
	t.Run("CA file", func(t *testing.T) {
		f := unstarted(t, api)
		ca := startTLS(t, f, time.Now().Add(time.Hour))
		c := newClient(t, f.server.URL, func(cfg *Config) { cfg.CACertPath = ca })
		_, err := c.UpdateDutyStatus(t.Context(), twoUsers)
		require.NoError(t, err)
		assert.Equal(t, "HTTP/1.1", <-protocol, "though the server offers HTTP/2")
	})
	t.Run("unknown authority", func(t *testing.T) {
		f := unstarted(t, api)
		startTLS(t, f, time.Now().Add(time.Hour))
		_, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), twoUsers)
		call := callError(t, err)
		assert.Equal(t, Outage, call.Kind)
		assert.Contains(t, call.Detail, "SSL_CERT_PATH")

		c := newClient(t, f.server.URL, func(cfg *Config) { cfg.InsecureSkipVerify = true })
		_, err = c.UpdateDutyStatus(t.Context(), twoUsers)
		require.NoError(t, err, "unless verification is off")
		<-protocol
	})
	t.Run("expired", func(t *testing.T) {
		f := unstarted(t, api)
		ca := startTLS(t, f, time.Now().Add(-time.Hour))
		_, err := newClient(t, f.server.URL, func(cfg *Config) { cfg.CACertPath = ca }).UpdateDutyStatus(t.Context(), twoUsers)
		call := callError(t, err)
		assert.Equal(t, Outage, call.Kind)
		assert.Contains(t, call.Detail, "expired")
		assert.False(t, call.MayHaveApplied())
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		f := unstarted(t, api)
		startTLS(t, f, time.Now().Add(time.Hour), func(c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 //nolint:gosec // what must be refused
		})
		_, err := newClient(t, f.server.URL, func(cfg *Config) { cfg.InsecureSkipVerify = true }).UpdateDutyStatus(t.Context(), twoUsers)
		call := callError(t, err)
		assert.Equal(t, Outage, call.Kind)
		assert.Contains(t, call.Detail, "protocol version")
	})
	t.Run("bad CA file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "ca.pem")
		cfg := config("https://x")
		cfg.CACertPath = file
		_, err := New(cfg)
		require.ErrorIs(t, err, os.ErrNotExist)
		require.ErrorContains(t, err, "SSL_CERT_PATH")
		require.NoError(t, os.WriteFile(file, []byte("not a certificate"), 0o600))

		_, err = New(cfg)
		require.ErrorContains(t, err, "holds no certificate")
	})
}

// tunnel is a proxy that connects every CONNECT to one address.
type tunnel struct {
	to      string
	refuse  int
	targets atomic.Value

	mu sync.Mutex // orders the start of copying before the wait for its end
	wg sync.WaitGroup
}

// wait waits until the tunnels are closed.
func (p *tunnel) wait() {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.wg.Wait()
}

func (p *tunnel) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.targets.Store(r.Method + " " + r.Host + " " + r.Header.Get("Proxy-Authorization"))

	if p.refuse != 0 {
		w.WriteHeader(p.refuse)
		return
	}

	upstream, err := net.Dial("tcp", p.to)
	if err != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}

	conn, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		_ = upstream.Close()
		return
	}

	_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")

	p.mu.Lock()
	defer p.mu.Unlock()

	p.wg.Go(func() { _, _ = io.Copy(upstream, buffered); _ = upstream.Close() })
	p.wg.Go(func() { _, _ = io.Copy(conn, upstream); _ = conn.Close() })
}

func TestProxy(t *testing.T) {
	f := unstarted(t, answer(200, "[]"))
	ca := startTLS(t, f, time.Now().Add(time.Hour))
	address, err := url.Parse(f.server.URL)
	require.NoError(t, err)

	server := "https://athoc.test:" + address.Port()

	start := func(t *testing.T, refuse int) (*tunnel, func(*Config)) {
		p := &tunnel{to: address.Host, refuse: refuse}
		proxy := httptest.NewServer(p)
		t.Cleanup(func() { proxy.Close(); p.wait() })

		host, err := url.Parse(proxy.URL)
		require.NoError(t, err)

		host.User = url.UserPassword("puser", "ppass")

		return p, func(cfg *Config) { cfg.HTTPSProxy, cfg.CACertPath = host.String(), ca }
	}
	t.Run("CONNECT", func(t *testing.T) {
		p, use := start(t, 0)
		c := newClient(t, server, use)
		_, err := c.UpdateDutyStatus(t.Context(), twoUsers)
		require.NoError(t, err)
		assert.Equal(t, "CONNECT athoc.test:"+address.Port()+" Basic cHVzZXI6cHBhc3M=", p.targets.Load())
	})
	t.Run("NO_PROXY", func(t *testing.T) {
		p, use := start(t, 0)
		c := newClient(t, server, use, func(cfg *Config) { cfg.NoProxy = "athoc.test" })
		_, err := c.UpdateDutyStatus(t.Context(), twoUsers)
		assert.Equal(t, Outage, callError(t, err).Kind, "the name leads nowhere without the proxy")
		assert.Nil(t, p.targets.Load())
	})

	for status, kind := range map[int]Kind{407: NotFound, 502: Outage} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			_, use := start(t, status)
			_, err := newClient(t, server, use).UpdateDutyStatus(t.Context(), twoUsers)
			call := callError(t, err)
			assert.Equal(t, kind, call.Kind)
			assert.Contains(t, call.Detail, "HTTPS_PROXY")
			assert.NotContains(t, err.Error(), "ppass")
		})
	}

	t.Run("plain HTTP", func(t *testing.T) {
		var seen atomic.Value
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen.Store(r.URL.Host)
			w.WriteHeader(http.StatusServiceUnavailable)
		}))
		t.Cleanup(proxy.Close)
		_, err := newClient(t, "http://athoc.test", func(cfg *Config) { cfg.HTTPProxy = proxy.URL }).UpdateDutyStatus(t.Context(), twoUsers)
		assert.Equal(t, Outage, callError(t, err).Kind)
		assert.Equal(t, "athoc.test", seen.Load())
	})
}

func TestCredentialsDoNotFollowARedirect(t *testing.T) {
	var visited atomic.Bool
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { visited.Store(true) }))
	t.Cleanup(other.Close)

	for _, status := range []int{301, 307, 308} {
		f := newFake(t, nil)
		f.token = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL+"/x", status) }
		_, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), twoUsers)
		call := callError(t, err)
		assert.Equal(t, NotFound, call.Kind)
		assert.Contains(t, call.Detail, other.URL)
	}

	assert.False(t, visited.Load())
}

// discardLog silences the handshakes that fail on purpose.
func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
