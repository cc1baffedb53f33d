package notice

// The sinks that use HTTP, and how their errors are made safe to show.

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
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bobosync/shared/athoc"
	"bobosync/shared/verdict"
)

// Message is a notice and the status at the moment of sending.
type Message struct {
	Notice
	Verdict verdict.Verdict
	Facts   verdict.Facts
}

// Sink is a way to send notices. Its errors contain no address and no secret.
type Sink interface {
	Name() string
	Send(ctx context.Context, m Message) error
}

// post sends a request. Any answer but a success (2xx) is an error.
func post(web *http.Client, req *http.Request) error {
	resp, err := web.Do(req)
	if err != nil {
		return harmless(err)
	}
	defer resp.Body.Close()

	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection can be reused
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("it answers with status %d", resp.StatusCode)
	}

	return nil
}

// harmless describes an error without quoting its text, which may contain an address or a secret.
func harmless(err error) error {
	var certificate *tls.CertificateVerificationError
	var hostname x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var dial *net.OpError
	var timeout net.Error

	if status, refused := athoc.ProxyRefusal(err); refused {
		return fmt.Errorf("the proxy refuses the way to it with status %d", status)
	}

	switch {
	case errors.As(err, &hostname):
		return errors.New("its certificate is for another name")
	case errors.As(err, &certificate), errors.As(err, &unknown):
		return errors.New("its certificate is not trusted")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("it does not answer in time")
	case errors.As(err, &dial) && dial.Op == "proxyconnect":
		return errors.New("the proxy cannot be reached")
	case errors.As(err, &dial) && dial.Op == "dial":
		return errors.New("it cannot be reached")
	case errors.Is(err, context.Canceled):
		return context.Canceled
	default:
		return errors.New("the connection failed")
	}
}

// newRequest returns a POST request with a JSON body.
func newRequest(ctx context.Context, address string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("its address cannot be used")
	}

	req.Header.Set("Content-Type", "application/json")

	return req, nil
}

// Webhook posts the status as JSON, signed as Standard Webhooks specifies.
type Webhook struct {
	// Web follows no redirects: they would take the notice elsewhere.
	Web     *http.Client
	Address string
	Key     []byte
	Now     func() time.Time
}

// Name implements Sink.
func (*Webhook) Name() string { return "webhook" }

// secretPrefix is the prefix of a Standard Webhooks secret; the rest is base64.
const secretPrefix = "whsec_"

// WebhookKey returns the key in a Standard Webhooks secret. The key must have 24 to 64 bytes.
func WebhookKey(secret string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, secretPrefix))
	if err != nil || len(key) < 24 || len(key) > 64 {
		return nil, errors.New("must be whsec_ and 24 to 64 random bytes in base64")
	}

	return key, nil
}

// Send implements Sink.
func (w *Webhook) Send(ctx context.Context, m Message) error {
	body, err := json.Marshal(webhookBody(m))
	if err != nil {
		return fmt.Errorf("write the status: %w", err)
	}

	req, err := newRequest(ctx, w.Address, body)
	if err != nil {
		return err
	}

	stamp := strconv.FormatInt(w.Now().Unix(), 10)
	mac := hmac.New(sha256.New, w.Key)
	fmt.Fprintf(mac, "%s.%s.%s", m.ID, stamp, body)
	req.Header.Set("Webhook-Id", m.ID)
	req.Header.Set("Webhook-Timestamp", stamp)
	req.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))

	return post(w.Web, req)
}

// body is the body of a webhook's request: the status as bobosync status --json prints it, in the envelope of Standard
// Webhooks.
type body struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      data      `json:"data"`
}

type data struct {
	verdict.Verdict
	Facts  verdict.Facts `json:"facts"`
	Notice Notice        `json:"notice"`
}

func webhookBody(m Message) body {
	b := body{Type: "bobosync." + string(m.Kind), Timestamp: m.At, Data: data{Verdict: m.Verdict, Facts: anonymous(m.Facts), Notice: m.Notice}}
	if b.Data.Findings == nil {
		b.Data.Findings = []verdict.Finding{} // an empty list rather than JSON's null
	}

	return b
}

// anonymous returns the facts without the users who make calls fail. The facts name no other users.
func anonymous(f verdict.Facts) verdict.Facts {
	if f.Breaker != nil {
		b := *f.Breaker
		b.PutOff = nil
		f.Breaker = &b
	}

	publishers := f.Publisher
	f.Publisher = nil
	for _, p := range publishers {
		p.Breaker.PutOff = nil
		f.Publisher = append(f.Publisher, p)
	}

	return f
}

// Teams posts an adaptive card to the address of a workflow.
type Teams struct {
	// Web follows no redirects; see Webhook.
	Web     *http.Client
	Address string
}

// Name implements Sink.
func (*Teams) Name() string { return "teams" }

// Send implements Sink.
func (t *Teams) Send(ctx context.Context, m Message) error {
	body, err := json.Marshal(card(m.Notice))
	if err != nil {
		return fmt.Errorf("write the card: %w", err)
	}

	req, err := newRequest(ctx, t.Address, body)
	if err != nil {
		return err
	}

	return post(t.Web, req)
}

// block is a part of a card's body.
type block struct {
	Type   string `json:"type"`
	Text   string `json:"text"`
	Wrap   bool   `json:"wrap"`
	Size   string `json:"size,omitempty"`
	Weight string `json:"weight,omitempty"`
	Color  string `json:"color,omitempty"`
}

// colors are the colours of the titles. They accompany the words and never replace them.
var colors = map[Kind]string{Worse: "Attention", Changing: "Warning", Decision: "Warning", Files: "Warning", AllClear: "Good"}

// card returns a message with one adaptive card.
func card(n Notice) any {
	blocks := []block{{Type: "TextBlock", Text: plain(n.Title), Wrap: true, Size: "Medium", Weight: "Bolder", Color: colors[n.Kind]}}
	for line := range strings.SplitSeq(n.Text, "\n") {
		if line != "" {
			blocks = append(blocks, block{Type: "TextBlock", Text: plain(line), Wrap: true})
		}
	}

	return map[string]any{
		"type": "message",
		"attachments": []any{map[string]any{
			"contentType": "application/vnd.microsoft.card.adaptive",
			"content": map[string]any{
				"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": blocks,
			},
		}},
	}
}

// plain escapes a text so that a card does not read it as Markdown, of which cards support links and lists. File
// names, for example, are chosen by others.
func plain(s string) string {
	return strings.NewReplacer("[", `\[`, "]", `\]`, "*", `\*`, "_", `\_`).Replace(s)
}
