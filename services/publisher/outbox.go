package publisher

import (
	"context"
	"fmt"
	"slices"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// answersPerMessage keeps a message of answers well below the broker's limit of 1 MB: an answer has about 300 bytes.
const answersPerMessage = 1000

// outbox publishes what the publisher stores in the broker. When a method returns nil, everything it was given is
// stored.
type outbox struct {
	pub *bus.Publisher
}

func newOutbox(conn *bus.Conn) (*outbox, error) {
	pub, err := bus.NewPublisher(conn, bus.PublisherConfig{})
	if err != nil {
		return nil, err
	}

	return &outbox{pub: pub}, nil
}

func (o *outbox) close() { _ = o.pub.Close() } // it only waits for calls, and there are none left

// answers stores AtHoc's answers to calls. All answers to one call are in messages that name the call.
func (o *outbox) answers(ctx context.Context, calls []event.Call, answers, inDoubt []event.Answer) error {
	var msgs []*message.Message

	add := func(acks event.Acks) {
		acks.From, acks.Calls = name, calls
		msgs = append(msgs, message.NewMessageWithContext(ctx, watermill.NewUUID(), event.Encode(&acks)))
	}
	for part := range slices.Chunk(answers, answersPerMessage) {
		add(event.Acks{Answers: part})
	}

	for part := range slices.Chunk(inDoubt, answersPerMessage) {
		add(event.Acks{InDoubt: part})
	}

	if err := o.pub.Publish(topology.SubjectAcks, msgs...); err != nil {
		return fmt.Errorf("publish AtHoc's answers: %w", err)
	}

	return nil
}
