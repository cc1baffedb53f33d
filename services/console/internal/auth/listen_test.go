package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.pem, _, a.cert, a.key = a.make(template, nil, nil)

	return a
}

func (a *authority) make(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (certPEM, keyPEM []byte, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	a.t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)

	if parent == nil {
		parent, signer = template, key
	}

	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	cert, err = x509.ParseCertificate(der)
	require.NoError(a.t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)

	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), cert, key
}

func (a *authority) sign(serial int64) (certPEM, keyPEM []byte) {
	a.t.Helper()
	certPEM, keyPEM, _, _ = a.make(&x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, a.key)

	return certPEM, keyPEM
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// listening serves with the TLS of the settings and returns the address.
func listening(t *testing.T, cfg Config, log io.Writer) string {
	t.Helper()

	plain, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	guarded, err := cfg.Guard(plain, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)

	server := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
	})}
	go func() { _ = server.Serve(guarded) }()

	t.Cleanup(func() { _ = server.Close() })

	return plain.Addr().String()
}

// ask opens a new connection, and returns the serial number of the server's certificate and the protocol.
func ask(t *testing.T, addr string, cfg *tls.Config) (serial int64, proto string, err error) {
	t.Helper()

	transport := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()

	res, err := (&http.Client{Transport: transport}).Get("https://" + addr)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()

	body, err := io.ReadAll(res.Body)

	return res.TLS.PeerCertificates[0].SerialNumber.Int64(), string(body), err
}

// TestCertificatesAreReadAgain checks that new connections get the new certificate, and the old one as long as the new
// one cannot be used.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	cfg := Config{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	write := func(serial int64) {
		cert, key := ca.sign(serial)
		require.NoError(t, os.WriteFile(cfg.Cert, cert, 0o600))
		require.NoError(t, os.WriteFile(cfg.Key, key, 0o600))
	}
	write(7)
	var log bytes.Buffer
	addr := listening(t, cfg, &log)
	client := &tls.Config{RootCAs: ca.pool()}
	serial, proto, err := ask(t, addr, client)
	require.NoError(t, err)
	require.Equal(t, int64(7), serial)
	require.Equal(t, "HTTP/2.0", proto)

	require.NoError(t, os.WriteFile(cfg.Key, []byte("half a fi"), 0o600))
	serial, _, err = ask(t, addr, client)
	require.NoError(t, err)
	require.Equal(t, int64(7), serial)
	write(8)

	serial, _, err = ask(t, addr, client)
	require.NoError(t, err)
	require.Equal(t, int64(8), serial)

	_, _, err = ask(t, addr, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	require.ErrorContains(t, err, "protocol version")
	_, err = Config{Cert: dir, Key: dir}.Guard(nil, nil)
	require.ErrorContains(t, err, "CONSOLE_TLS_CERT")
}

// TestCertificatesThatAreMendedAreRead checks that repaired certificates are used even if the repair changes neither
// their time nor their size, as with another mode or owner.
func TestCertificatesThatAreMendedAreRead(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	cfg := Config{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	write := func(cert, key []byte) {
		require.NoError(t, os.WriteFile(cfg.Cert, cert, 0o600))
		require.NoError(t, os.WriteFile(cfg.Key, key, 0o600))
	}
	write(ca.sign(7))
	var log bytes.Buffer
	addr := listening(t, cfg, &log)
	client := &tls.Config{RootCAs: ca.pool()}
	cert, key := ca.sign(8)
	write(cert, bytes.Repeat([]byte("x"), len(key)))

	info, err := os.Stat(cfg.Key)
	require.NoError(t, err)

	for range 2 {
		serial, _, err := ask(t, addr, client)
		require.NoError(t, err)
		require.Equal(t, int64(7), serial)
	}

	require.NoError(t, os.WriteFile(cfg.Key, key, 0o600))
	require.NoError(t, os.Chtimes(cfg.Key, info.ModTime(), info.ModTime()))
	serial, _, err := ask(t, addr, client)
	require.NoError(t, err)
	require.Equal(t, int64(8), serial)
	require.Equal(t, 1, strings.Count(log.String(), "cannot be used"), log.String())
}

// TestBrowsersNeedACertificate checks that with CONSOLE_CLIENT_CA browsers need a certificate in addition to any login.
func TestBrowsersNeedACertificate(t *testing.T) {
	t.Parallel()

	ours, theirs, dir := newAuthority(t), newAuthority(t), t.TempDir()
	cfg := Config{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"), ClientCA: filepath.Join(dir, "ca")}
	cert, key := ours.sign(7)
	for path, data := range map[string][]byte{cfg.Cert: cert, cfg.Key: key, cfg.ClientCA: ours.pem} {
		require.NoError(t, os.WriteFile(path, data, 0o600))
	}

	addr := listening(t, cfg, io.Discard)
	for about, c := range map[string]struct {
		from *authority
		in   bool
	}{"ours": {ours, true}, "theirs": {theirs, false}, "none": {nil, false}} {
		client := &tls.Config{RootCAs: ours.pool()}
		if c.from != nil {
			pair, err := tls.X509KeyPair(c.from.sign(9))
			require.NoError(t, err)

			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}

		_, _, err := ask(t, addr, client)
		require.Equal(t, c.in, err == nil, "%s: %v", about, err)
	}

	require.NoError(t, os.WriteFile(cfg.ClientCA, []byte("none"), 0o600))
	_, err := cfg.Guard(nil, nil)
	require.ErrorContains(t, err, "CONSOLE_CLIENT_CA")
}
