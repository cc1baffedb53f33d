package history

import (
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bobosync/shared/bus"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// TestAnyRecordIsAFewStepsAway checks that a few steps lead from the last of a worker's records to the first after any
// sequence, however many records there are.
func TestAnyRecordIsAFewStepsAway(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var last tail
		all := map[uint64]links{}
		var places []uint64
		for range rapid.IntRange(1, 500).Draw(t, "records") {
			l := last.next()
			seq := last.sequence + rapid.Uint64Range(1, 100_000).Draw(t, "gap")
			require.Equal(t, last.sequence, l.previous())
			require.Equal(t, l, parseLinks(l.String()))
			require.Less(t, len(l.String()), 120)
			last = tail{links: l, sequence: seq}
			all[seq], places = l, append(places, seq)
		}

		place := rapid.Uint64Range(0, last.sequence-1).Draw(t, "place")
		at, steps := last.sequence, 0
		for far, number := all[at].farthest(place); far != 0; far, number = all[at].farthest(place) {
			require.Greater(t, far, place)
			require.Equal(t, number, all[far].number)
			at, steps = far, steps+1
		}

		want := places[slices.IndexFunc(places, func(seq uint64) bool { return seq > place })]
		require.Equal(t, want, at)
		require.LessOrEqual(t, steps, 3)
	})
}

// TestLinksThatAreNone checks that invalid links are never followed, whatever they contain.
func TestLinksThatAreNone(t *testing.T) {
	t.Parallel()

	for _, text := range []string{"", "?", "-1", "3;", "3;z", "3;z;0,zz", "3;z;z", "3;z;,", ";z;0"} {
		require.Zero(t, parseLinks(text), "%q", text)
	}
}

// TestTheLineOfAWorker checks that the records around any sequence are found, also among some of a version that made no
// links, after another session began, when the first records were dropped, and when links lead nowhere.
func TestTheLineOfAWorker(t *testing.T) {
	b := newBench(t)
	subject := topology.HistorySubject("3", "")
	tell := func(k *Keeper, calls int) {
		for range calls {
			b.now = b.now.Add(time.Second)
			a := answers(b.now.Format(time.RFC3339Nano), 0, 2+int(b.now.Unix()%4), true, b.now)
			require.NoError(t, k.Record(t.Context(), []Answered{{Acks: a, Sequence: uint64(b.now.Unix()), Stored: b.now}}))
		}
	}
	check := func() {
		t.Helper()
		var lie []uint64
		require.NoError(t, bus.Scan(t.Context(), b.conn.JS, topology.StreamHistory, bus.ReadFrom{Subject: subject}, func(m *jetstream.RawStreamMsg) bool {
			lie = append(lie, m.Sequence)
			return true
		}))
		known, err := b.keeper.line(t.Context(), subject)
		require.NoError(t, err)
		require.NotZero(t, known.tail, "it has just been written")

		unknown := known
		unknown.tail = tail{}
		for _, l := range []line{known, unknown} {
			for place := uint64(1); place <= lie[len(lie)-1]+1; place++ {
				before, after, err := l.find(t.Context(), place)
				require.NoError(t, err)

				i, _ := slices.BinarySearch(lie, place+1) // the first after it
				for n := i - 1; n >= 0; n-- {
					require.NotNil(t, before, "record %d before %d", lie[n], place)
					require.Equal(t, lie[n], before.sequence)
					before, err = l.before(t.Context(), before)
					require.NoError(t, err)
				}

				require.Nil(t, before)

				if require.Equal(t, i < len(lie), after != nil); after != nil {
					require.Equal(t, lie[i], after.sequence)
				}
			}
		}
	}
	stream, err := b.conn.JS.Stream(t.Context(), topology.StreamHistory)
	require.NoError(t, err)

	for range 3 { // of an earlier version
		deliveries := deliveriesIn(new(answers("old", 3, 1, true, b.now)), time.Minute)[0]
		_, err := b.conn.JS.Publish(t.Context(), subject, event.Encode(&deliveries))
		require.NoError(t, err)
	}

	tell(b.keeper, 12)
	check()

	b.keeper = b.begin()
	tell(b.keeper, 12)
	check()
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSequence(40)))
	check()

	b.keeper.writer.tails[subject] = tail{links: links{number: 9, back: [][]uint64{{44, 43, 42}}}, sequence: 45}
	tell(b.keeper, 6)
	check()
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject(subject)), "as when he is erased")
	tell(b.keeper, 12)
	check()

	none, err := line{}.before(t.Context(), &record{stored: stored{sequence: 1}})
	require.NoError(t, err, "the stream was made anew, and a record without links is its first")
	require.Nil(t, none)
}
