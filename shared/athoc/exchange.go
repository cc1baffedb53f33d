package athoc

// This file carries out one HTTP request: it reads the answer within bounds, and turns whatever goes wrong into a
// CallError.

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The most bytes that an answer may have after decompression: what any answer may have, and what each user and each
// attribute of a user may add to that. A server that sends more than was asked for must not fill the memory.
const (
	answerBase         = 64 << 10
	answerPerUser      = 2 << 10
	answerPerAttribute = 2 << 10
)

// answerLimit returns the most bytes that an answer may have about so many users with so many attributes each.
func answerLimit(users, attributes int) int64 {
	return answerBase + int64(users)*(answerPerUser+int64(attributes)*answerPerAttribute)
}

// exchange is one HTTP request, and how its answer is read.
type exchange struct {
	op          string
	method, url string
	contentType string
	body        []byte
	token       Token
	// writes is set if the request changes something at AtHoc.
	writes bool
	// guard runs right before the body is sent.
	guard Guard
	// repeat runs before the exchange is repeated with another token.
	repeat Guard
	// limit is the most bytes that the answer may have.
	limit int64
	// read is given the body of a 200, as a stream without a byte-order mark, and a scrubber that hides the secrets in
	// it. An error from read means that the answer cannot be understood; the error must not quote the answer.
	read func(body io.Reader, scrub scrubber) error
	// usernames are hidden in whatever is quoted from the answer.
	usernames []string
}

// exchanger carries out exchanges, each as one request, which it never repeats. It is safe for concurrent use.
type exchanger struct {
	cfg  Config
	log  *slog.Logger
	http *http.Client
	// scrub hides the secrets of cfg.
	scrub scrubber
}

// do carries out one request within the configured time. Its error is a *CallError.
func (e *exchanger) do(ctx context.Context, x exchange) error {
	started := time.Now()

	limited, cancel := context.WithTimeout(ctx, e.cfg.Timeout)
	defer cancel()

	sending := &sending{ctx: limited, guard: x.guard}

	status, err := e.roundTrip(limited, x, sending)
	if err != nil {
		err = e.failed(ctx, x, sending, err)
	}

	took := time.Since(started)
	e.cfg.Observe(x.op, kindOfError(err), took)
	e.log.DebugContext(ctx, "athoc call", "operation", x.op, "status", status, "duration", took, "ok", err == nil)

	return err
}

// roundTrip returns the status, and either a *CallError for an answer or the transport's own error.
func (e *exchanger) roundTrip(ctx context.Context, x exchange, sending *sending) (int, error) {
	req, err := http.NewRequestWithContext(ctx, x.method, x.url, nil)
	if err != nil {
		return 0, fmt.Errorf("building the request: %w", err)
	}

	if x.body != nil {
		sending.attach(req, x.body)
		req.Header.Set("Content-Type", x.contentType)
	}

	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", e.cfg.UserAgent)

	if x.token.Access != "" {
		req.Header.Set("Authorization", "Bearer "+x.token.Access)
	}

	resp, err := e.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, e.refused(x, resp, sending)
	}

	return resp.StatusCode, e.understood(x, resp)
}

// understood reads the body of a 200 as it arrives. Whatever is wrong with it, AtHoc has carried out the request.
func (e *exchanger) understood(x exchange, resp *http.Response) error {
	limited := &limitedReader{from: resp.Body, left: x.limit, limit: x.limit}
	body := unmarked(limited)
	page := webPage(body)
	err := x.read(body, e.hiding(x))
	switch {
	case limited.err != nil:
		return &answerError{err: limited.err}
	case err != nil:
		detail := joinDetail(e.quote(x, page), err.Error())
		return &CallError{Kind: Outage, Op: x.op, Status: resp.StatusCode, Detail: detail, Err: err, mayHaveApplied: x.writes}
	}

	return nil
}

// byteOrderMark is the byte-order mark of UTF-8.
const byteOrderMark = "\uFEFF"

// unmarked returns what r yields without a leading byte-order mark, which may be ignored (RFC 8259, section 8.1).
func unmarked(r io.Reader) *bufio.Reader {
	body := bufio.NewReaderSize(r, quoteRead)
	if start, _ := body.Peek(len(byteOrderMark)); string(start) == byteOrderMark {
		_, _ = body.Discard(len(byteOrderMark))
	}

	return body
}

// limitedReader fails once more than limit bytes arrive. It keeps the error with which reading ended, unless that is
// io.EOF.
type limitedReader struct {
	from        io.Reader
	left, limit int64
	err         error
}

// Read implements [io.Reader].
func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left < 0 {
		return 0, l.err
	}

	n, err := l.from.Read(p[:min(int64(len(p)), l.left+1)])
	if l.left -= int64(n); l.left < 0 {
		err = fmt.Errorf("the answer is larger than %d bytes", l.limit)
	}

	if err != nil && !errors.Is(err, io.EOF) {
		l.err = err
	}

	return n, err
}

var titlePattern = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

// webPage describes a body that is a web page, for instance that of a login or a firewall; it returns "" for any other
// body. It consumes nothing of the body.
func webPage(body *bufio.Reader) string {
	start, _ := body.Peek(quoteRead)
	if trimmed := bytes.TrimSpace(start); len(trimmed) == 0 || trimmed[0] != '<' {
		return ""
	}

	said := "a web page came instead of AtHoc's answer: is something else at ATHOC_SERVER_URL, or on the path to it?"
	if title := titlePattern.FindSubmatch(start); title != nil {
		said += " Its title: " + html.UnescapeString(string(title[1]))
	}

	return said
}

// hiding returns a scrubber that hides the client's secrets and the exchange's access token.
func (e *exchanger) hiding(x exchange) scrubber {
	return scrubber{secrets: append(newScrubber(x.token.Access).secrets, e.scrub.secrets...)}
}

// quote makes foreign text fit for an error: without secrets, without the usernames of the exchange, and no longer than
// a line.
func (e *exchanger) quote(x exchange, text string) string {
	return e.hiding(x).quote(text, x.usernames...)
}

// answerError is a failure after the answer had begun.
type answerError struct{ err error }

func (e *answerError) Error() string { return "reading the answer: " + e.err.Error() }
func (e *answerError) Unwrap() error { return e.err }

// refused returns the CallError for an answer that is not a 200.
func (e *exchanger) refused(x exchange, resp *http.Response, sending *sending) error {
	kind := kindOf(resp.StatusCode)

	body := unmarked(io.LimitReader(resp.Body, quoteRead))
	page := webPage(body)
	said := e.quote(x, page)
	if said == "" {
		quoted, _ := io.ReadAll(body) // what did arrive is worth quoting
		if said = e.quote(x, string(quoted)); said != "" {
			said = "the server said: " + said
		}
	}

	return &CallError{
		Kind:           kind,
		Op:             x.op,
		Status:         resp.StatusCode,
		RetryAfter:     parseRetryAfter(resp.Header.Get("Retry-After"), e.cfg.Now()),
		Detail:         joinDetail(advice(x.op, kind, resp.StatusCode), e.quote(x, redirectDetail(resp)), said),
		mayHaveApplied: x.writes && kind == Outage && sending.whole.Load(),
	}
}

// redirectDetail names where a redirect leads, without path and query, which might hold a secret.
func redirectDetail(resp *http.Response) string {
	if resp.StatusCode < 300 || resp.StatusCode >= 400 {
		return ""
	}

	to, err := resp.Location()
	if err != nil {
		return "the server redirects to an unknown place"
	}

	return fmt.Sprintf("the server redirects to %s://%s, which is not followed", to.Scheme, to.Host)
}

// failed returns the CallError for anything that went wrong without a complete answer.
func (e *exchanger) failed(ctx context.Context, x exchange, sending *sending, err error) error {
	if call, ok := errors.AsType[*CallError](err); ok {
		return call
	}

	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // its text contains the address, and that the search criteria
	}

	_, answered := errors.AsType[*answerError](err)
	call := &CallError{Kind: Outage, Op: x.op, Err: err, begun: sending.part.Load(), mayHaveApplied: x.writes && (answered || sending.whole.Load())}
	if answered {
		call.Status = http.StatusOK
	}

	if refusal := sending.refusal(); refusal != nil {
		call.Kind, call.Err, call.Detail, call.mayHaveApplied = Canceled, refusal, "not sent: the guard refused", false
		return call
	}

	if errors.Is(ctx.Err(), context.Canceled) {
		call.Kind = Canceled
	}

	if refusal, ok := errors.AsType[*proxyRefusal](err); ok && refusal.status == http.StatusProxyAuthRequired {
		call.Kind = NotFound
	}

	call.Detail = e.describe(ctx, x, err)

	return call
}

// describe explains a failed connection to an operator.
func (e *exchanger) describe(ctx context.Context, x exchange, err error) string {
	said := e.quote(x, err.Error())
	var (
		refusal   *proxyRefusal
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		lookup    *net.DNSError
		timeout   interface{ Timeout() bool }
	)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return "the caller gave up"
	case ctx.Err() != nil:
		return "the caller's deadline passed"
	case errors.As(err, &refusal):
		return joinDetail(said, "check HTTP_PROXY, HTTPS_PROXY and NO_PROXY")
	case errors.As(err, &authority):
		return joinDetail(said, "name the CA that signed AtHoc's certificate in SSL_CERT_PATH")
	case errors.As(err, &verify):
		return joinDetail(said, "check AtHoc's certificate, ATHOC_SERVER_URL and this machine's clock")
	case errors.As(err, &lookup):
		return joinDetail(said, "check ATHOC_SERVER_URL, the proxy settings and the name service")
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no complete answer within %s (ATHOC_TIMEOUT): %s", e.cfg.Timeout, said)
	case errors.Is(err, syscall.ECONNREFUSED):
		return joinDetail(said, "nothing listens there: AtHoc is down, or ATHOC_SERVER_URL or the proxy is wrong")
	}

	return said
}

// joinDetail joins the parts that are not empty.
func joinDetail(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), "; ")
}

// sending tracks a request's body on its way to the network. The transport reads the body in a goroutine of its own,
// which may go on for a moment after the call has ended.
type sending struct {
	ctx   context.Context //nolint:containedctx // lives for one exchange only
	guard Guard
	part  atomic.Bool // a part of the body was handed over
	whole atomic.Bool // the body was handed over to its last byte

	mu      sync.Mutex
	refused error
}

// attach gives the request its body. GetBody lets net/http use another connection if an idle one turns out to be closed
// before anything was sent; net/http never repeats a request that may have been sent.
func (s *sending) attach(req *http.Request, body []byte) {
	open := func() (io.ReadCloser, error) {
		return io.NopCloser(&sendingBody{sending: s, rest: bytes.NewReader(body)}), nil
	}
	req.Body, _ = open()
	req.GetBody = open
	req.ContentLength = int64(len(body))
}

// refusal returns the guard's error; nil if the guard has not refused.
func (s *sending) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// begin runs at the last moment at which nothing of the request has reached AtHoc. It checks the deadline and asks the
// guard.
func (s *sending) begin() error {
	// The timer that ends a context fires late in a process that was suspended for a while, so check the clock.
	if deadline, ok := s.ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}

	if err := s.ctx.Err(); err != nil {
		return err
	}

	if s.guard == nil {
		return nil
	}

	err := s.guard(s.ctx)
	s.mu.Lock()
	defer s.mu.Unlock()

	s.refused = err

	return err
}

// sendingBody is one pass over the body.
type sendingBody struct {
	*sending
	rest  *bytes.Reader
	begun bool
}

// Read implements [io.Reader].
func (b *sendingBody) Read(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		if err := b.begin(); err != nil {
			return 0, err
		}
	}

	n, err := b.rest.Read(p)
	b.part.Store(true)

	if b.rest.Len() == 0 {
		b.whole.Store(true)
	}

	return n, err
}
