package bus

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// marshal turns a Watermill message into one of NATS. Metadata that a header cannot carry unchanged is an error: the
// client library would silently drop such a key, and rewrite such a value.
func marshal(subject string, m *message.Message) (*nats.Msg, error) {
	h := nats.Header{}
	for k, v := range m.Metadata {
		if !validKey(k) {
			return nil, fmt.Errorf("message %s: metadata key %q cannot be a header name", m.UUID, k)
		}
		if strings.ContainsAny(v, "\r\n") || strings.TrimSpace(v) != v {
			return nil, fmt.Errorf("message %s: value of metadata %q has a line break or outer spaces", m.UUID, k)
		}
		h.Set(k, v)
	}
	if m.UUID != "" {
		h.Set(UUIDHeader, m.UUID)
	}
	return &nats.Msg{Subject: subject, Header: h, Data: m.Payload}, nil
}

// validKey says whether k is a token of RFC 9110, section 5.6.2.
func validKey(k string) bool {
	if k == "" {
		return false
	}
	return strings.IndexFunc(k, func(r rune) bool {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}) < 0
}

// Unmarshal turns a JetStream message into one of Watermill. Of a header with several values the metadata hold the
// first; all are in Info.Headers. The server's own "Nats-…" headers are left out, so that a message which is passed on
// does not take its message id or its expectations with it. Without a UUID header the UUID is "stream-sequence".
func Unmarshal(m jetstream.Msg) (*message.Message, error) {
	meta, err := m.Metadata()
	if err != nil {
		return nil, fmt.Errorf("read delivery data: %w", err)
	}
	uuid := m.Headers().Get(UUIDHeader)
	if uuid == "" {
		uuid = fmt.Sprintf("%s-%d", meta.Stream, meta.Sequence.Stream)
	}
	msg := message.NewMessage(uuid, m.Data())
	for k, v := range m.Headers() {
		if k != UUIDHeader && !strings.HasPrefix(k, "Nats-") && len(v) > 0 {
			msg.Metadata.Set(k, v[0])
		}
	}
	return msg, nil
}

// Info is what JetStream knows about a delivered message.
type Info struct {
	Subject  string
	Headers  nats.Header
	Stream   string
	Consumer string
	// Sequence is the position in the stream.
	Sequence uint64
	// Time is when the stream stored the message.
	Time time.Time
	// NumDelivered counts deliveries, this one included.
	NumDelivered uint64
	// NumPending is how many messages of the consumer were still undelivered at that moment.
	NumPending uint64
}

func infoOf(m jetstream.Msg) (Info, error) {
	meta, err := m.Metadata()
	if err != nil {
		return Info{}, fmt.Errorf("read delivery data: %w", err)
	}
	return Info{
		Subject: m.Subject(), Headers: m.Headers(), Stream: meta.Stream, Consumer: meta.Consumer,
		Sequence: meta.Sequence.Stream, Time: meta.Timestamp, NumDelivered: meta.NumDelivered, NumPending: meta.NumPending,
	}, nil
}

type deliveryKey struct{}

// delivery is one message in a handler's hands: what is known of it and what the handler says about it.
type delivery struct {
	info Info
	mu   sync.Mutex
	verdict
}

// verdict is what shall become of a message.
type verdict struct {
	kind   kind
	delay  time.Duration // of a nak
	reason string        // of a term
}

type kind int

const (
	undecided kind = iota
	acked
	nakked
	termed
)

// InfoFrom returns what is known of the message whose context this is; false outside a Subscriber's message.
func InfoFrom(ctx context.Context) (Info, bool) {
	if d, ok := ctx.Value(deliveryKey{}).(*delivery); ok {
		return d.info, true
	}
	return Info{}, false
}

// NakAfter sets when the message comes again if its handler fails (Nack). It has no effect on an Ack. False means that
// ctx is not that of a Subscriber's message.
func NakAfter(ctx context.Context, delay time.Duration) bool {
	return decide(ctx, verdict{kind: nakked, delay: delay})
}

// Term settles the message for good, never to be delivered again, whether its handler then fails or not. The reason
// shows up in the server's advisory. False means that ctx is not that of a Subscriber's message.
func Term(ctx context.Context, reason string) bool {
	return decide(ctx, verdict{kind: termed, reason: reason})
}

func decide(ctx context.Context, v verdict) bool {
	d, ok := ctx.Value(deliveryKey{}).(*delivery)
	if !ok {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.verdict = v
	return true
}

// final combines the handler's verdict with Watermill's Ack or Nack.
func (d *delivery) final(ack bool, backoff Backoff) verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.kind == termed:
		return d.verdict
	case ack:
		return verdict{kind: acked}
	case d.kind == nakked:
		return d.verdict
	default:
		return verdict{kind: nakked, delay: backoff(d.info.NumDelivered)}
	}
}

// apply sends the verdict to the server. An error means that it was not sent: the message then comes again after the
// consumer's AckWait.
func (v verdict) apply(m jetstream.Msg) error {
	switch v.kind {
	case termed:
		return m.TermWithReason(v.reason)
	case nakked:
		return m.NakWithDelay(max(v.delay, 0))
	default:
		return m.Ack()
	}
}

// Backoff says how long a message rests after it was delivered n times (1 or more) without success.
type Backoff func(n uint64) time.Duration

// DefaultBackoff is 1 s, doubled with each delivery, up to a minute.
func DefaultBackoff(n uint64) time.Duration {
	return min(time.Second<<min(n-min(n, 1), 6), time.Minute)
}

// heartbeat keeps messages from being delivered again while they are worked on.
type heartbeat struct {
	mu   sync.Mutex
	msgs map[jetstream.Msg]struct{}
}

func newHeartbeat() *heartbeat { return &heartbeat{msgs: map[jetstream.Msg]struct{}{}} }

func (h *heartbeat) add(m jetstream.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.msgs[m] = struct{}{}
}

func (h *heartbeat) remove(m jetstream.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.msgs, m)
}

// run renews all messages three times in each AckWait, until ctx ends.
func (h *heartbeat) run(ctx context.Context, ackWait time.Duration, logger *slog.Logger) {
	t := time.NewTicker(max(ackWait/3, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := h.beat(); err != nil {
				logger.Warn("messages in work could not be renewed and may be delivered again", "error", err)
			}
		}
	}
}

func (h *heartbeat) beat() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var last error
	for m := range h.msgs {
		if err := m.InProgress(); err != nil {
			last = err
		}
	}
	return last
}
