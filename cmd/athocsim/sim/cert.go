package sim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const certLifetime = 365 * 24 * time.Hour

// certificates is the server's TLS configuration, and the file with what clients have to trust.
type certificates struct {
	config *tls.Config
	caFile string
	remove string // a directory that close removes
}

func openCertificates(o *Options) (*certificates, error) {
	c := &certificates{caFile: o.CertFile}
	certFile, keyFile := o.CertFile, o.KeyFile
	if certFile == "" {
		dir := o.TLSDirectory
		var err error
		if dir == "" {
			if dir, err = os.MkdirTemp("", "athocsim-tls-"); err != nil {
				return nil, fmt.Errorf("making a directory for the certificate: %w", err)
			}

			c.remove = dir
		}

		if dir, err = filepath.Abs(dir); err != nil {
			return nil, fmt.Errorf("certificate directory: %w", err)
		}

		c.caFile = filepath.Join(dir, "ca.pem")
		certFile, keyFile = filepath.Join(dir, "server.pem"), filepath.Join(dir, "server-key.pem")
		hosts := certHosts(o.TLSHosts)
		if !reusable(c.caFile, certFile, keyFile, hosts) {
			if err := makeCertificates(c.caFile, certFile, keyFile, hosts); err != nil {
				return nil, fmt.Errorf("making a certificate in %s: %w", dir, err)
			}
		}
	}

	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate %s: %w", certFile, err)
	}

	c.config = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}

	return c, nil
}

func (c *certificates) close() error {
	if c.remove == "" {
		return nil
	}
	return os.RemoveAll(c.remove)
}

func certHosts(more []string) []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil {
		hosts = append(hosts, name)
	}

	return append(hosts, more...)
}

// reusable reports whether a certificate and key from an earlier start are still good, so that clients can go on
// trusting the same file.
func reusable(caFile, certFile, keyFile string, hosts []string) bool {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return false
	}

	raw, err := os.ReadFile(caFile)
	if err != nil {
		return false
	}

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(raw)

	for _, h := range hosts {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: h, Roots: roots, CurrentTime: time.Now().Add(24 * time.Hour)})
		if err != nil {
			return false
		}
	}

	return true
}

// makeCertificates makes an authority, signs a server certificate with it, and discards the authority's key.
func makeCertificates(caFile, certFile, keyFile string, hosts []string) error {
	if err := os.MkdirAll(filepath.Dir(caFile), 0o700); err != nil {
		return err
	}

	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "athocsim CA " + now.UTC().Format(time.RFC3339)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}

	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1), Subject: pkix.Name{CommonName: "athocsim"},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}

	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}

	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return err
	}

	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return err
	}

	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}

	return writePEMs(pemFile{keyFile, "PRIVATE KEY", keyDER, 0o600}, pemFile{certFile, "CERTIFICATE", leafDER, 0o644},
		pemFile{caFile, "CERTIFICATE", caDER, 0o644})
}

type pemFile struct {
	path, kind string
	der        []byte
	mode       os.FileMode
}

func writePEMs(files ...pemFile) error {
	for _, f := range files {
		if err := writeFileAtomic(f.path, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), f.mode); err != nil {
			return err
		}
	}

	return nil
}
