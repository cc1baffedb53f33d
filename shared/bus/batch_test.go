package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
)

func TestBatchTakesWhatIsThere(t *testing.T) {
	r := newRig(t)
	r.publish(t, 250)

	_, out := r.subscribe(t, bus.PullConfig{MaxItems: 100, Linger: time.Second}, bus.SubscriberConfig{})
	next := 0
	for _, want := range []int{100, 100, 50} {
		m, b := batch(t, out)
		require.Len(t, b.Items, want)

		size := 0
		for _, i := range b.Items {
			assert.Equal(t, fmt.Sprint(next), string(i.Data))
			assert.EqualValues(t, next+1, i.Sequence)
			assert.EqualValues(t, 250-next-1, i.NumPending)
			size += len(i.Data)
			next++
		}

		assert.Equal(t, size, b.Bytes)
		assert.Equal(t, lines(b), string(m.Payload), "the handler's items are what the message carries")
		m.Ack()
	}

	r.settled(t, 250)
	assert.Nil(t, bus.BatchFrom(t.Context()))
}

// lines returns the data of all items, one per line.
func lines(b *bus.Batch) string {
	var text strings.Builder
	for _, i := range b.Items {
		fmt.Fprintln(&text, string(i.Data))
	}

	return text.String()
}

// TestABatchGathersForAsLongAsTheLastOneTook: messages that arrive while it waits are part of it.
func TestABatchGathersForAsLongAsTheLastOneTook(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, out := r.subscribe(t, bus.PullConfig{MaxItems: 2, Gather: timeout}, bus.SubscriberConfig{})
	r.publish(t, 1)
	m, b := batch(t, out)
	require.Len(t, b.Items, 1)
	<-time.After(2 * time.Second) // the batch is being worked on, which is what is measured
	r.publish(t, 1)
	m.Ack()
	r.publish(t, 1)
	m, b = batch(t, out)
	require.Len(t, b.Items, 2)
	m.Ack()
	r.settled(t, 3)
}

func TestBatchLingers(t *testing.T) {
	r := newRig(t)
	_, out := r.subscribe(t, bus.PullConfig{MaxItems: 3, Linger: timeout}, bus.SubscriberConfig{})
	// Three publishes at some distance from each other make one batch, which does not wait any longer once it is full.
	for range 3 {
		r.publish(t, 1)
	}

	m, b := batch(t, out)
	assert.Len(t, b.Items, 3)
	m.Ack()
	r.settled(t, 3)
}

func TestHeartbeatKeepsLongHandlers(t *testing.T) {
	t.Parallel()
	const wait = 2 * time.Second // a heartbeat that is a second late must not count as missing
	r := newRig(t, ackWait(wait))
	r.publish(t, 20)
	_, out := r.subscribe(t, bus.PullConfig{Linger: wait * 3 / 2}, bus.SubscriberConfig{}) // what is gathered must be kept from redelivery
	m, b := batch(t, out)
	assert.Len(t, b.Items, 20)
	<-time.After(wait * 3 / 2) // the subject of this test is that time passes
	assert.Zero(t, r.consumerInfo(t).NumRedelivered)
	m.Ack()
	r.settled(t, 20)
}

func TestBatchMaxBytes(t *testing.T) {
	r := newRig(t)
	p := r.publisher(t, bus.PublisherConfig{})
	for range 7 { // the last message reaches the limit of the second batch, and then waits alone
		require.NoError(t, p.Publish(subject, message.NewMessage("u", make([]byte, 10_000))))
	}

	_, out := r.subscribe(t, bus.PullConfig{MaxItems: 100, MaxBytes: 25_000, Linger: timeout}, bus.SubscriberConfig{})
	for range 2 {
		m, b := batch(t, out)
		assert.Len(t, b.Items, 3, "the first, and two more within the limit")
		m.Ack()
	}

	await.True(t, func() bool { return r.consumerInfo(t).AckFloor.Stream == 6 }, timeout)
}

func TestBatchDispositions(t *testing.T) {
	const delay = 300 * time.Millisecond
	r := newRig(t)
	r.publish(t, 6)
	_, out := r.subscribe(t, bus.PullConfig{MaxItems: 6, Linger: time.Second}, bus.SubscriberConfig{Backoff: func(uint64) time.Duration { return 0 }})
	m, b := batch(t, out)
	require.Len(t, b.Items, 6)
	require.False(t, b.Items[1].IsSettled())
	b.Items[1].Nak(delay)
	require.True(t, b.Items[1].IsSettled())
	b.Items[3].Term("nobody can read it")
	b.Items[4].Nak(0)
	b.Items[4].Ack() // the last call wins

	start := time.Now()

	m.Ack()

	m, b = batch(t, out)
	assert.GreaterOrEqual(t, time.Since(start), delay)
	require.Len(t, b.Items, 1)
	assert.EqualValues(t, 2, b.Items[0].Sequence)
	assert.EqualValues(t, 2, b.Items[0].NumDelivered)
	m.Ack()
	r.settled(t, 6)
}

func TestNackedBatch(t *testing.T) {
	r := newRig(t)
	r.publish(t, 4)
	_, out := r.subscribe(t, bus.PullConfig{Linger: time.Second}, bus.SubscriberConfig{Backoff: func(uint64) time.Duration { return 0 }})
	m, b := batch(t, out)
	require.Len(t, b.Items, 4)
	b.Items[0].Ack() // this one was done before the failure
	b.Items[2].Term("hopeless")
	m.Nack()
	m, b = batch(t, out)
	require.Len(t, b.Items, 2)
	assert.EqualValues(t, 2, b.Items[0].Sequence)
	assert.EqualValues(t, 4, b.Items[1].Sequence)
	m.Ack()
	r.settled(t, 4)
}

func TestBatchAcksAreConfirmed(t *testing.T) {
	r := newRig(t)
	r.publish(t, 1000)

	confirmed := make(chan error, 1)
	src := &fakeSource{rig: r, wait: 2 * time.Second, settled: confirmed}
	_, out := r.subscribe(t, bus.PullConfig{}, bus.SubscriberConfig{Source: src.open})
	m, b := batch(t, out)
	require.Equal(t, 1000, len(b.Items))
	m.Ack()
	require.NoError(t, receive(t, confirmed))
	ci := r.consumerInfo(t) // at once: the last acknowledgement was a barrier
	assert.Zero(t, ci.NumAckPending)
	assert.EqualValues(t, 1000, ci.AckFloor.Stream)
}

// TestAMessageTwiceIsOneItem: a broker that was killed no longer knows what it had delivered, and delivers it again
// into a batch that already holds it. If the message were taken for two, one would be the other's successor.
func TestAMessageTwiceIsOneItem(t *testing.T) {
	r := newRig(t, ackWait(200*time.Millisecond))
	r.publish(t, 2)

	b := bus.NewBatch(time.Hour, bustest.Logger()) // its heartbeat is too late to keep the broker from redelivering
	n, err := b.Fill(r.cons, 2, 0, timeout)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	n, err = b.Fill(r.cons, 2, 0, timeout)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Len(t, b.Items, 2)

	for i, item := range b.Items {
		require.EqualValues(t, i+1, item.Sequence)
		require.EqualValues(t, 2, item.NumDelivered)
	}

	b.Return(t.Context())
	await.True(t, func() bool {
		again := bus.NewBatch(time.Minute, bustest.Logger())
		_, err := again.Fill(r.cons, 2, 0, time.Second)
		require.NoError(t, err)
		defer again.Return(t.Context())

		return len(again.Items) == 2 && again.Items[0].NumDelivered > 2
	}, timeout, "both come again")
}

// TestALostStreamsSequencesComeAgain: a stream that was lost and recreated counts from 1. What it delivers into a batch
// that still holds messages of the previous stream is newer, and would be lost if it were taken for one of them.
func TestALostStreamsSequencesComeAgain(t *testing.T) {
	r := newRig(t)
	publish := func(text string) {
		require.NoError(t, r.publisher(t, bus.PublisherConfig{}).Publish(subject, message.NewMessage("u", []byte(text))))
	}

	b := bus.NewBatch(time.Minute, bustest.Logger())
	defer b.Return(t.Context())

	publish("old")
	publish("old, too")

	n, err := b.Fill(r.cons, 2, 0, timeout)
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.NoError(t, r.conn.JS.DeleteStream(t.Context(), stream))
	r.provision(t)
	publish("newer")

	_, err = b.Fill(r.cons, 1, 0, timeout)
	require.NoError(t, err)
	require.Len(t, b.Items, 2)
	require.Equal(t, "old, too", string(b.Items[0].Data))
	require.Equal(t, "newer", string(b.Items[1].Data), "what came last is the last")
	require.Equal(t, len("old, too")+len("newer"), b.Bytes)
}

// fakeSource is a source such as a service may plug in.
type fakeSource struct {
	*rig
	fail    atomic.Int32
	wait    time.Duration // for 1000 messages
	settled chan error    // nil if nobody listens
}

func (s *fakeSource) Settled(_ context.Context, err error) {
	if s.settled != nil {
		s.settled <- err
	}
}

func (s *fakeSource) open(string) bus.Source { return s }

func (s *fakeSource) Fetch(ctx context.Context) (*bus.Batch, error) {
	if s.fail.Add(-1) >= 0 {
		return nil, errors.New("no lease to be had")
	}

	b := bus.NewBatch(time.Minute, bustest.Logger())
	b.Owner = s
	for ctx.Err() == nil {
		if n, err := b.Fill(s.cons, 1000, 0, max(s.wait, 200*time.Millisecond)); n > 0 || err != nil {
			return b, err
		}
	}

	return nil, ctx.Err()
}

func TestSourceIsAskedAgainAfterAnError(t *testing.T) {
	r := newRig(t)
	r.publish(t, 1)
	src := &fakeSource{rig: r}
	src.fail.Store(1)
	_, out := r.subscribe(t, bus.PullConfig{}, bus.SubscriberConfig{Source: src.open})
	m, _ := batch(t, out)
	m.Ack()
	r.settled(t, 1)
}

func TestCloseReturnsABatchNobodyTook(t *testing.T) {
	r := newRig(t)
	r.publish(t, 10)

	settled := make(chan error, 1)
	src := &fakeSource{rig: r, settled: settled}
	sub, out := r.subscribe(t, bus.PullConfig{}, bus.SubscriberConfig{Source: src.open})
	await.True(t, func() bool { return r.consumerInfo(t).NumAckPending == 10 }, timeout)
	require.NoError(t, sub.Close())
	require.NoError(t, receive(t, settled))

	_, open := <-out
	assert.False(t, open)

	_, out = r.subscribe(t, bus.PullConfig{Linger: time.Second}, bus.SubscriberConfig{})
	m, b := batch(t, out)
	assert.Len(t, b.Items, 10)
	m.Ack()
	r.settled(t, 10)
}

func TestLateBatchHandlerIsAbandoned(t *testing.T) {
	r := newRig(t, ackWait(time.Second))
	r.publish(t, 2)

	settled := make(chan error, 1)
	src := &fakeSource{rig: r, settled: settled}
	sub, out := r.subscribe(t, bus.PullConfig{}, bus.SubscriberConfig{Source: src.open, CloseTimeout: 50 * time.Millisecond})
	m, _ := batch(t, out)
	require.NoError(t, sub.Close())
	require.ErrorIs(t, receive(t, settled), bus.ErrAbandoned)
	require.Error(t, m.Context().Err())
	assert.Equal(t, 2, r.consumerInfo(t).NumAckPending, "the handler may still be at work: nobody else gets them before AckWait")
}

func TestBatchHandlerEndsInTime(t *testing.T) {
	r := newRig(t)
	r.publish(t, 5)
	sub, out := r.subscribe(t, bus.PullConfig{MaxItems: 5, Linger: timeout}, bus.SubscriberConfig{CloseTimeout: timeout})
	m, _ := batch(t, out)

	done := make(chan error, 1)
	go func() { done <- sub.Close() }()

	silent(t, done, 200*time.Millisecond)
	require.NoError(t, m.Context().Err())
	m.Ack()
	require.NoError(t, receive(t, done))
	ci := r.consumerInfo(t)
	assert.Zero(t, ci.NumAckPending)
	assert.EqualValues(t, 5, ci.AckFloor.Stream)
}

func TestBatchSurvivesARestart(t *testing.T) {
	r := newRig(t, ackWait(time.Second))
	r.publish(t, 100)
	_, out := r.subscribe(t, bus.PullConfig{MaxItems: 10}, bus.SubscriberConfig{})
	m, _ := batch(t, out)
	r.Restart(t)
	m.Ack()

	done := 0
	for r.consumerInfo(t).AckFloor.Stream < 100 {
		select {
		case m := <-out:
			done += len(bus.BatchFrom(m.Context()).Items)
			m.Ack()
		case <-time.After(100 * time.Millisecond):
		}

		require.Less(t, done, 300)
	}

	r.settled(t, 100)
}
