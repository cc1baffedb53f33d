package deadletter_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/deadletter"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

const timeout = 30 * time.Second

// rig is a router whose one handler reads a stream of messages, and the dead letters that result.
type rig struct {
	t    *testing.T
	conn *bus.Conn
	cons jetstream.Consumer
}

// newRig runs handle until the end of the test. Its consumer delivers messages one by one.
func newRig(t *testing.T, handle message.NoPublishHandlerFunc) *rig {
	t.Helper()
	r := &rig{t: t, conn: bustest.Start(t).Connect(t)}
	_, err := r.conn.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "IN", Subjects: []string{"in.>"}})
	require.NoError(t, err)
	r.cons, err = r.conn.JS.CreateConsumer(t.Context(), "IN", jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	pub, err := bus.NewPublisher(r.conn, bus.PublisherConfig{Timeout: time.Second})
	require.NoError(t, err)

	source := bus.PullSource(r.conn, bus.PullConfig{Stream: "IN", Consumer: "c", MaxItems: 1, PullWait: 100 * time.Millisecond, Logger: bustest.Logger()})
	sub, err := bus.NewSubscriber(r.conn, bus.SubscriberConfig{
		Source: func(string) bus.Source { return source }, Backoff: func(uint64) time.Duration { return 0 }, Logger: bustest.Logger(),
	})

	require.NoError(t, err)
	router, err := bus.NewRouter(bustest.Logger(), timeout, deadletter.Middleware(topology.Resolver, pub, bustest.Logger()))
	require.NoError(t, err)
	router.AddConsumerHandler("h", "in", sub, handle)

	ran := make(chan error, 1)
	go func() { ran <- router.Run(t.Context()) }()

	t.Cleanup(func() { require.NoError(t, <-ran) })

	return r
}

// keep creates the stream of dead letters.
func (r *rig) keep() {
	r.t.Helper()
	_, err := r.conn.JS.CreateStream(r.t.Context(), jetstream.StreamConfig{Name: topology.StreamDead, Subjects: []string{topology.DeadSubject(">")}})
	require.NoError(r.t, err)
}

func (r *rig) send(text string) {
	r.t.Helper()
	_, err := r.conn.JS.Publish(r.t.Context(), "in.one", []byte(text))
	require.NoError(r.t, err)
}

// done waits until all messages are settled, and returns the letters.
func (r *rig) done() []event.DeadLetter {
	r.t.Helper()
	await.True(r.t, func() bool {
		drained, err := bustest.Drained(r.t.Context(), r.conn.JS, "IN", "c")
		return err == nil && drained
	}, timeout)
	stream, err := r.conn.JS.Stream(r.t.Context(), topology.StreamDead)
	require.NoError(r.t, err)

	letters := make([]event.DeadLetter, stream.CachedInfo().State.Msgs)
	for i := range letters {
		m, err := stream.GetMsg(r.t.Context(), uint64(i+1))
		require.NoError(r.t, err)
		require.NoError(r.t, event.Decode(m.Data, &letters[i]))
	}

	return letters
}

// TestWhatIsTermedIsKept: however the handler ends, a message that it has terminated is among the dead letters before
// it is gone.
func TestWhatIsTermedIsKept(t *testing.T) {
	for name, end := range map[string]func() error{
		"handled": func() error { return nil },
		"failed":  func() error { return errors.New("something else") },
		"panic":   func() error { panic("something else") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(m *message.Message) error {
				if item := bus.BatchFrom(m.Context()).Items[0]; string(m.Payload) == "bad" {
					item.Term("cannot be read")
					return end()
				}

				return nil
			})
			r.keep()
			r.send("good")
			r.send("bad")
			letters := r.done()
			require.Len(t, letters, 1)
			l := letters[0]
			require.Equal(t, []any{"resolver", "cannot be read", "in.one", "bad"}, []any{l.Service, l.Reason, l.Subject, string(l.Payload)})
			require.EqualValues(t, 1, l.Attempts)
			require.WithinDuration(t, time.Now(), l.Died, time.Minute)
		})
	}
}

// TestWhatCannotBeKeptComesAgain: while letters cannot be stored a message is redelivered, and in the end there is one
// letter about it.
func TestWhatCannotBeKeptComesAgain(t *testing.T) {
	t.Parallel()

	tried := make(chan struct{}, 100)
	r := newRig(t, func(m *message.Message) error {
		bus.BatchFrom(m.Context()).Items[0].Term("cannot be read")

		tried <- struct{}{}
		return nil
	})
	r.send("bad")
	<-tried
	<-tried // redelivered, because no letter could be stored
	r.keep()
	letters := r.done()
	require.Len(t, letters, 1)
	require.Greater(t, letters[0].Attempts, uint64(1))
}

// TestWhatIsTooLargeForALetterIsCut: a letter must fit into a message; otherwise its message would be redelivered
// forever, with the rest of its batch.
func TestWhatIsTooLargeForALetterIsCut(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(m *message.Message) error {
		bus.BatchFrom(m.Context()).Items[0].Term("cannot be read")
		return nil
	})
	r.keep()
	r.send(strings.Repeat("x", 1_000_000))
	letters := r.done()
	require.Len(t, letters, 1)
	require.Len(t, letters[0].Payload, 700<<10)
	require.Equal(t, "cannot be read (of its 1000000 bytes the first 716800 are kept)", letters[0].Reason)
}
