package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"
)

// expiresSoon is how long before a certificate expires the check warns of it.
const expiresSoon = 30 * 24 * time.Hour

// whyNoConnection says in plain words why an address cannot be reached. The parameter where is a name, or host:port.
func whyNoConnection(err error, where string) string {
	var lookup *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &lookup) && lookup.IsNotFound:
		return fmt.Sprintf("the name service (DNS) does not know the name %s", lookup.Name)
	case errors.As(err, &lookup):
		return fmt.Sprintf("the name service (DNS) does not answer for %s", lookup.Name)
	case errors.Is(err, syscall.ECONNREFUSED), refused(err):
		return "nothing listens at " + where
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no way from this machine to " + where
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no answer from %s: it is switched off, or a firewall drops the packets", where)
	case errors.Is(err, syscall.ECONNRESET):
		return where + " resets the connection: a firewall, or another service listens there"
	}

	return fmt.Sprintf("%s cannot be reached: %v", where, err)
}

// refused also recognises a refusal by its text, because operating systems number it differently.
func refused(err error) bool { return strings.Contains(err.Error(), "refused") }

// whyNoTLS says in plain words why a TLS connection failed, and what to do; ok is false if the error is of another
// kind. The parameters ca and address name the variables that decide how the certificate is judged.
func whyNoTLS(err error, now time.Time, ca, address string) (message, advice string, ok bool) {
	var (
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
		name      x509.HostnameError
		verify    *tls.CertificateVerificationError
		record    tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &authority):
		return "the certificate is signed by an authority that this machine does not know" + issuedBy(authority.Cert),
			fmt.Sprintf("name a file with that authority's certificate (PEM) in %s", ca), true
	case errors.As(err, &name):
		return fmt.Sprintf("the certificate is not for the name %s, but for %s", name.Host, names(name.Certificate)),
			fmt.Sprintf("use one of these names in %s, or have the certificate renewed", address), true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert.IsCA:
		return whyNotNow(invalid.Cert, now),
			fmt.Sprintf("put that authority's new certificate into %s, or have the server send it; if its dates look right, set this machine's clock", ca), true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return whyNotNow(invalid.Cert, now), "have the certificate renewed; if its dates look right, set this machine's clock", true
	case errors.As(err, &verify):
		return fmt.Sprintf("the certificate is not accepted: %v", verify.Err), fmt.Sprintf("check the certificate, and %s", ca), true
	case errors.As(err, &record), strings.Contains(err.Error(), "HTTP response to HTTPS client"):
		return "what answers does not speak TLS", fmt.Sprintf("check scheme and port of %s", address), true
	case strings.Contains(err.Error(), "protocol version"):
		return "the other side speaks no TLS 1.2 or newer", "have TLS 1.2 or 1.3 switched on there; older ones are not safe and not used", true
	case strings.Contains(err.Error(), "certificate required"), strings.Contains(err.Error(), "bad certificate"):
		return "the other side wants a certificate from the client, which is not supported", "have the demand for client certificates switched off", true
	}

	return "", "", false
}

// whyNotNow distinguishes an expired certificate from one that is not yet valid.
func whyNotNow(c *x509.Certificate, now time.Time) string {
	whose := "the certificate"
	if c.IsCA {
		whose = fmt.Sprintf("the certificate of the authority that signs it (%s)", c.Subject)
	}

	if now.Before(c.NotBefore) {
		return fmt.Sprintf("%s is not valid before %s, and this machine's clock says %s", whose, c.NotBefore.Local().Format(time.DateTime), now.Local().Format(time.DateTime))
	}

	return fmt.Sprintf("%s has expired on %s", whose, c.NotAfter.Local().Format(time.DateTime))
}

func issuedBy(c *x509.Certificate) string {
	if c == nil || c.Issuer.String() == "" {
		return ""
	}
	return fmt.Sprintf(" (%s)", c.Issuer)
}

// names lists the names and addresses that a certificate is valid for.
func names(c *x509.Certificate) string {
	all := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}

	if len(all) == 0 {
		return "no name at all"
	}

	return strings.Join(all, ", ")
}

// judgeTLS describes a TLS connection, and warns if its certificate expires soon.
func judgeTLS(state tls.ConnectionState, now time.Time) []Result {
	version := tls.VersionName(state.Version)
	if len(state.PeerCertificates) == 0 {
		return good("%s", version)
	}

	end, whose := trustedUntil(state), "the certificate"
	if end.Before(state.PeerCertificates[0].NotAfter) {
		whose = "the certificate of an authority in its chain"
	}

	left := end.Sub(now)
	if left < expiresSoon {
		return warn("have it renewed in time", "%s, but %s expires in %d days, on %s", version, whose, max(0, int(left.Hours()/24)), end.Local().Format(time.DateTime))
	}

	return good("%s, certificate by %s, valid until %s", version, authorityOf(state.PeerCertificates[0]), end.Local().Format(time.DateOnly))
}

// trustedUntil returns when a connection's certificate ceases to be trusted: when the last of its verified chains ends.
// A chain ends when the first of its certificates expires. If nothing was verified, the chain that the server sent
// counts.
func trustedUntil(state tls.ConnectionState) (end time.Time) {
	chains := state.VerifiedChains
	if len(chains) == 0 {
		chains = [][]*x509.Certificate{state.PeerCertificates}
	}

	for _, chain := range chains {
		first := chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotAfter.Before(first) {
				first = c.NotAfter
			}
		}

		if first.After(end) {
			end = first
		}
	}

	return end
}

func authorityOf(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	return c.Issuer.String()
}
