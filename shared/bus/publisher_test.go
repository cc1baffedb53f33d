package bus_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/bus"
)

func storedMsgs(t *testing.T, r *rig) uint64 {
	t.Helper()
	s, err := r.conn.JS.Stream(t.Context(), stream)
	require.NoError(t, err)
	return s.CachedInfo().State.Msgs
}

func TestPublishKeepsOrderAndHeaders(t *testing.T) {
	r := newRig(t)
	p := r.publisher(t, bus.PublisherConfig{Window: 8}) // smaller than the call
	msgs := numbered(100)
	msgs[0].Metadata.Set("trace", "abc")
	require.NoError(t, p.Publish(subject, msgs...))

	s, err := r.conn.JS.Stream(t.Context(), stream)
	require.NoError(t, err)

	for i := range msgs {
		m, err := s.GetMsg(t.Context(), uint64(i+1))
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprint(i), string(m.Data))
		assert.Equal(t, msgs[i].UUID, m.Header.Get(bus.UUIDHeader))
		assert.Empty(t, m.Header.Get(bus.MsgIDKey), "no message id unless asked for")
	}

	first, err := s.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, "abc", first.Header.Get("trace"))
}

func TestPublishDropsDuplicates(t *testing.T) {
	r := newRig(t)
	p := r.publisher(t, bus.PublisherConfig{})

	msgs := numbered(10)
	for i, m := range msgs {
		m.Metadata.Set(bus.MsgIDKey, fmt.Sprintf("id-%d", i/2)) // each id twice
	}

	require.NoError(t, p.Publish(subject, msgs...))
	assert.EqualValues(t, 5, storedMsgs(t, r))
}

func TestPublishToUnknownSubject(t *testing.T) {
	r := newRig(t)
	p := r.publisher(t, bus.PublisherConfig{})
	err := p.Publish("nobody.takes.employee4711", numbered(3)...)
	require.ErrorIs(t, err, bus.ErrNoStream)
	assert.ErrorContains(t, err, "nobody.takes.>: 3 of 3 messages failed")
	assert.NotContains(t, err.Error(), "4711", "the rest of a subject may name a person")
}

func TestPublishRefusesWhatAHeaderCannotCarry(t *testing.T) {
	r := newRig(t)
	p := r.publisher(t, bus.PublisherConfig{})
	for name, kv := range map[string][2]string{
		"space in key": {"a key", "v"}, "empty key": {"", "v"}, "colon": {"a:b", "v"},
		"line break": {"key", "a\nb"}, "outer space": {"key", " v"},
	} {
		t.Run(name, func(t *testing.T) {
			m := message.NewMessage("u", nil)
			m.Metadata.Set(kv[0], kv[1])
			require.Error(t, p.Publish(subject, m))
		})
	}

	assert.Zero(t, storedMsgs(t, r))
}

func TestFullStream(t *testing.T) {
	full := func(sc *jetstream.StreamConfig, _ *jetstream.ConsumerConfig) {
		sc.Discard, sc.MaxBytes = jetstream.DiscardNew, 4096
	}
	t.Run("one by one", func(t *testing.T) {
		r := newRig(t, full)
		err := r.publisher(t, bus.PublisherConfig{}).Publish(subject, numbered(500)...)
		require.ErrorIs(t, err, bus.ErrStreamFull)
		stored := storedMsgs(t, r)
		assert.Positive(t, stored)
		assert.ErrorContains(t, err, fmt.Sprintf("%d of 500 messages failed", 500-stored))
		assert.Less(t, len(err.Error()), 300, "many equal failures make one line")
	})
	t.Run("batch", func(t *testing.T) {
		r := newRig(t, full)
		_, err := r.publisher(t, bus.PublisherConfig{}).PublishBatch(t.Context(), own(500, nil)...)
		require.ErrorIs(t, err, bus.ErrStreamFull)
		assert.Zero(t, storedMsgs(t, r), "all or nothing")
	})
}

func TestPublishBatch(t *testing.T) {
	r := newRig(t)
	p := r.publisher(t, bus.PublisherConfig{})
	msgs := own(2*bus.MaxBatch+1, nil)
	last, err := p.PublishBatch(t.Context(), msgs...)
	require.NoError(t, err)
	assert.EqualValues(t, len(msgs), last)
	assert.EqualValues(t, len(msgs), storedMsgs(t, r))
	last, err = p.PublishBatch(t.Context())
	require.NoError(t, err)
	assert.Zero(t, last)
}

// TestABatchThatNobodyAnswersIsGivenUp: a subscriber that never answers represents a broker that was killed right after
// the first message.
func TestABatchThatNobodyAnswersIsGivenUp(t *testing.T) {
	t.Parallel()

	r := newRig(t, func(s *jetstream.StreamConfig, _ *jetstream.ConsumerConfig) { s.Subjects = []string{"elsewhere"} })
	_, err := r.conn.NC.Subscribe("s.>", func(*nats.Msg) {})
	require.NoError(t, err)
	p := r.publisher(t, bus.PublisherConfig{Timeout: 10 * time.Minute})
	given := make(chan error, 1)
	go func() {
		_, err := p.PublishBatch(t.Context(), own(3, nil)...)
		given <- err
	}()

	select {
	case err := <-given:
		require.ErrorIs(t, err, nats.ErrTimeout)
	case <-time.After(time.Minute):
		t.Fatal("it is still waited for")
	}
}

func TestPublishAllKeepsEachSubject(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.publisher(t, bus.PublisherConfig{}).PublishAll(t.Context(), own(3, nil)...))
	s, err := r.conn.JS.Stream(t.Context(), stream)
	require.NoError(t, err)

	for i := range 3 {
		m, err := s.GetMsg(t.Context(), uint64(i+1))
		require.NoError(t, err)
		assert.Equal(t, fmt.Sprintf("s.%d", i), m.Subject)
		assert.Equal(t, fmt.Sprint(i), string(m.Data))
		assert.Len(t, m.Header, 1, "its subject is no header: %v", m.Header)
	}
}

// The answer to a batch was lost, or the limits of the batch moved after a crash: each message must end up stored
// exactly once.
func TestPublishBatchWithKnownIDs(t *testing.T) {
	r := newRig(t)
	p := r.publisher(t, bus.PublisherConfig{})
	id := func(i int) string { return fmt.Sprintf("id-%d", i) }
	_, err := p.PublishBatch(t.Context(), own(10, id)...)
	require.NoError(t, err)
	last, err := p.PublishBatch(t.Context(), own(15, id)...)
	require.NoError(t, err)
	assert.EqualValues(t, 15, last)
	assert.EqualValues(t, 15, storedMsgs(t, r))
}

func TestPublishBatchErrors(t *testing.T) {
	t.Run("not allowed", func(t *testing.T) {
		r := newRig(t, func(sc *jetstream.StreamConfig, _ *jetstream.ConsumerConfig) { sc.AllowAtomicPublish = false })
		_, err := r.publisher(t, bus.PublisherConfig{}).PublishBatch(t.Context(), own(3, nil)...)
		require.ErrorIs(t, err, bus.ErrNoAtomicPublish)
	})
	t.Run("wrong sequence", func(t *testing.T) {
		r := newRig(t)
		msgs := own(3, nil)
		msgs[1].Metadata.Set(jetstream.ExpectedLastSubjSeqHeader, "7")
		_, err := r.publisher(t, bus.PublisherConfig{}).PublishBatch(t.Context(), msgs...)
		require.ErrorIs(t, err, bus.ErrWrongSequence)
		assert.Zero(t, storedMsgs(t, r))
	})
	t.Run("no stream", func(t *testing.T) {
		r := newRig(t)
		msgs := []*message.Message{bus.NewMessage("x.y", nil), bus.NewMessage("x.z", nil)}
		_, err := r.publisher(t, bus.PublisherConfig{Timeout: time.Second}).PublishBatch(t.Context(), msgs...)
		require.ErrorIs(t, err, bus.ErrNoStream)
	})
	t.Run("old server", func(t *testing.T) {
		r := newRig(t)
		require.ErrorIs(t, r.conn.RequireAPILevel(t.Context(), 1000, "time travel"), bus.ErrServerTooOld)
		require.NoError(t, r.conn.RequireAPILevel(t.Context(), bus.LevelAtomicBatch, "batches"))
	})
}

func TestPublishEndsWithItsContext(t *testing.T) {
	r := newRig(t)
	p := r.publisher(t, bus.PublisherConfig{Window: 4})
	r.Down(t)

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	// More than the window holds: it must not hang.
	msgs := numbered(20)
	msgs[0].SetContext(ctx)
	require.Error(t, p.Publish(subject, msgs...))
	r.Up(t)
	await.True(t, func() bool { return p.Publish(subject, numbered(20)...) == nil }, timeout,
		"the window must be free again")
}

func TestPublishAfterClose(t *testing.T) {
	r := newRig(t)
	p := r.publisher(t, bus.PublisherConfig{})
	require.NoError(t, p.Close())
	require.ErrorIs(t, p.Publish(subject, numbered(1)...), bus.ErrClosed)
	_, err := p.PublishBatch(t.Context(), own(1, nil)...)
	require.ErrorIs(t, err, bus.ErrClosed)
}

func TestConcurrentCallsShareTheWindow(t *testing.T) {
	r := newRig(t)
	p := r.publisher(t, bus.PublisherConfig{Window: 3})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { assert.NoError(t, p.Publish(subject, numbered(100)...)) })
	}

	wg.Wait()
	assert.EqualValues(t, 1000, storedMsgs(t, r))
}
