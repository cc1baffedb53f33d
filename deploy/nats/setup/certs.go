package setup

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Names of the files that Certificates writes, below the directory that it is given, and for how long the
// certificates are valid.
const (
	CAFile     = "ca.crt"
	caKeyFile  = "ca.key"
	CertFile   = "server.crt"
	KeyFile    = "server.key"
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 825 * 24 * time.Hour
	// clockSlack is how far the clocks of two machines may differ.
	clockSlack = time.Hour
)

// Certificates makes a certificate for a broker that is reached by these names or IP addresses, good for both sides
// of a connection and valid for 825 days from now. It is signed by the private authority in dir, which is made if
// there is none, and which is valid for ten years.
func Certificates(dir string, hosts []string, now time.Time) error {
	if len(hosts) == 0 {
		return errors.New("name the hosts by which the broker is reached")
	}

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the certificates: %w", err)
	}

	ca, caKey, err := authority(dir, now)
	if err != nil {
		return err
	}

	if !now.Before(ca.NotAfter) {
		return fmt.Errorf("the private authority has expired on %s: move %s and %s away to have a new one made, and give everyone its %[2]s (NATS_CA)",
			ca.NotAfter.Local().Format(time.DateOnly), CAFile, caKeyFile)
	}

	end := now.Add(serverLife)
	if end.After(ca.NotAfter) {
		end = ca.NotAfter
	}

	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: now.Add(-clockSlack), NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}

	if _, _, err := issue(template, ca, caKey, filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile)); err != nil {
		return fmt.Errorf("make the broker's certificate: %w", err)
	}

	return nil
}

// authority reads the private authority, or makes one.
func authority(dir string, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPath, keyPath := filepath.Join(dir, CAFile), filepath.Join(dir, caKeyFile)
	certBlock, err := readPEM(certPath)
	if errors.Is(err, fs.ErrNotExist) {
		template := &x509.Certificate{
			Subject: pkix.Name{CommonName: "BOBO Sync broker authority"}, NotBefore: now.Add(-clockSlack), NotAfter: now.Add(caLife),
			IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
		}

		cert, key, err := issue(template, nil, nil, certPath, keyPath)
		if err != nil {
			return nil, nil, fmt.Errorf("make a private authority: %w", err)
		}

		return cert, key, nil
	}

	if err != nil {
		return nil, nil, fmt.Errorf("read the private authority: %w", err)
	}

	keyBlock, err := readPEM(keyPath)
	if err != nil {
		return nil, nil, fmt.Errorf("read the key of the private authority: %w", err)
	}

	cert, err := x509.ParseCertificate(certBlock)
	if err != nil {
		return nil, nil, fmt.Errorf("read the private authority: %w", err)
	}

	key, err := x509.ParsePKCS8PrivateKey(keyBlock)
	if err != nil {
		return nil, nil, fmt.Errorf("read the key of the private authority: %w", err)
	}

	signer, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("the key of the private authority in %s is of another kind than this makes", keyPath)
	}

	return cert, signer, nil
}

// issue makes a key and a certificate for it, signed by the parent, or by its own key if parent is nil.
func issue(template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey, certPath, keyPath string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}

	if template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120)); err != nil {
		return nil, nil, err
	}

	if parent == nil {
		parent, parentKey = template, key
	}

	cert, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return nil, nil, err
	}

	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}

	err = errors.Join(
		replaceFile(keyPath, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		replaceFile(certPath, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644))
	if err != nil {
		return nil, nil, err
	}

	made, err := x509.ParseCertificate(cert)

	return made, key, err
}

func readPEM(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", path)
	}

	return block.Bytes, nil
}
