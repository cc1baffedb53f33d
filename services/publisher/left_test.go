package publisher

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/bus"
	"bobosync/shared/bustest"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// TestCallsWhoseAnswersCouldNotBeStoredStayWrittenDown: storing the answers of the next delivery does not change that.
func TestCallsWhoseAnswersCouldNotBeStoredStayWrittenDown(t *testing.T) {
	t.Parallel()
	js := bustest.Start(t).Connect(t).JS
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: topology.BucketCalls})
	require.NoError(t, err)

	written := func() []string { return writtenDown(t, js) }

	a := attempts{kv: kv}
	require.NoError(t, a.begin(t.Context(), callNamed("lost"), true))
	require.NoError(t, a.begin(t.Context(), callNamed("lost too"), false))
	require.NoError(t, a.begin(t.Context(), callNamed("answered"), true))
	require.ElementsMatch(t, []string{"lost", "lost too", "answered"}, written())
	require.NoError(t, a.stored(t.Context()))
	require.Equal(t, []string{"lost", "lost too"}, written())
	require.NoError(t, a.begin(t.Context(), callNamed("answered as well"), true))
	require.NoError(t, a.stored(t.Context()))
	require.Equal(t, []string{"lost", "lost too"}, written())
}

// TestACallThatWasNotMadeIsTakenBack: the broker stored its record, but the confirmation was lost, and no other call
// follows soon.
func TestACallThatWasNotMadeIsTakenBack(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	js := server.Connect(t).JS
	_, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: topology.BucketCalls})
	require.NoError(t, err)
	address, answers := relay(t, strings.TrimPrefix(server.ClientURL(), "nats://"))
	conn, err := bus.Connect(t.Context(), bus.Config{URL: "nats://" + address, Logger: bustest.Logger()})
	require.NoError(t, err)
	t.Cleanup(conn.Close)

	a := attempts{}
	a.kv, err = conn.JS.KeyValue(t.Context(), topology.BucketCalls)
	require.NoError(t, err)

	answers.Lock()

	ctx, giveUp := context.WithCancel(t.Context())
	began := make(chan error, 1)
	go func() { began <- a.begin(ctx, callNamed("not made"), true) }()

	await.True(t, func() bool { return len(writtenDown(t, js)) == 1 }, 10*time.Second)
	giveUp()
	require.Error(t, <-began)
	answers.Unlock()
	require.NoError(t, a.stored(t.Context()))
	require.Empty(t, writtenDown(t, js))
}

// relay passes bytes between clients and a server. While answers is locked, nothing is passed back to clients.
func relay(t *testing.T, server string) (address string, answers *sync.Mutex) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)

	answers = new(sync.Mutex)
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = listener.Close()

		running.Wait()
	})
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}

			there, err := new(net.Dialer).DialContext(context.Background(), "tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}

			running.Go(func() { pass(there, client, new(sync.Mutex)) })
			running.Go(func() { pass(client, there, answers) })
		}
	})

	return listener.Addr().String(), answers
}

// pass copies from one connection to another until one of them ends. It writes only while it can lock may.
func pass(to, from net.Conn, may *sync.Mutex) {
	defer to.Close()
	defer from.Close()

	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)

		may.Lock()
		_, failed := to.Write(buf[:n])
		may.Unlock()

		if err != nil || failed != nil {
			return
		}
	}
}

func callNamed(id string) event.Attempt {
	return event.Attempt{Call: event.Call{ID: id, Sent: 1, Users: 1}}
}

// writtenDown returns the ids of the recorded calls.
func writtenDown(t *testing.T, js jetstream.JetStream) (ids []string) {
	t.Helper()
	require.NoError(t, bus.Read(t.Context(), js, "KV_"+topology.BucketCalls, bus.ReadFrom{}, func(data []byte, _ string) {
		var c event.Calling
		if len(data) > 0 {
			require.NoError(t, event.Decode(data, &c))

			for _, call := range c.Calls {
				ids = append(ids, call.ID)
			}
		}
	}))

	return ids
}
