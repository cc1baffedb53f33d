package check

import (
	"context"
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
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/topology"
)

// site is an installation without any problem: directories, a simulated AtHoc and a real broker.
type site struct {
	t     *testing.T
	root  string
	athoc *sim.Simulator
	Options
}

func newSite(t *testing.T, change func(*sim.Options)) *site {
	t.Helper()

	o := sim.Options{Users: sim.GenerateUsers(3, sim.DefaultCollar)}
	if change != nil {
		change(&o)
	}

	athoc, err := sim.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = athoc.Close() }) // the test has ended
	require.NoError(t, athoc.Start(context.Background(), "127.0.0.1:0"))

	s := &site{t: t, root: t.TempDir(), athoc: athoc}
	for _, dir := range []string{"in", "done", "failed", "data"} {
		require.NoError(t, os.Mkdir(s.path(dir), 0o700))
	}

	utc := config.InZone(time.UTC)
	s.Settings = Settings{
		Broker: config.Broker{Replicas: 1, MaxAge: time.Hour, EntriesMaxBytes: 1 << 20},
		Calls:  config.Calls{RateLimit: 1000, Timeout: 30 * time.Second},
		Data:   &config.Data{Directory: s.path("data")},
		Files:  &Files{CSV: s.path("in"), Processed: s.path("done"), Failed: s.path("failed"), Move: true},
		AtHoc: &config.AtHoc{
			ServerURL: athoc.URL(), ClientID: sim.DefaultClientID, ClientSecret: sim.DefaultClientSecret, APIUser: sim.DefaultUsername,
			Password: sim.DefaultPassword, OrgCode: sim.DefaultOrgCode, Scope: "openid profile athoc.iws.web.api",
			DutyStatusField: sim.DefaultDutyAttribute, SSLCertPath: athoc.CACertFile(), Zone: utc,
		},
		BoboZone: &utc, CollarField: sim.DefaultCollar, EnvFile: s.path(".env"), InsideAddress: s.path("data", "broker.url"),
	}
	s.Space = func(string) (Space, error) { return Space{Free: 10 << 30, Total: 20 << 30}, nil }
	s.Getenv = func(string) string { return "" }
	s.Timeout = time.Minute // so that a busy machine does not fail the test

	return s
}

func (s *site) path(parts ...string) string {
	return filepath.Join(append([]string{s.root}, parts...)...)
}

// withBroker gives the site a broker with all streams, consumers and buckets.
func (s *site) withBroker() *bustest.Server {
	s.t.Helper()
	b := bustest.Start(s.t)
	conn := b.Connect(s.t)
	require.NoError(s.t, topology.Provision(s.t.Context(), conn.JS, topology.From(s.Broker, s.Calls), topology.Everyone))
	s.Broker.URL = b.ClientURL()

	return b
}

// late is how much longer than its timeout a run may take: a run that waits twice for the same thing takes longer.
const late = DefaultTimeout - 2*time.Second

// verdict runs the check.
func (s *site) verdict() *verdicts {
	s.t.Helper()

	began := time.Now()
	v := &verdicts{t: s.t, results: Run(s.t.Context(), s.Options)}
	if took := time.Since(began); took > s.Timeout+late {
		s.t.Errorf("the check took %s", took)
	}

	s.t.Cleanup(func() {
		if s.t.Failed() {
			var b strings.Builder
			_ = Print(&b, v.results, false) // a builder never fails
			s.t.Log("\n" + b.String())
		}
	})

	for _, r := range v.results {
		for _, secret := range []string{s.AtHoc.Password.Reveal(), s.AtHoc.ClientSecret.Reveal(), "w00001@example.org"} {
			if secret != "" && strings.Contains(r.Message+r.Advice, secret) {
				s.t.Errorf("%s: a secret is told: %s", r.Check, r.Message)
			}
		}

		if r.Level == Problem && r.Advice == "" {
			s.t.Errorf("%s: a problem without advice: %s", r.Check, r.Message)
		}
	}

	return v
}

type verdicts struct {
	t       *testing.T
	results []Result
}

// has asserts that a check has this level, and that its message and advice contain these texts.
func (v *verdicts) has(level Level, name string, texts ...string) {
	v.t.Helper()

	for _, r := range v.results {
		text := r.Message + " → " + r.Advice
		if r.Check == name && r.Level == level && containsAll(text, texts) {
			return
		}
	}

	v.t.Errorf("no %s of %s that says %q", level, name, texts)
}

func containsAll(text string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}

	return true
}

// only asserts that no checks but the named ones are warnings or problems.
func (v *verdicts) only(names ...string) {
	v.t.Helper()

	for _, r := range v.results {
		if (r.Level == Warning || r.Level == Problem) && !slices.Contains(names, r.Check) {
			v.t.Errorf("%s of %s: %s", r.Level, r.Check, r.Message)
		}
	}
}

// natsServer runs a broker with options that bustest does not offer.
func natsServer(t *testing.T, o server.Options) *server.Server {
	t.Helper()

	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	if o.JetStream {
		o.StoreDir = t.TempDir()
	}

	ns, err := server.NewServer(&o)
	require.NoError(t, err)
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	require.True(t, ns.ReadyForConnections(10*time.Second))

	return ns
}

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	return newAuthorityUntil(t, time.Now().AddDate(2, 0, 0))
}

func newAuthorityUntil(t *testing.T, until time.Time) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test Authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: until, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.file = filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))

	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)

	return key
}

// sign makes a certificate for a host, valid between two moments.
func (a *authority) sign(host string, from, until time.Time) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)

	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}

	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)

	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// serveTLS puts a TLS listener with the certificate in front of the site's AtHoc.
func (s *site) serveTLS(cert tls.Certificate, change func(*tls.Config)) {
	s.t.Helper()

	front := httptest.NewUnstartedServer(s.athoc.Handler())
	front.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10} //nolint:gosec // an old server is one of the faults
	if change != nil {
		change(front.TLS)
	}

	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.StartTLS()
	s.t.Cleanup(front.Close)
	s.AtHoc.ServerURL = front.URL
}

// serve replaces the site's AtHoc with a handler.
func (s *site) serve(h http.HandlerFunc) {
	s.t.Helper()

	front := httptest.NewServer(h)
	s.t.Cleanup(front.Close)
	s.AtHoc.ServerURL = front.URL
}

func serverTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
}
