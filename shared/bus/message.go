package bus

import (
	"context"
	"fmt"
	"strings"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Keys of metadata, and headers.
const (
	// MsgIDKey is the metadata key (and header) by which the stream drops duplicates within its window. It is not set
	// automatically. The UUID would not do: a message that is passed on within its own stream would vanish.
	MsgIDKey = jetstream.MsgIDHeader
	// UUIDHeader carries the Watermill UUID.
	UUIDHeader = "Bobo-Message-Uuid"
	// subjectKey is the metadata key of a message's own subject; it does not become a header.
	subjectKey = "Bobo-Subject"
)

// NewMessage returns a message for [Publisher.PublishAll] and [Publisher.PublishBatch], to be stored under the subject.
// Its metadata become headers.
func NewMessage(subject string, payload []byte) *message.Message {
	m := message.NewMessage(watermill.NewUUID(), payload)
	m.Metadata.Set(subjectKey, subject)
	return m
}

// subjectOf returns a message's own subject, or topic if it has none.
func subjectOf(m *message.Message, topic string) string {
	if subject := m.Metadata.Get(subjectKey); subject != "" {
		return subject
	}
	return topic
}

// marshal turns Watermill messages into NATS messages. Metadata that a header cannot carry unchanged are an error: the
// client library would silently drop such a key, and rewrite such a value.
func marshal(topic string, messages []*message.Message) ([]*nats.Msg, error) {
	out := make([]*nats.Msg, len(messages))
	for i, m := range messages {
		h := nats.Header{}
		if m.UUID != "" {
			h.Set(UUIDHeader, m.UUID)
		}

		for k, v := range m.Metadata {
			if k == subjectKey {
				continue
			}

			if !validKey(k) {
				return nil, fmt.Errorf("message %s: metadata key %q cannot be a header name", m.UUID, k)
			}

			if strings.ContainsAny(v, "\r\n") || strings.TrimSpace(v) != v {
				return nil, fmt.Errorf("message %s: value of metadata %q has a line break or outer spaces", m.UUID, k)
			}

			h.Set(k, v)
		}

		out[i] = &nats.Msg{Subject: subjectOf(m, topic), Header: h, Data: m.Payload}
	}

	return out, nil
}

// validKey reports whether k is a token of RFC 9110, section 5.6.2.
func validKey(k string) bool {
	if k == "" {
		return false
	}

	return strings.IndexFunc(k, func(r rune) bool {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !alnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	}) < 0
}

// unmarshal makes the Watermill message of a batch. Its payload is that of the items, one per line; the items' data
// become parts of it. The UUID and the metadata are those of the first item, without the server's own "Nats-…" headers,
// so that a message that is passed on does not take its message id or its expectations with it. If a header has several
// values, the metadata hold the first. Without a UUID header, the UUID is "stream-sequence".
func unmarshal(ctx context.Context, b *Batch) *message.Message {
	first := b.Items[0]
	uuid := first.Headers.Get(UUIDHeader)
	if uuid == "" {
		uuid = fmt.Sprintf("%s-%d", first.Stream, first.Sequence)
	}

	m := message.NewMessageWithContext(ctx, uuid, b.payload())
	for k, v := range first.Headers {
		if k != UUIDHeader && !strings.HasPrefix(k, "Nats-") && len(v) > 0 {
			m.Metadata.Set(k, v[0])
		}
	}

	return m
}
