//go:build unix

package harness

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/broker"
)

// TestMakeYoung checks that messages made two hours ago are still there, complete, in a stream that keeps messages
// for an hour.
func TestMakeYoung(t *testing.T) {
	t.Parallel()

	for name, young := range map[string]bool{"made young": true, "left as it was": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			withBroker(t, dir, func(js jetstream.JetStream) {
				_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "AGED", Subjects: []string{"aged.>"}, MaxAge: time.Hour})
				require.NoError(t, err)

				for _, subject := range []string{"aged.a", "aged.b"} {
					_, err = js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte("text"), Header: nats.Header{"Key": {"value"}}})
					require.NoError(t, err)
				}
			})
			dirs, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "AGED", "msgs"))
			require.NoError(t, err)
			require.Len(t, dirs, 1)
			require.NoError(t, moveStream(dirs[0], "AGED", time.Now().Add(-2*time.Hour)))

			want := 0
			if young {
				require.NoError(t, MakeYoung(dir))

				want = 2
			}

			withBroker(t, dir, func(js jetstream.JetStream) {
				stream, err := js.Stream(t.Context(), "AGED")
				require.NoError(t, err)
				require.EqualValues(t, want, stream.CachedInfo().State.Msgs)

				if young {
					msg, err := stream.GetLastMsgForSubject(t.Context(), "aged.a")
					require.NoError(t, err)
					require.Equal(t, "text", string(msg.Data))
					require.Equal(t, "value", msg.Header.Get("Key"))
					require.WithinDuration(t, time.Now(), msg.Time, time.Minute)
				}
			})
		})
	}
}

// withBroker runs a broker with a store while f runs.
func withBroker(t *testing.T, store string, f func(jetstream.JetStream)) {
	t.Helper()
	server, err := broker.Start(t.Context(), broker.Options{StoreDir: store, Port: -1, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Shutdown(t.Context())) }()

	conn, err := nats.Connect("", nats.InProcessServer(server))
	require.NoError(t, err)

	defer conn.Close()

	js, err := jetstream.New(conn)
	require.NoError(t, err)
	f(js)
}
