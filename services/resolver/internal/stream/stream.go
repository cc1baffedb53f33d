// Package stream reads streams of the broker from their beginning.
package stream

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Each calls f for the messages that a stream holds when it begins, as far as from takes them.
func Each(ctx context.Context, js jetstream.JetStream, name string, from jetstream.OrderedConsumerConfig, f func(data []byte, subject string)) error {
	if err := each(ctx, js, name, from, f); err != nil {
		return fmt.Errorf("read stream %s: %w", name, err)
	}
	return nil
}

func each(ctx context.Context, js jetstream.JetStream, name string, from jetstream.OrderedConsumerConfig, f func(data []byte, subject string)) error {
	stream, err := js.Stream(ctx, name)
	if err != nil {
		return err
	}
	last := stream.CachedInfo().State.LastSeq
	consumer, err := stream.OrderedConsumer(ctx, from)
	if err != nil {
		return err
	}
	info, err := consumer.Info(ctx)
	if err != nil || info.NumPending == 0 {
		return err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return err
	}
	defer messages.Stop()
	for {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		f(msg.Data(), msg.Subject())
		if meta.Sequence.Stream >= last || meta.NumPending == 0 {
			return nil
		}
	}
}
