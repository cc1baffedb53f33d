package notice

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/control"
	"bobosync/shared/verdict"
)

const (
	sender, receiver = "bobosync@example.org", "duty@example.org"
	password         = "correct horse"
)

// mailServer is a real SMTP server.
type mailServer struct {
	port  int
	roots *tls.Config

	mu     sync.Mutex
	mails  []string
	to     []string
	refuse error
	hang   chan struct{}
}

// newMailServer starts a mail server for one user, with STARTTLS, or with TLS from the first byte if full is set.
func newMailServer(t *testing.T, full bool) *mailServer {
	t.Helper()

	web := httptest.NewTLSServer(nil) // for its certificate
	t.Cleanup(web.Close)

	pool := x509.NewCertPool()
	pool.AddCert(web.Certificate())
	m := &mailServer{roots: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: "127.0.0.1"}}
	srv := smtp.NewServer(m)
	srv.Domain, srv.TLSConfig = "localhost", &tls.Config{MinVersion: tls.VersionTLS12, Certificates: web.TLS.Certificates}
	srv.ErrorLog = silent{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)

	m.port = listener.Addr().(*net.TCPAddr).Port
	if full {
		listener = tls.NewListener(listener, srv.TLSConfig)
	}

	done := make(chan struct{})
	go func() {
		defer close(done)

		_ = srv.Serve(listener) // it returns when the server is closed
	}()

	t.Cleanup(func() {
		_ = srv.Close()
		_ = listener.Close() // the server does not have the listener yet if the test ended before Serve ran

		<-done
	})

	return m
}

type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// NewSession implements smtp.Backend.
func (m *mailServer) NewSession(*smtp.Conn) (smtp.Session, error) { return &mailSession{m: m}, nil }

type mailSession struct {
	m     *mailServer
	known bool
	to    []string
}

func (*mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }
func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, pass string) error {
		if user != sender || pass != password {
			return smtp.ErrAuthFailed
		}

		s.known = true

		return nil
	}), nil
}
func (*mailSession) Reset()        {}
func (*mailSession) Logout() error { return nil }

func (s *mailSession) Mail(string, *smtp.MailOptions) error {
	if !s.known {
		return smtp.ErrAuthRequired
	}

	s.m.mu.Lock()
	defer s.m.mu.Unlock()

	return s.m.refuse
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.to = append(s.to, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)

	if s.m.hang != nil {
		<-s.m.hang
	}

	s.m.mu.Lock()
	defer s.m.mu.Unlock()

	s.m.mails, s.m.to = append(s.m.mails, string(text)), s.to

	return err
}

func (m *mailServer) sink() *Mail {
	return &Mail{Host: "127.0.0.1", Port: m.port, TLS: TLSStart, Roots: m.roots, User: sender, Password: password, From: sender, To: []string{receiver, "night@example.org"}}
}

var aMessage = Message{
	Notice:  Notice{ID: "worse-1", Kind: Worse, At: noon, Title: "PROBLEM: Überfällig", Text: "AtHoc is down.\nDo: wait."},
	Verdict: verdict.Verdict{Level: verdict.Problem, Text: "late", Findings: []verdict.Finding{down}},
	Facts: verdict.Facts{
		At: noon, Breaker: &breaker.State{PutOff: []breaker.PutOff{{User: "jo@example.org"}}},
		Publisher: []control.PublisherState{{Breaker: breaker.State{PutOff: []breaker.PutOff{{User: "jo@example.org"}}}}},
	},
}

// send gives a sink some time, and checks that its error contains no secret.
func send(t *testing.T, s Sink, patience time.Duration) error {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	err := s.Send(ctx, aMessage)
	for _, secret := range []string{sender, receiver, password, "127.0.0.1", "token"} {
		if err != nil {
			require.NotContains(t, err.Error(), secret)
		}
	}

	return err
}

const timeout = time.Minute

func TestMailArrives(t *testing.T) {
	t.Parallel()

	for name, full := range map[string]bool{"starttls": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			m := newMailServer(t, full)
			sink := m.sink()
			if full {
				sink.TLS = TLSFull
			}

			require.NoError(t, send(t, sink, timeout))
			require.Equal(t, []string{receiver, "night@example.org"}, m.to)
			got, err := mail.ReadMessage(strings.NewReader(m.mails[0]))
			require.NoError(t, err)
			require.Equal(t, "<worse-1@bobosync>", got.Header.Get("Message-Id"))
			require.Equal(t, "auto-generated", got.Header.Get("Auto-Submitted"))
			require.Contains(t, m.mails[0], "AtHoc is down.")
		})
	}
}

// TestMailThatDoesNot checks the errors if mail is refused or slow, if the certificate or the password is wrong, or if
// there is no server.
func TestMailThatDoesNot(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		spoil func(t *testing.T, m *mailServer, s *Mail)
		says  string
	}{
		"nobody there": {func(t *testing.T, _ *mailServer, s *Mail) { s.Port = freePort(t) }, "it cannot be reached"},
		"wrong certificate": {func(_ *testing.T, _ *mailServer, s *Mail) {
			s.Roots = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: "127.0.0.1"}
		}, "its certificate is not trusted"},
		"another name": {func(_ *testing.T, m *mailServer, s *Mail) {
			s.Roots = m.roots.Clone()
			s.Roots.ServerName = "mail.elsewhere.org"
		}, "its certificate is for another name"},
		"wrong password": {func(_ *testing.T, _ *mailServer, s *Mail) { s.Password = "guess" }, ""},
		"refusing": {func(_ *testing.T, m *mailServer, _ *Mail) {
			m.refuse = &smtp.SMTPError{Code: 554, Message: "not for " + receiver}
		}, "the mail server refuses it with 554"},
		"hanging": {func(t *testing.T, m *mailServer, _ *Mail) {
			m.hang = make(chan struct{})
			t.Cleanup(func() { close(m.hang) })
		}, "it does not answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMailServer(t, false)
			sink := m.sink()
			c.spoil(t, m, sink)

			long := timeout
			if name == "hanging" {
				long = 2 * time.Second
			}

			require.ErrorContains(t, send(t, sink, long), c.says)
			require.Empty(t, m.mails)
		})
	}
}

func freePort(t *testing.T) int {
	t.Helper()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)

	defer l.Close()

	return l.Addr().(*net.TCPAddr).Port
}

// TestTheWebhookIsSigned checks the signature as a receiver of Standard Webhooks does, and that the body has the
// status as the command has it, without any names of users.
func TestTheWebhookIsSigned(t *testing.T) {
	t.Parallel()

	key := bytes.Repeat([]byte{7}, 32)
	secret := "whsec_" + base64.StdEncoding.EncodeToString(key)
	var got struct {
		Type string
		Data struct {
			Verdict  string
			Findings []verdict.Finding
			Facts    verdict.Facts
			Notice   Notice
		}
	}

	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil || !signed(r.Header, raw, secret) || strings.Contains(string(raw), "jo@example.org") || json.Unmarshal(raw, &got) != nil {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer srv.Close()

	used, err := WebhookKey(secret)
	require.NoError(t, err)
	sink := &Webhook{Web: web(t), Address: srv.URL + "/hook?token=1", Key: used, Now: time.Now}
	require.NoError(t, send(t, sink, timeout))
	require.Equal(t, "bobosync.worse", got.Type)
	require.Equal(t, "problem", got.Data.Verdict)
	require.Equal(t, aMessage.Notice, got.Data.Notice)
	require.Equal(t, []verdict.Finding{down}, got.Data.Findings)
	require.True(t, got.Data.Facts.At.Equal(noon))

	sink.Key = bytes.Repeat([]byte{8}, 32)
	require.ErrorContains(t, send(t, sink, timeout), "status 401")

	for _, bad := range []string{"", "whsec_", "whsec_!!", "whsec_" + base64.StdEncoding.EncodeToString([]byte("short"))} {
		_, err := WebhookKey(bad)
		require.Error(t, err, bad)
	}
}

// signed checks a signature as the specification requires of receivers.
func signed(h http.Header, raw []byte, secret string) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + string(raw)))
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))

	return err == nil && h.Get("webhook-id") != "" && hmac.Equal([]byte(want), []byte(h.Get("webhook-signature")))
}

func TestTheCardFitsItsSchema(t *testing.T) {
	t.Parallel()

	schema, err := jsonschema.NewCompiler().Compile("testdata/card.schema.json")
	require.NoError(t, err)
	var cards []any

	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		card, err := jsonschema.UnmarshalJSON(r.Body)
		if err != nil || r.Header.Get("Content-Type") != "application/json" {
			w.WriteHeader(http.StatusBadRequest)
		}

		cards = append(cards, card)

		w.WriteHeader(http.StatusAccepted)
	}))
	defer srv.Close()

	for _, kind := range []Kind{Worse, Changing, Decision, Files, AllClear, Digest, Test} {
		m := aMessage
		m.Kind, m.Text = kind, "File [click](https://evil.example) has *no* row\n\nDo: look"
		require.NoError(t, (&Teams{Web: web(t), Address: srv.URL}).Send(t.Context(), m))
	}

	require.Len(t, cards, 7)

	for _, card := range cards {
		require.NoError(t, schema.Validate(card))
	}

	text, err := json.Marshal(cards[0])
	require.NoError(t, err)
	require.NotContains(t, string(text), "[click](", "what others chose is no link")
	require.Error(t, schema.Validate(map[string]any{"type": "message", "attachments": []any{}}), "the schema refuses something")
}

// web returns the client of a janitor whose settings for connections to AtHoc are the defaults.
func web(t *testing.T) *http.Client {
	t.Helper()

	c, err := athoc.NewWeb(athoc.Config{Timeout: timeout})
	require.NoError(t, err)

	return c
}

// TestWhatAWebhookMayDo checks receivers that hang, fail, are away, redirect, or have a certificate that is not
// trusted.
func TestWhatAWebhookMayDo(t *testing.T) {
	t.Parallel()

	release := make(chan struct{})

	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was followed") }))

	defer elsewhere.Close()

	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			<-release
		case "/fail":
			w.WriteHeader(http.StatusBadGateway)
		default:
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}
	}))
	defer srv.Close()
	defer close(release)

	secure := httptest.NewTLSServer(nil)
	defer secure.Close()

	secure.Config.ErrorLog = nil
	gone := httptest.NewServer(nil)
	gone.Close()

	for address, says := range map[string]string{
		srv.URL + "/hang?token=1": "it does not answer in time", srv.URL + "/fail": "it answers with status 502", srv.URL + "/": "it answers with status 307",
		secure.URL: "its certificate is not trusted", gone.URL: "it cannot be reached",
	} {
		long := timeout
		if strings.Contains(address, "/hang") {
			long = 2 * time.Second
		}

		require.ErrorContains(t, send(t, &Teams{Web: web(t), Address: address}, long), says, address)
	}

	require.ErrorContains(t, harmless(errors.New("secret words")), "the connection failed")
}
