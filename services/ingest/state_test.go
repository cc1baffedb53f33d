package ingest

import (
	"os"
	"strings"
	"testing"
	"time"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

// state asks ingest, once it serves requests, for its state.
func (h *harness) state() (state control.IngestState) {
	h.t.Helper()
	eventually(h.t, "ingest tells its state", func() bool {
		all, err := control.AskAll[control.IngestState](h.t.Context(), h.conn.NC, topology.Ingest, control.State, control.Nothing{})
		if err != nil {
			h.t.Fatal(err)
		}

		if len(all) > 1 {
			h.t.Fatalf("%d instances answer", len(all))
		}

		if len(all) == 1 {
			state = all[0]
		}

		return len(all) == 1
	})

	return state
}

func TestState(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	h.tune.check = 50 * time.Millisecond
	began := time.Now()

	h.start()

	s := h.state()
	if s.Name == "" || s.Started.Before(began) || s.Waiting != 0 || !s.Oldest.IsZero() || !s.LastFile.IsZero() || s.FreeBytes == 0 || len(s.Directories) != 0 {
		t.Errorf("at first %+v", s)
	}

	h.moved(map[string]string{"semicolons.csv": strings.ReplaceAll(rows("s", 15), ",", ";")})

	if s = h.state(); len(s.Doubtful) != 1 || s.Doubtful[0].Reason != "none of its 15 rows is good; mostly: not ten columns" {
		t.Errorf("doubtful %+v", s.Doubtful)
	}

	h.moved(map[string]string{"a.csv": rows("a", 3) + "bad\n", "dead.csv": row("dead1"), "binary.csv": "\x00"})
	r.mute(true)
	h.put("waiting.csv", rows("b", 5))
	eventually(t, "waits", func() bool { return r.lost() == 1 })

	if err := os.Mkdir(h.in("dir.csv"), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := os.Remove(h.cfg.FailedDirectory + "/dead.csv"); err != nil {
		t.Fatal(err)
	}

	if err := os.Rename(h.cfg.FailedDirectory, h.cfg.FailedDirectory+".away"); err != nil {
		t.Fatal(err)
	}

	eventually(t, "the problems are seen", func() bool {
		s = h.state()
		return s.Problems["dir.csv"].Reason != "" && s.Directories["FAILED_FILES_DIRECTORY"] == "does not exist"
	})

	if s.Waiting != 1 || s.Rows != 5 || s.Oldest.Before(began) || s.LastFile.Before(s.Oldest) || len(s.Directories) != 1 {
		t.Errorf("state %+v", s)
	}

	want := map[string]int{"applied": 3, "columns": 16, "dead": 1}
	if got := s.Today; got.Done != 2 || got.Failed != 2 || got.Rows != 20 || got.Rejected != 16 || !sameCounts(got.Outcomes, want) {
		t.Errorf("today %+v", got)
	}

	if len(s.Doubtful) != 2 || s.Doubtful[0].Name != "binary.csv" {
		t.Errorf("doubtful %+v", s.Doubtful)
	}

	// The counts are the same after a restart, and a day later nothing counts as of today.
	h.end()
	c := h.clock()
	h.start()

	if got := h.state(); got.Waiting != 1 || got.Rows != 5 || got.Today.Done != 2 || !sameCounts(got.Today.Outcomes, want) || !got.LastFile.Equal(s.LastFile) {
		t.Errorf("after a restart %+v, was %+v", got, s)
	}

	c.forward(day)

	if got := h.state(); got.Today.Done != 0 || got.Today.Rows != 0 || len(got.Today.Outcomes) != 0 {
		t.Errorf("a day later %+v", got.Today)
	}
}

func sameCounts(a, b map[string]int) bool {
	if len(a) != len(b) {
		return false
	}

	for k, v := range a {
		if b[k] != v {
			return false
		}
	}

	return true
}

func TestStateOfAGrowingFile(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	h.cfg.SettleTime = time.Hour
	before := time.Now()

	h.start()
	h.put("grows.csv", row("1"))
	var since time.Time
	eventually(t, "seen", func() bool {
		since = h.state().Unsettled["grows.csv"]
		return !since.IsZero()
	})
	h.put("grows.csv", row("1")+row("2"))
	eventually(t, "seen to have grown", func() bool {
		h.put("grows.csv", row("3"))
		return h.state().Unsettled["grows.csv"].Equal(since)
	})

	if since.Before(before) {
		t.Errorf("grows since %s", since)
	}
}

// metric returns the value of a metric that has a label with that value, or no labels.
func metric(t *testing.T, tel *telemetry.Telemetry, name, label string) float64 {
	t.Helper()

	families, err := tel.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}

	for _, family := range families {
		if family.GetName() != name {
			continue
		}

		for _, m := range family.GetMetric() {
			labels := m.GetLabel()
			if len(labels) == 0 && label == "" || len(labels) == 1 && labels[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}

	return 0
}

// TestMetricsCountOnce checks that an outcome that arrives twice, a file that turns up again, and a restart of the
// service change no count.
func TestMetricsCountOnce(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	tel := telemetry.New("test")
	h.seen = tel
	h.start()

	text := rows("a", 3) + "bad\n" + row("dead1")
	h.moved(map[string]string{"a.csv": text, "b.csv": row("4")})
	again := &event.Acks{Rows: []event.FileRows{{File: idFor(text), Outcome: event.Applied, Rows: event.Rows(1, 2, 3)}}}
	r.publish(t.Context(), again)
	r.publish(t.Context(), again)
	h.put("again.csv", text)
	eventually(t, "moved too", func() bool { return there(h.cfg.FailedDirectory + "/again.csv") })
	r.mute(true)
	h.put("waiting.csv", row("5"))
	eventually(t, "waits", func() bool { return r.lost() == 1 && h.log.Count("msg=\"file read\"") == 3 })
	h.end()
	h.start()
	eventually(t, "serves again", func() bool { return h.state().Waiting == 1 })

	for _, want := range []struct {
		name, label string
		value       float64
	}{
		{"bobosync_ingest_files_finished_total", "done", 1}, {"bobosync_ingest_files_finished_total", "failed", 1},
		{"bobosync_ingest_rows_settled_total", "applied", 4}, {"bobosync_ingest_rows_settled_total", "dead", 1},
		{"bobosync_ingest_rows_rejected_total", "columns", 1}, {"bobosync_ingest_entries_published_total", "", 6},
		{"bobosync_ingest_file_read_seconds", "", 3}, {"bobosync_ingest_files_waiting", "", 1}, {"bobosync_ingest_rows_waiting", "", 1},
	} {
		if got := metric(t, tel, want.name, want.label); got != want.value {
			t.Errorf("%s %s is %v, want %v", want.name, want.label, got, want.value)
		}
	}

	if metric(t, tel, "bobosync_ingest_free_disk_bytes", "") == 0 || metric(t, tel, "bobosync_ingest_feed_silence_seconds", "") == 0 {
		t.Error("no room, or no file ever")
	}

	if read, finished := h.log.Count("msg=\"file read\""), h.log.Count("msg=\"file finished\""); read != 3 || finished != 2 {
		t.Errorf("%d lines of files read, %d of files finished", read, finished)
	}
}
