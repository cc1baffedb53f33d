package athoc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

const (
	// connectTimeout is the longest that a dial, or a TLS handshake, may take.
	connectTimeout = 10 * time.Second
	// maxIdle bounds idle connections: a process has few calls in flight at once.
	maxIdle = 8
)

// proxyRefusal is a proxy's refusal to open a tunnel.
type proxyRefusal struct {
	host   string
	status int
}

func (e *proxyRefusal) Error() string {
	return fmt.Sprintf("the proxy %s refused the tunnel with status %d", e.host, e.status)
}

// NewWeb returns a client for servers other than AtHoc that connects as AtHoc's does: through the same proxies,
// trusting the same authorities. Certificates are always verified. Only these settings of cfg count, and Timeout.
func NewWeb(cfg Config) (*http.Client, error) {
	cfg.InsecureSkipVerify = false
	return newHTTPClient(cfg)
}

// keepAlive makes the system notice within half a minute that the peer of a connection is gone, so that no call is made
// on it.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}

// newHTTPClient builds a client that follows no redirects, which would take the credentials elsewhere. It speaks
// HTTP/1.1 only: there, giving up a call closes its connection. An HTTP/2 connection would stay open, and what was
// written to it would still be sent (see forgetful).
func newHTTPClient(cfg Config) (*http.Client, error) {
	tlsConfig, tlsErr := newTLSConfig(cfg)
	proxy, proxyErr := newProxy(cfg)
	if err := errors.Join(tlsErr, proxyErr); err != nil {
		return nil, err
	}

	dialer := &net.Dialer{Timeout: min(connectTimeout, cfg.Timeout), KeepAliveConfig: keepAlive}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)

	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  proxy,
			OnProxyConnectResponse: checkTunnel,
			DialContext:            forgetful(dialer),
			TLSClientConfig:        tlsConfig,
			TLSHandshakeTimeout:    min(connectTimeout, cfg.Timeout),
			ResponseHeaderTimeout:  cfg.Timeout,
			Protocols:              protocols,
			MaxIdleConns:           maxIdle,
			MaxIdleConnsPerHost:    maxIdle,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: 256 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// forgetful dials connections that send nothing more once they are closed. Otherwise the system would go on sending
// what was written to a connection before it was closed. A call that was given up would then be delivered when the
// network is back, perhaps minutes later, after newer ones.
func forgetful(dialer *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
			if err := tcp.SetLinger(0); err != nil {
				return nil, errors.Join(fmt.Errorf("set up the connection to %s: %w", address, err), tcp.Close())
			}
		}

		return conn, err
	}
}

func newTLSConfig(cfg Config) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: cfg.InsecureSkipVerify} //nolint:gosec // the operator's choice, warned about in New
	if cfg.CACertPath == "" {
		return out, nil
	}

	pem, err := os.ReadFile(cfg.CACertPath)
	if err != nil {
		return nil, fmt.Errorf("reading the CA certificates of SSL_CERT_PATH: %w", err)
	}

	roots, err := x509.SystemCertPool()
	if err != nil {
		// Some minimal systems have no pool; the operator's file may be all that is needed.
		roots = x509.NewCertPool()
	}

	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("SSL_CERT_PATH %s holds no certificate in PEM format", cfg.CACertPath)
	}

	out.RootCAs = roots

	return out, nil
}

// newProxy returns the function that chooses a proxy. It checks the addresses first: httpproxy ignores a bad one at the
// start, and later quotes it with its password.
func newProxy(cfg Config) (func(*http.Request) (*url.URL, error), error) {
	var errs []error
	for name, address := range map[string]string{"HTTP_PROXY": cfg.HTTPProxy, "HTTPS_PROXY": cfg.HTTPSProxy} {
		if address != "" && !validProxy(address) {
			errs = append(errs, fmt.Errorf("%s must be an address such as http://proxy.example.org:3128", name))
		}
	}

	if err := errors.Join(errs...); err != nil {
		return nil, err
	}

	choose := (&httpproxy.Config{HTTPProxy: cfg.HTTPProxy, HTTPSProxy: cfg.HTTPSProxy, NoProxy: cfg.NoProxy}).ProxyFunc()

	return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }, nil
}

// validProxy accepts what httpproxy does: an address with a scheme, or just host:port.
func validProxy(address string) bool {
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}

	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return false
	}

	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
		return true
	}

	return false
}

// proxyPasswords returns the parts of the proxies' addresses that must not be shown.
func proxyPasswords(cfg Config) (passwords []string) {
	for _, address := range []string{cfg.HTTPProxy, cfg.HTTPSProxy} {
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}

		if u, err := url.Parse(address); err == nil && u.User != nil {
			password, _ := u.User.Password()
			passwords = append(passwords, password, u.User.String())
		}
	}

	return passwords
}

// checkTunnel keeps the status of a refused tunnel, which net/http would turn into bare text.
func checkTunnel(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return &proxyRefusal{host: proxy.Host, status: answer.StatusCode}
}
