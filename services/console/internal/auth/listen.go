package auth

// The console's TLS, and the limit on connections.

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"

	"golang.org/x/net/netutil"
)

// maxConnections bounds how many connections are open at once; further ones have to wait.
const maxConnections = 1024

// Guard limits the connections of a listener, and makes it speak TLS if the settings say so. Certificates are read
// again when their files change.
func (c Config) Guard(listener net.Listener, log *slog.Logger) (net.Listener, error) {
	listener = netutil.LimitListener(listener, maxConnections)
	if c.Cert == "" {
		return listener, nil
	}

	files := &certificates{cfg: c, log: log}
	if _, err := files.config(nil); err != nil {
		return nil, err
	}

	return tls.NewListener(listener, &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols, GetConfigForClient: files.config,
	}), nil
}

var protocols = []string{"h2", "http/1.1"}

// certificates holds the files of certificates as they were last read.
type certificates struct {
	cfg Config
	log *slog.Logger

	mu    sync.Mutex
	stamp string
	wrong string // why the files with this stamp cannot be used; empty if they can
	now   *tls.Config
}

// config returns the TLS settings for a new connection. As long as changed files cannot be used, the previous
// certificates stay in use, and the files are tried again: what repairs them, such as another mode or owner, need not
// change their stamps.
func (c *certificates) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()

	stamp := c.stamps()
	if c.now != nil && stamp == c.stamp && c.wrong == "" {
		return c.now, nil
	}

	cfg, err := readCertificates(c.cfg.Cert, c.cfg.Key, c.cfg.ClientCA)
	switch {
	case err == nil:
		if c.now != nil {
			c.log.Info("the console's certificates have changed and are used")
		}

		c.now, c.wrong = cfg, ""
	case c.now == nil:
		return nil, err
	case stamp != c.stamp || err.Error() != c.wrong:
		c.wrong = err.Error()
		c.log.Error("the console's certificates have changed and cannot be used; those from before hold", "error", err)
	}

	c.stamp = stamp

	return c.now, nil
}

func (c *certificates) stamps() (all string) {
	for _, path := range []string{c.cfg.Cert, c.cfg.Key, c.cfg.ClientCA} {
		stamp, _ := stampOf(path) // a file that cannot be read now is read when it can be
		all += stamp + "|"
	}

	return all
}

// readCertificates reads the files of a certificate and its key and, if there is one, of the authority of the
// certificates that browsers must have.
func readCertificates(certFile, keyFile, clientCA string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("CONSOLE_TLS_CERT, CONSOLE_TLS_KEY: %w", err)
	}

	cfg := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: []tls.Certificate{cert}}
	if clientCA == "" {
		return cfg, nil
	}

	pem, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, fmt.Errorf("CONSOLE_CLIENT_CA: %w", err)
	}

	cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, errors.New("CONSOLE_CLIENT_CA: holds no certificate")
	}

	return cfg, nil
}
