package ingest

import (
	"slices"
	"sync/atomic"
	"testing"

	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// memory says that a resolver, which does not run here, has a memory of this name.
func (h *harness) memory(name string) {
	h.t.Helper()
	r := &fakeResolver{conn: h.conn}
	r.remember(h.t, name)
}

// told returns what the stream of entries holds, in the words of fakeResolver.history.
func (h *harness) told() []string {
	h.t.Helper()
	stream, err := h.conn.JS.Stream(h.t.Context(), topology.StreamEntries)
	if err != nil {
		return nil // it is about to be made
	}
	var told []string
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
			told = append(told, "recovered "+e.Memory)
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
		told = append(told, kind+e.File)
	}
	return told
}

// TestRecoveredIsLostWithTheStream: the word that ends a recovery is stored and noted, and lost before the resolver has read
// it, alone or with what the resolver has said of its memory.
func TestRecoveredIsLostWithTheStream(t *testing.T) {
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
			h.memory("m2")
			idle.Store(0)
			h.start()
			want := []string{"settled " + idFor(text), "recovered m2"}
			eventually(t, "told and noted", func() bool { return idle.Load() > 0 && slices.Contains(h.told(), "recovered m2") })
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
				h.memory("m2")
			}
			eventually(t, "told again", func() bool { return slices.Contains(h.told(), "recovered m2") })
			if got := h.told(); !slices.Equal(got, want) {
				t.Errorf("told %v, want %v", got, want)
			}
		})
	}
}
