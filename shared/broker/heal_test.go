package broker_test

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/broker"
	"bobosync/shared/logging/logtest"
)

// fill makes the streams DAMAGED and SOUND, each with 100 messages and a consumer that has acknowledged 40 of them.
func fill(t *testing.T, js jetstream.JetStream) {
	t.Helper()

	for _, name := range []string{"DAMAGED", "SOUND"} {
		_, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name + ".*"}})
		require.NoError(t, err)

		for range 100 {
			_, err := js.Publish(t.Context(), name+".x", bytes.Repeat([]byte("x"), 200))
			require.NoError(t, err)
		}

		read(t, js, name, 40)
	}
}

// read makes the consumer of a stream and reads n messages.
func read(t *testing.T, js jetstream.JetStream, name string, n int) {
	t.Helper()
	c, err := js.CreateOrUpdateConsumer(t.Context(), name, jetstream.ConsumerConfig{Durable: "reader", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)

	got := 0
	for got < n {
		batch, err := c.Fetch(n - got)
		require.NoError(t, err)

		for m := range batch.Messages() {
			require.NoError(t, m.DoubleAck(t.Context()))

			got++
		}

		require.NoError(t, batch.Error())
	}
}

// delivers reports whether what is stored now is delivered to the consumer of the damaged stream, or to its
// replacement. If it is not, the broker's health must say so.
func delivers(t *testing.T, s *broker.Server, js jetstream.JetStream) bool {
	t.Helper()
	stream, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "DAMAGED", Subjects: []string{"DAMAGED.*"}})
	require.NoError(t, err)
	c, err := stream.CreateOrUpdateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "reader", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	ack, err := js.Publish(t.Context(), "DAMAGED.x", nil)
	require.NoError(t, err)

	for began := time.Now(); ; {
		m, err := c.Next(jetstream.FetchMaxWait(2 * time.Second))
		if err != nil {
			health := s.Health()
			if health != nil && strings.Contains(health.Error(), "has lost its end") {
				return false
			}

			require.Less(t, time.Since(began), time.Minute, "nothing comes: %v, and its health is %v", err, health)

			continue
		}

		require.NoError(t, m.Ack())

		if meta, err := m.Metadata(); err == nil && meta.Sequence.Stream == ack.Sequence {
			return true
		}
	}
}

// TestDamagedPartsAreMadeAnew: whatever a power cut or a failing disk has left behind, the broker starts, and all
// streams and consumers can be used; what was damaged is kept aside.
func TestDamagedPartsAreMadeAnew(t *testing.T) {
	t.Parallel()

	zeroes := func(n int) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			data, err := os.ReadFile(path)
			require.NoError(t, err)
			copy(data, make([]byte, n))
			require.NoError(t, os.WriteFile(path, data, 0o600))
		}
	}
	cut := func(n int64) func(*testing.T, string) {
		return func(t *testing.T, path string) { require.NoError(t, os.Truncate(path, n)) }
	}
	remove := func(t *testing.T, path string) { require.NoError(t, os.RemoveAll(path)) }

	garbage := func(t *testing.T, path string) {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, bytes.Repeat([]byte{0xa5, 0x01, 0xff}, int(info.Size()/3+1)), 0o600))
	}
	emptied := func(t *testing.T, path string) {
		remove(t, path)
		require.NoError(t, os.Mkdir(path, 0o700))
	}
	directory := func(t *testing.T, path string) {
		emptied(t, path)
		require.NoError(t, os.WriteFile(filepath.Join(path, "x"), nil, 0o600))
	}
	file := func(t *testing.T, path string) {
		remove(t, path)
		require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	}

	const consumer = "obs/reader/"
	for name, c := range map[string]struct {
		file   string
		damage func(*testing.T, string)
		aside  string
	}{
		"a consumer's state begins with zeroes": {consumer + "o.dat", zeroes(8), "obs/reader"},
		"a consumer's state is cut":             {consumer + "o.dat", cut(3), "obs/reader"},
		"a consumer's meta file is empty":       {consumer + "meta.inf", cut(0), "obs/reader"},
		"a consumer's meta file is cut":         {consumer + "meta.inf", cut(30), "obs/reader"},
		"a consumer's meta file is zeroes":      {consumer + "meta.inf", zeroes(1 << 16), "obs/reader"},
		"a consumer's meta file is gone":        {consumer + "meta.inf", remove, "obs/reader"},
		"a consumer's checksum is gone":         {consumer + "meta.sum", remove, "obs/reader"},
		"a stream's meta file is empty":         {"meta.inf", cut(0), ""},
		"a stream's meta file is cut":           {"meta.inf", cut(30), ""},
		"a stream's meta file is zeroes":        {"meta.inf", zeroes(1 << 16), ""},
		"a stream's meta file is gone":          {"meta.inf", remove, ""},
		"a stream's checksum is gone":           {"meta.sum", remove, ""},
		"a stream's checksum is empty":          {"meta.sum", cut(0), ""},
		"a stream's index is zeroes":            {"msgs/index.db", zeroes(1 << 16), "-"},
		"a stream's index is cut":               {"msgs/index.db", cut(10), "-"},
		"a stream's messages are zeroes":        {"msgs/1.blk", zeroes(1 << 16), "-"},
		"a stream's messages are cut":           {"msgs/1.blk", cut(5000), "-"},
		"a stream's messages begin with zeroes": {"msgs/1.blk", zeroes(8), "-"},
		"a consumer's state is empty":           {consumer + "o.dat", cut(0), "-"},
		"a consumer's state is garbage":         {consumer + "o.dat", garbage, "obs/reader"},
		"a consumer's state is gone":            {consumer + "o.dat", remove, "-"},
		"a consumer's state is a directory":     {consumer + "o.dat", directory, "obs/reader"},
		"a consumer's meta file is garbage":     {consumer + "meta.inf", garbage, "obs/reader"},
		"a consumer's checksum is of another":   {consumer + "meta.sum", garbage, "-"},
		"a consumer's directory is empty":       {"obs/reader", emptied, "-"},
		"consumers are gone":                    {"obs", remove, "-"},
		"consumers are a file":                  {"obs", file, "-"},
		"a stream's meta file is garbage":       {"meta.inf", garbage, ""},
		"a stream's meta file is a directory":   {"meta.inf", directory, ""},
		"a stream's index is a directory":       {"msgs/index.db", directory, "-"},
		"a stream's messages are garbage":       {"msgs/1.blk", garbage, "-"},
		"a stream's messages are a directory":   {"msgs/1.blk", directory, "-"},
		"a stream's messages are gone":          {"msgs", remove, "-"},
		"a stream's messages are a file":        {"msgs", file, "-"},
		"a stream's directory is empty":         {".", emptied, "-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := start(t, broker.Options{StoreDir: dir, SyncLazily: true})
			fill(t, dial(t, s))
			require.NoError(t, s.Shutdown(t.Context()))

			stream := filepath.Join(dir, "jetstream", "$G", "streams", "DAMAGED")
			c.damage(t, filepath.Join(stream, c.file))

			log := &logtest.Log{}
			s = start(t, broker.Options{StoreDir: dir, SyncLazily: true, Logger: slog.New(slog.NewTextHandler(log, nil))})
			require.NoError(t, s.Health())

			js := dial(t, s)
			if !delivers(t, s, js) { // some damage is found only when the messages are read
				require.ErrorContains(t, s.Health(), "stream DAMAGED has lost its end")
				require.NoError(t, s.Shutdown(t.Context()))
				s = start(t, broker.Options{StoreDir: dir, SyncLazily: true, Logger: slog.New(slog.NewTextHandler(log, nil))})
				js = dial(t, s)
				require.True(t, delivers(t, s, js))
			}

			require.NoError(t, s.Health())
			sound, err := js.Stream(t.Context(), "SOUND")
			require.NoError(t, err)
			assert.EqualValues(t, 100, sound.CachedInfo().State.Msgs)
			reader, err := sound.Consumer(t.Context(), "reader")
			require.NoError(t, err)
			assert.EqualValues(t, 60, reader.CachedInfo().NumPending, "nothing else was touched")

			fill(t, js) // everything can be used

			if c.aside == "-" {
				return // the server repairs it by itself, if that is possible
			}

			var kept []string
			require.NoError(t, filepath.WalkDir(filepath.Join(dir, "set-aside"), func(path string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					kept = append(kept, path)
				}
				return err
			}))
			require.NotEmpty(t, kept)

			for _, path := range kept {
				assert.Contains(t, path, filepath.Join("DAMAGED", c.aside))
			}

			assert.Contains(t, log.String(), "is recreated")
		})
	}
}

// TestALogThatStrangersFillIsBounded: clients that have not logged in must not fill the disk with lines about that.
func TestALogThatStrangersFillIsBounded(t *testing.T) {
	t.Parallel()

	log := &logtest.Log{}

	s := start(t, broker.Options{Token: "secret", Logger: slog.New(slog.NewTextHandler(log, nil))})
	for range 200 {
		knock(t, s)
	}

	require.NoError(t, s.Shutdown(context.Background()))
	assert.LessOrEqual(t, log.Count("\n"), 40)
	assert.NotEmpty(t, log.String())
}
