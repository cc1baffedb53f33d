package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"bobosync/shared/broker"
)

// volume is a small file system.
type volume struct {
	t   *testing.T
	dir string
}

func mount(t *testing.T, mebibytes int) *volume {
	t.Helper()

	if os.Getuid() != 0 {
		t.Skip("skipped: only root can mount a small file system to fill it")
	}

	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mebibytes)); err != nil {
		t.Skip("skipped: no small file system can be mounted here:", err)
	}

	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })

	return &volume{t, dir}
}

// fill leaves no byte free.
func (v *volume) fill() {
	v.t.Helper()
	f, err := os.OpenFile(filepath.Join(v.dir, "ballast"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(v.t, err)

	defer f.Close()

	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			require.ErrorIs(v.t, err, syscall.ENOSPC)

			size /= 2
		}
	}
}

func (v *volume) free() { require.NoError(v.t, os.Remove(filepath.Join(v.dir, "ballast"))) }

// publishUntilRefused publishes until nothing is confirmed any more, and returns how many messages were confirmed.
func publishUntilRefused(t *testing.T, publish func(context.Context) (int, error)) (confirmed int) {
	t.Helper()

	for {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		n, err := publish(ctx)

		cancel()

		if err != nil {
			return confirmed
		}

		confirmed += n
		require.Less(t, confirmed, 10_000, "the disk is not full")
	}
}

// TestAStreamThatAFullDiskFrozeThaws: a server that could not write a message stores none in that stream any more,
// however much room there is later. The broker reports that, and recovers all of it when it is restarted with room.
func TestAStreamThatAFullDiskFrozeThaws(t *testing.T) {
	t.Parallel()

	payload := bytes.Repeat([]byte("x"), 2000)
	for name, c := range map[string]struct {
		lazily bool
		batch  int
	}{
		"single messages":                       {batch: 1},
		"single messages that are synced later": {batch: 1, lazily: true},
		"an atomic batch":                       {batch: 50},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := mount(t, 48)
			options := broker.Options{StoreDir: filepath.Join(v.dir, "jetstream"), SyncLazily: c.lazily, MaxStore: 1 << 30}

			s := start(t, options)
			js := dial(t, s)
			for _, stream := range []string{"A", "B"} {
				_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{stream}, AllowAtomicPublish: true})
				require.NoError(t, err)
				_, err = js.Publish(t.Context(), stream, payload)
				require.NoError(t, err)
			}

			require.NoError(t, s.Health())
			v.fill()

			confirmed := publishUntilRefused(t, func(ctx context.Context) (int, error) {
				if c.batch == 1 {
					_, err := js.Publish(ctx, "A", payload)
					return 1, err
				}

				msgs := make([]*nats.Msg, c.batch)
				for i := range msgs {
					msgs[i] = &nats.Msg{Subject: "A", Data: payload, Header: nats.Header{}}
				}

				_, err := jetstreamext.PublishMsgBatch(ctx, js, msgs)

				return c.batch, err
			})
			require.ErrorIs(t, s.Health(), broker.ErrDiskFull)

			if c.batch == 1 {
				v.free()
				require.ErrorIs(t, s.Health(), broker.ErrDiskFull, "it stays frozen with room")
				v.fill()
			}

			require.NoError(t, s.Shutdown(t.Context()))

			again := options
			again.Port = broker.RandomPort
			_, err := broker.Start(t.Context(), again)
			require.ErrorIs(t, err, broker.ErrDiskFull, "there is no room yet")
			v.free()

			s = start(t, options)
			require.NoError(t, s.Health())

			js = dial(t, s)
			for _, stream := range []string{"A", "B"} {
				_, err := js.Publish(t.Context(), stream, payload)
				require.NoError(t, err)
			}

			a, err := js.Stream(t.Context(), "A")
			require.NoError(t, err)
			assert.GreaterOrEqual(t, int(a.CachedInfo().State.Msgs), confirmed+2, "what was confirmed is there")
			assert.NoDirExists(t, filepath.Join(options.StoreDir, "set-aside"), "a full disk is no damage")
			require.NoError(t, s.Shutdown(t.Context()))
		})
	}
}

// TestAStoreThatGrows: a broker that was started without room for the streams reports when there is more, so that it is
// restarted.
func TestAStoreThatGrows(t *testing.T) {
	t.Parallel()
	v := mount(t, 9)
	s := start(t, broker.Options{StoreDir: filepath.Join(v.dir, "jetstream")})
	require.NoError(t, s.Health())
	require.NoError(t, syscall.Mount("tmpfs", v.dir, "tmpfs", syscall.MS_REMOUNT, "size=100m"))
	require.ErrorContains(t, s.Health(), "there is more now")
	require.NoError(t, s.Shutdown(t.Context()))
	s = start(t, broker.Options{StoreDir: filepath.Join(v.dir, "jetstream")})
	require.NoError(t, s.Health())
	require.NoError(t, s.Shutdown(t.Context()))
}

// TestADiskThatTakesNoFiles: the server makes files for each stream that it loads, and deletes a stream for which it
// cannot. So it is not started before some files can be made.
func TestADiskThatTakesNoFiles(t *testing.T) {
	t.Parallel()
	v := mount(t, 48)
	leave := func(files uint64) {
		var s syscall.Statfs_t
		require.NoError(t, syscall.Statfs(v.dir, &s))
		require.NoError(t, syscall.Mount("tmpfs", v.dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("nr_inodes=%d", s.Files-s.Ffree+files)))
	}
	options := broker.Options{StoreDir: filepath.Join(v.dir, "jetstream")}

	s := start(t, options)
	js := dial(t, s)
	names := []string{"A", "B", "C", "D"}
	for _, name := range names {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}})
		require.NoError(t, err)
		_, err = js.Publish(t.Context(), name, []byte("kept"))
		require.NoError(t, err)
	}

	require.NoError(t, s.Shutdown(t.Context()))

	for left := range uint64(12) {
		leave(left)

		again := options
		again.Port = broker.RandomPort

		s, err := broker.Start(t.Context(), again)
		if err == nil {
			require.NoError(t, s.Shutdown(t.Context()))
		}

		assert.ErrorIs(t, err, broker.ErrDiskFull, "%d files can be made", left)
	}

	leave(1000)

	s = start(t, options)
	js = dial(t, s)
	for _, name := range names {
		stream, err := js.Stream(t.Context(), name)
		require.NoError(t, err)
		assert.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
	}

	require.NoError(t, s.Shutdown(t.Context()))
}
