package ingest

import (
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/intake"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/bustest"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// setEpoch announces the epoch of a resolver's state store, although no resolver runs here.
func (h *harness) setEpoch(name string) {
	h.t.Helper()
	r := &fakeResolver{conn: h.conn}
	r.setEpoch(h.t, name)
}

// entriesRead returns what the stream of entries holds, in the words of fakeResolver.history.
func (h *harness) entriesRead() []string {
	h.t.Helper()

	stream, err := h.conn.JS.Stream(h.t.Context(), topology.StreamEntries)
	if err != nil {
		return nil // it will be created soon
	}

	var read []string
	state := stream.CachedInfo().State
	for seq := max(state.FirstSeq, 1); seq <= state.LastSeq; seq++ {
		m, err := stream.GetMsg(h.t.Context(), seq)
		if err != nil {
			return nil
		}

		if m.Subject == topology.SubjectRecovered {
			var e event.Recovered
			if err := event.Decode(m.Data, &e); err != nil {
				h.t.Fatal(err)
			}

			read = append(read, "recovered "+e.Epoch)

			continue
		}

		var e event.Entries
		if err := event.Decode(m.Data, &e); err != nil {
			h.t.Fatal(err)
		}

		kind := "open "
		if e.Settled {
			kind = "settled "
		}

		read = append(read, kind+e.File)
	}

	return read
}

// TestRecoveredIsLostWithTheStream: the message that ends a recovery is stored and noted, but lost before the
// resolver has read it, either alone or together with the epoch that the resolver has announced.
func TestRecoveredIsLostWithTheStream(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct {
		name   string
		bucket bool
	}{{"stream", false}, {"stream and bucket", true}} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			r := h.resolve()
			text := rows("a", 2)
			h.put("a.csv", text)
			var idle atomic.Int32
			h.tune.onIdle = func() { idle.Add(1) }
			h.start()
			eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
			h.end()
			r.stop()
			h.setEpoch("m2")
			idle.Store(0)
			h.start()

			want := []string{"settled " + idFor(text), "recovered m2"}

			eventually(t, "told and noted", func() bool { return idle.Load() > 0 && slices.Contains(h.entriesRead(), "recovered m2") })
			h.end()

			if err := h.conn.JS.DeleteStream(t.Context(), topology.StreamEntries); err != nil {
				t.Fatal(err)
			}

			if tt.bucket {
				if err := h.conn.JS.DeleteKeyValue(t.Context(), topology.BucketState); err != nil {
					t.Fatal(err)
				}

				h.provision()
			}

			idle.Store(0)
			h.start()

			if tt.bucket {
				eventually(t, "the new session waits", func() bool { return idle.Load() > 0 })
				h.setEpoch("m2")
			}

			eventually(t, "told again", func() bool { return slices.Contains(h.entriesRead(), "recovered m2") })

			if got := h.entriesRead(); !slices.Equal(got, want) {
				t.Errorf("told %v, want %v", got, want)
			}
		})
	}
}

// TestFinishesWhileItIsReplayed: the outcomes of a large file arrive when only a part of it was read again for a new
// state store. The file stays until the rest was read.
func TestFinishesWhileItIsReplayed(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.setEpoch(t, "m1")
	const n = intake.WindowLines + 5000
	big := rows("b", n)
	var replaying atomic.Bool
	h.tune.hit = func(at failpoint.Point) error {
		if at == failpoint.Stored && replaying.Swap(false) {
			var all event.RowSet
			for i := range n {
				all.Add(i + 1)
			}

			r.publish(t.Context(), &event.Acks{Rows: []event.FileRows{{File: idFor(big), Outcome: event.Applied, Rows: all}}})
			eventually(t, "all outcomes noted", h.outcomesNoted)

			if !there(h.in("big.csv")) {
				t.Error("it was moved while it was read")
			}
		}

		return nil
	}
	h.start()
	eventually(t, "m1", func() bool { return slices.Contains(r.history(), "recovered m1") })
	r.mute(true)
	h.put("big.csv", big)
	eventually(t, "read", func() bool { return len(r.entriesOf(idFor(big))) == n })
	r.forget(idFor(big))
	replaying.Store(true)
	r.setEpoch(t, "m2")
	eventually(t, "recovered", func() bool { return slices.Contains(r.history(), "recovered m2") })

	if got := len(r.entriesOf(idFor(big))); got != n {
		t.Errorf("the new state store got %d of %d rows before it was told to go on", got, n)
	}

	eventually(t, "moved", func() bool { return there(h.done("big.csv")) })
}

// outcomesNoted reports whether ingest has processed all outcomes in the stream.
func (h *harness) outcomesNoted() bool {
	drained, err := bustest.Drained(h.t.Context(), h.conn.JS, topology.StreamAcks, topology.ConsumerIngestAcks)
	return err == nil && drained
}

// TestFinishedFilesThatStayAreTold replays finished files with MOVE_PROCESSED_FILES off. They were touched or renamed
// while ingest was down, and a new file was added.
func TestFinishedFilesThatStayAreTold(t *testing.T) {
	h := newHarness(t)
	h.cfg.Move = false
	r := h.resolve()
	r.setEpoch(t, "m1")

	texts := map[string]string{"plain.csv": rows("p", 2), "touched.csv": rows("t", 2), "renamed.csv": rows("r", 2)}
	for name, text := range texts {
		h.put(name, text)
	}

	h.start()
	eventually(t, "finished", func() bool { return h.log.Count("file finished") == 3 })
	eventually(t, "m1", func() bool { return slices.Contains(r.history(), "recovered m1") })
	h.end()
	touch(t, h.in("touched.csv"))

	if err := os.Rename(h.in("renamed.csv"), h.in("other.csv")); err != nil {
		t.Fatal(err)
	}

	fresh := rows("n", 2)
	h.put("new.csv", fresh)

	before := len(r.history())
	r.setEpoch(t, "m2")
	h.start()
	eventually(t, "m2", func() bool { return slices.Contains(r.history(), "recovered m2") })

	got := r.history()[before:]
	for name, text := range texts {
		if !slices.Contains(got, "settled "+idFor(text)) {
			t.Errorf("%s was not told", name)
		}
	}

	if slices.Contains(got, "settled "+idFor(fresh)) {
		t.Error("the new file was taken for a finished one")
	}

	eventually(t, "the new file is read", func() bool { return slices.Contains(r.history(), "open "+idFor(fresh)) })
}

// TestADirectoryAwayDuringARecovery checks that finished files that stay in a directory that is away
// (MOVE_PROCESSED_FILES is off) are read again when the directory is back, and before the resolver goes on.
func TestADirectoryAwayDuringARecovery(t *testing.T) {
	h := newHarness(t)
	h.cfg.Move = false
	r := h.resolve()
	r.setEpoch(t, "m1")

	text := rows("p", 2)
	h.put("a.csv", text)
	h.start()
	eventually(t, "finished", func() bool { return h.log.Count("file finished") == 1 })
	eventually(t, "m1", func() bool { return slices.Contains(r.history(), "recovered m1") })

	before := len(r.history())

	away := h.cfg.CSVDirectory + ".away"
	if err := os.Rename(h.cfg.CSVDirectory, away); err != nil {
		t.Fatal(err)
	}

	r.setEpoch(t, "m2")
	eventually(t, "looked for in vain", func() bool { return h.log.Count("an input directory cannot be read") > 0 })

	if err := os.Rename(away, h.cfg.CSVDirectory); err != nil {
		t.Fatal(err)
	}

	eventually(t, "m2", func() bool { return slices.Contains(r.history(), "recovered m2") })

	if got := r.history()[before:]; !slices.Equal(got, []string{"settled " + idFor(text), "recovered m2"}) {
		t.Errorf("told %v", got)
	}
}

// TestStreamLostWithinARecovery: another service recreates the stream after the finished files were replayed.
func TestStreamLostWithinARecovery(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	text := rows("a", 2)
	h.put("a.csv", text)
	h.start()
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	h.end()
	r.stop()
	var once sync.Once
	h.tune.hit = func(at failpoint.Point) error {
		if at == failpoint.FinishedReplay {
			once.Do(func() {
				if err := h.conn.JS.DeleteStream(t.Context(), topology.StreamEntries); err != nil {
					t.Error(err)
				}

				h.provision()
			})
		}

		return nil
	}
	h.setEpoch("m2")
	h.start()
	eventually(t, "recovered", func() bool { return slices.Contains(h.entriesRead(), "recovered m2") })

	if got, want := h.entriesRead(), []string{"settled " + idFor(text), "recovered m2"}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

// TestHalfReadFinishedFile: ingest is killed in the middle of a large finished file that its ledger does not know,
// while the ledger is rebuilt or while the file is replayed for a resolver with a new state store. The file is read
// again from its start, and replayed completely.
func TestHalfReadFinishedFile(t *testing.T) {
	t.Parallel()

	const n = intake.WindowLines + 5000
	for _, tt := range []struct {
		name string
		// there says that the file is present when the ledger is rebuilt; otherwise it appears after that.
		there bool
	}{{"while the ledger is rebuilt", true}, {"while it is told", false}} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			big := rows("b", n)

			if !tt.there {
				h.start()
				eventually(t, "ledger rebuilt", h.ready.Load)
				h.end()
			}

			if err := os.MkdirAll(h.cfg.ProcessedDirectory, 0o755); err != nil {
				t.Fatal(err)
			}

			write(t, h.done("big.csv"), big)
			r := h.resolve()
			r.setEpoch(t, "m1")

			h.tune.hit = func(at failpoint.Point) error {
				if at == failpoint.Stored {
					return failpoint.ErrCrash
				}
				return nil
			}
			h.start()
			h.died()
			h.book(func(l *ledger.Ledger) {
				if f, err := l.File(idFor(big)); err != nil || f == nil || f.Status != ledger.Reading {
					t.Fatalf("the kill left %+v, %v; wanted a file that is half read", f, err)
				}
			})
			h.tune.hit = func(failpoint.Point) error { return nil }
			h.start()
			eventually(t, "recovered", func() bool { return slices.Contains(r.history(), "recovered m1") })

			if got := len(r.entriesOf(idFor(big))); got != n {
				t.Errorf("the resolver was told %d of %d rows", got, n)
			}

			h.end()
			h.book(func(l *ledger.Ledger) {
				if f, err := l.File(idFor(big)); err != nil || f == nil || f.Status != ledger.Moved {
					t.Errorf("at the end the ledger says %+v, %v", f, err)
				}
			})
		})
	}
}
