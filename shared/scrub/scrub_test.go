package scrub_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/shared/await"
	"bobosync/shared/bustest"
	"bobosync/shared/erase"
	"bobosync/shared/scrub"
)

// holding lists the files below a directory that contain a text.
func holding(t *testing.T, dir, text string) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}

		data, err := os.ReadFile(path)
		if bytes.Contains(bytes.ToLower(data), bytes.ToLower([]byte(text))) {
			files = append(files, path)
		}

		return err
	}))

	return files
}

// TestWhatWasDeletedIsOverwritten: after the next start, deleted, replaced and purged messages about a person are
// nowhere in the store's files, and all others are unchanged. Both still hold after a further start without the
// server's index.
func TestWhatWasDeletedIsOverwritten(t *testing.T) {
	t.Parallel()
	s := bustest.Start(t)
	js := s.Connect(t).JS
	add := func(name string, per int64, subjects ...string) jetstream.Stream {
		t.Helper()
		stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: subjects, MaxMsgsPerSubject: per})
		require.NoError(t, err)
		return stream
	}
	put := func(subject, who string) {
		t.Helper()

		m := &nats.Msg{Subject: subject, Data: fmt.Appendf(nil, `{"emp":%q,"filler":"%0300d"}`, who, 1), Header: nats.Header{"X": {"y"}}}
		_, err := js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
	}
	acks, kept := add("ACKS", -1, "acks"), add("KV_calls", 1, "calls.*")

	for n := range 50 {
		put("acks", "QX77109")
		put("acks", fmt.Sprintf("other-%d", n))
		put("calls.a", "QX77109")
		put("calls.b", "someone")
	}

	put("calls.a", "another")

	for seq := uint64(1); seq <= 99; seq += 2 {
		require.NoError(t, acks.DeleteMsg(t.Context(), seq))
	}

	put("acks", "QX77109") // the worker is back, and this message is kept
	require.NotEmpty(t, holding(t, s.Dir(), "QX77109"))

	read := func() (all []string) {
		t.Helper()

		for _, stream := range []jetstream.Stream{acks, kept} {
			info, err := stream.Info(t.Context())
			require.NoError(t, err)

			all = append(all, fmt.Sprint(info.State.Msgs, info.State.FirstSeq, info.State.LastSeq))
			for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
				if m, err := stream.GetMsg(t.Context(), seq); err == nil {
					all = append(all, m.Subject+" "+string(m.Data))
				}
			}
		}

		return all
	}
	before := read()
	file, err := scrub.Request{Names: erase.Names{Employee: "QX77109"}, Through: map[string]uint64{"ACKS": 100}}.Leave(s.Dir())
	require.NoError(t, err)
	require.True(t, scrub.Waits(s.Dir()))
	require.NoError(t, os.MkdirAll(filepath.Join(s.Dir(), "set-aside", "20260102T030405.000000000Z"), 0o700))

	for _, lose := range []bool{false, true} {
		s.Down(t)

		if lose {
			indexes, err := filepath.Glob(filepath.Join(s.Dir(), "jetstream", "*", "streams", "*", "msgs", "index.db"))
			require.NoError(t, err)
			require.NotEmpty(t, indexes)

			for _, index := range indexes {
				require.NoError(t, os.Remove(index))
			}
		}

		s.Up(t)
		require.False(t, scrub.Waits(s.Dir()))
		require.NoFileExists(t, file)
		require.NoDirExists(t, filepath.Join(s.Dir(), "set-aside"))
		await.True(t, func() bool { return js.Conn().IsConnected() }, time.Minute)
		require.Equal(t, before, read())
		require.Len(t, holding(t, s.Dir(), "QX77109"), 1, "what he is told of anew")
	}

	_, err = acks.Info(t.Context())
	require.NoError(t, err)
}

// TestAFormThatIsNotKnownIsLeftAlone: such a file is not changed, the log says so, and the broker starts.
func TestAFormThatIsNotKnownIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "jetstream", "$G", "streams", "ACKS", "msgs", "1.blk")
	require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))

	data := bytes.Repeat([]byte("QX77109"), 100)
	require.NoError(t, os.WriteFile(file, data, 0o600))

	_, err := scrub.Request{Names: erase.Names{Employee: "QX77109"}, Through: map[string]uint64{"ACKS": 100}}.Run(dir)
	require.ErrorContains(t, err, "nothing in it is changed")
	now, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, data, now)
}
