package ingest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/intake"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/program"
	"bobosync/shared/topology"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"
)

func idFor(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestFileGoesThrough(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	text := "Transaction_Type,Employee_ID\n" + rows("e", 1200) + "BOX,1,P,x,x,x,,,,\n"
	h.put("a.csv", text)
	h.start()
	eventually(t, "file moved", func() bool { return there(h.done("a.csv")) && !there(h.in("a.csv")) })
	eventually(t, "logged", func() bool { return h.log.Count("file finished") == 1 })

	f := h.files()["a.csv"]
	if f.Status != ledger.Moved || f.Rows != 1201 || f.Rejected != 1 || f.Codes[ledger.Code(event.Applied)] != 1200 {
		t.Errorf("record %+v", f)
	}

	if got := len(r.entriesOf(f.ID)); got != 1200 {
		t.Errorf("the resolver got %d entries", got)
	}

	if f.ID != idFor(text) {
		t.Error("the id is not the content's SHA-256")
	}
}

func TestHostileDirectory(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	future := time.Now().UTC().Add(time.Hour)

	texts := map[string]string{
		"bom.CSV":       "\uFEFFTransaction_Type,x\r\n\r\n" + strings.ReplaceAll(row("1"), "\n", "\r\n") + strings.TrimSpace(row("2")),
		"quoted.csv":    `"BON" , " 7 ","a, ""b""",20240617,143000,20240617143000,1,2,3,4` + "\n",
		"badrows.csv":   "BON,1\n" + row("3") + "BXX" + row("4")[3:] + "BON,,P,20240617,143000,20240617143000,,,,\n" + "BON,1,P,20240230,143000,20240230143000,,,,\nBON,1,P,20240617,250000,20240617250000,,,,\nBON,1,P,20240617,143001,20240617143000,,,,\n" + row("5"),
		"future.csv":    fmt.Sprintf("BON,1,P,%s,%s,%s,,,,\n", future.Format("20060102"), future.Format("150405"), future.Format("20060102150405")),
		"empty.csv":     "",
		"header.csv":    "Transaction_Type,Employee_ID\n",
		"binary.csv":    "\x00\x01\x02\xff",
		"latin1.csv":    "BON,J\xe4ger,P,20240617,143000,20240617143000,,,,\n",
		"dead.csv":      row("dead1") + row("6"),
		".hidden.csv":   row("8"),
		"ignored.txt":   row("9"),
		"späße (1).csv": row("10"),
	}
	for name, text := range texts {
		h.put(name, text)
	}

	if err := os.Mkdir(h.in("dir.csv"), 0o755); err != nil {
		t.Fatal(err)
	}

	if err := os.Symlink("nowhere", h.in("dangling.csv")); err != nil {
		t.Fatal(err)
	}

	forbidden := os.Getuid() != 0 // root may read everything
	if forbidden {
		h.put("secret.csv", row("11"))

		if err := os.Chmod(h.in("secret.csv"), 0); err != nil {
			t.Fatal(err)
		}
	}

	h.start()

	failed := []string{"binary.csv", "dead.csv", "latin1.csv"}
	processed := []string{".hidden.csv", "badrows.csv", "bom.CSV", "empty.csv", "future.csv", "header.csv", "quoted.csv", "späße (1).csv"}

	left := []string{"dangling.csv", "dir.csv", "ignored.txt"}
	if forbidden {
		left = []string{"dangling.csv", "dir.csv", "ignored.txt", "secret.csv"}
	}

	eventually(t, "all that can be moved is moved", func() bool { return slices.Equal(names(t, h.cfg.CSVDirectory), left) })

	if got := names(t, h.cfg.ProcessedDirectory); !slices.Equal(got, processed) {
		t.Errorf("processed %v, want %v", got, processed)
	}

	if got := names(t, h.cfg.FailedDirectory); !slices.Equal(got, failed) {
		t.Errorf("failed %v, want %v", got, failed)
	}

	eventually(t, "problems are logged", func() bool { return h.log.Count("cannot be read as a file") == len(left)-1 })
	eventually(t, "all files are logged", func() bool {
		return h.log.Count("msg=\"file finished") == len(processed)+1 && h.log.Count("file set aside") == 2
	})

	problems := h.state().Problems
	if problems["dir.csv"].Reason == "" || problems["dangling.csv"].Reason == "" || len(problems) != len(left)-1 {
		t.Errorf("problems %v", problems)
	}

	files := h.files()
	if f := files["future.csv"]; f.Rejected != 1 || f.Codes[ledger.Code(bobocsv.Future)] != 1 {
		t.Errorf("future: %+v", f)
	}

	if f := files["badrows.csv"]; f.Rows != 8 || f.Rejected != 6 || f.Codes.Settled() != 2 {
		t.Errorf("badrows: %+v", f)
	}

	if f := files["bom.CSV"]; f.Rows != 2 || f.Rejected != 0 {
		t.Errorf("bom: %+v", f)
	}

	if !strings.Contains(files["binary.csv"].Problem, "NUL") || !strings.Contains(files["latin1.csv"].Problem, "UTF-8") {
		t.Errorf("problems %q, %q", files["binary.csv"].Problem, files["latin1.csv"].Problem)
	}

	if e := r.entriesOf(idFor(texts["quoted.csv"]))[1]; e.Employee != "7" || e.At != 1718634600 {
		t.Errorf("quoted: %+v", e)
	}

	h.book(func(l *ledger.Ledger) {
		var lines []string
		for row, err := range l.Rows(files["badrows.csv"].ID, ledger.Code.Rejected) {
			if err != nil {
				t.Fatal(err)
			}

			lines = append(lines, fmt.Sprintf("%d %s %d", row.Line, row.Code, row.Number))
		}

		want := []string{"1 columns 2", "3 transaction_type 0", "4 employee_missing 0", "5 date 0", "6 time 0", "7 contradiction 0"}
		if !slices.Equal(lines, want) {
			t.Errorf("rejected rows %q, want %q", lines, want)
		}
	})
}

func TestDuplicatesAndNames(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	h.start()

	first := rows("a", 3)
	h.put("a.csv", first)
	eventually(t, "first is moved", func() bool { return there(h.done("a.csv")) })
	h.put("copy.csv", first) // known content under another name
	eventually(t, "copy is moved", func() bool { return there(h.done("copy.csv")) })

	second := rows("b", 2)
	h.put("a.csv", second) // known name, other content
	eventually(t, "second is moved beside the first", func() bool { return there(h.done("a (2).csv")) })
	h.put("a.csv", first) // known content under its own name
	eventually(t, "it is moved beside the others", func() bool { return there(h.done("a (3).csv")) })

	for name, want := range map[string]string{"a.csv": first, "a (2).csv": second, "a (3).csv": first, "copy.csv": first} {
		if got, err := os.ReadFile(h.done(name)); err != nil || string(got) != want {
			t.Errorf("%s holds %d bytes, %v", name, len(got), err)
		}
	}

	if n := h.log.Count("known content"); n != 2 {
		t.Errorf("%d notes of known content", n)
	}

	h.end()

	if n := len(r.history()); n != 2 {
		t.Errorf("entries were published %d times: %v", n, r.history())
	}
}

func TestSameContentTwiceAtOnce(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	h.put("a.csv", row("1"))
	h.put("b.csv", row("1"))
	h.start()
	eventually(t, "both are moved", func() bool { return there(h.done("a.csv")) && there(h.done("b.csv")) })

	if r.fileCount() != 1 {
		t.Errorf("%d contents", r.fileCount())
	}
}

func TestFilesStayWithMovingOff(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	h.cfg.Move = false
	h.put("a.csv", rows("a", 3))
	h.put("bad.csv", "\x00")
	h.start()
	eventually(t, "both are done", func() bool { return h.log.Count("file finished") == 1 && h.log.Count("file set aside") == 1 })
	h.end()
	h.start() // it must not be read again, nor count as unsettled after the resolver has a new state store
	r.setEpoch(t, "m1")
	eventually(t, "recovered", func() bool { return slices.Contains(r.history(), "recovered m1") })

	files := h.files()
	if !there(h.in("a.csv")) || files["a.csv"].Status != ledger.Done || files["bad.csv"].Status != ledger.Done {
		t.Errorf("records %+v, %+v", files["a.csv"], files["bad.csv"])
	}

	id := files["a.csv"].ID
	if want := []string{"open " + id, "settled " + id, "recovered m1"}; !slices.Equal(r.history(), want) {
		t.Errorf("published %v, want %v", r.history(), want)
	}

	if n := h.log.Count("file finished"); n != 1 {
		t.Errorf("finished %d times", n)
	}
}

func TestGrowingFileIsLeftAlone(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	h.cfg.SettleTime = 300 * time.Millisecond
	h.start()

	for n := range 20 {
		parts, slowest := h.grow(fmt.Sprintf("%d-", n))
		if slowest >= h.cfg.SettleTime {
			continue // the machine was busy, so the file seemed to be complete
		}

		whole := parts[len(parts)-1]
		eventually(t, "the whole one is read", func() bool { return r.entriesOf(idFor(whole)) != nil })

		for i, part := range parts[:len(parts)-1] {
			if r.entriesOf(idFor(part)) != nil {
				t.Errorf("it was read with %d of its %d rows", i+1, len(parts))
			}
		}

		eventually(t, "moved", func() bool { return there(h.done(fmt.Sprintf("%d-.csv", n))) })

		return
	}

	t.Fatal("the machine is too busy to write a file steadily")
}

// grow writes a file row by row. It returns the content after each row, and the longest time for which it stayed the
// same before the last one.
func (h *harness) grow(name string) (parts []string, slowest time.Duration) {
	h.t.Helper()

	last := time.Now()

	f, err := os.Create(h.in(name + ".csv"))
	if err != nil {
		h.t.Fatal(err)
	}

	text := ""

	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()

	for i := range 20 {
		<-ticker.C

		line := row(name + fmt.Sprint(i))
		text += line
		began := time.Now()

		if _, err := f.WriteString(line); err != nil {
			h.t.Fatal(err)
		}

		parts, slowest, last = append(parts, text), max(slowest, time.Since(last)), began
	}

	if err := f.Close(); err != nil {
		h.t.Fatal(err)
	}

	return parts, slowest
}

func TestChangedWhileWaiting(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.mute(true)

	old, new := rows("old", 2), rows("new", 3)
	h.put("a.csv", old)
	h.start()
	eventually(t, "entries published", func() bool { return r.lost() == 1 })
	h.put("a.csv", new)
	eventually(t, "new entries published", func() bool { return r.lost() == 2 })
	r.mute(false)
	// The outcomes of the old file arrive late; nothing may be moved because of them.
	r.publish(t.Context(), &event.Acks{Rows: []event.FileRows{
		{File: idFor(old), Outcome: event.Applied, Rows: event.Rows(1, 2)}, {File: idFor(new), Outcome: event.Applied, Rows: event.Rows(1, 2, 3)},
	}})
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	eventually(t, "both logged", func() bool { return h.log.Count("file finished") == 2 })

	if got := names(t, h.cfg.ProcessedDirectory); len(got) != 1 {
		t.Errorf("processed %v", got)
	}

	h.end()
	h.book(func(l *ledger.Ledger) {
		for _, text := range []string{old, new} {
			if f, err := l.File(idFor(text)); err != nil || f.Status != ledger.Moved || f.Pending() != 0 {
				t.Errorf("record %+v, %v", f, err)
			}
		}
	})
}

// TestKilledAtAnyPoint kills ingest between any two steps, starts it again, and wants the same result.
func TestKilledAtAnyPoint(t *testing.T) {
	t.Parallel()

	for _, p := range []failpoint.Point{failpoint.Stored, failpoint.Published, failpoint.Settled, failpoint.Moved, failpoint.Rebuilt, failpoint.FinishedReplay, failpoint.Recovered} {
		t.Run(string(p), func(t *testing.T) {
			h := newHarness(t)
			r := h.resolve()
			r.setEpoch(t, "m1")

			texts := map[string]string{"a.csv": rows("a", 700), "b.csv": rows("b", 2) + "bad\n", "c.csv": "", "d.csv": rows("dead", 1)}
			for name, text := range texts {
				h.put(name, text)
			}

			h.tune.hit = func(at failpoint.Point) error {
				if at == p {
					return fmt.Errorf("%w at: %s", failpoint.ErrCrash, at)
				}
				return nil
			}
			h.start()
			h.died()
			h.tune.hit = func(failpoint.Point) error { return nil }
			h.start()
			eventually(t, "all are moved", func() bool { return len(names(t, h.cfg.CSVDirectory)) == 0 })
			eventually(t, "recovered", func() bool { return slices.Contains(r.history(), "recovered m1") })
			h.arrived()

			if got := names(t, h.cfg.ProcessedDirectory); !slices.Equal(got, []string{"a.csv", "b.csv", "c.csv"}) {
				t.Errorf("processed %v", got)
			}

			if got := names(t, h.cfg.FailedDirectory); !slices.Equal(got, []string{"d.csv"}) {
				t.Errorf("failed %v", got)
			}

			for name, f := range h.files() {
				if f.Status != ledger.Moved || f.ID != idFor(texts[name]) || len(f.Copies.InInput()) != 0 {
					t.Errorf("%s: %+v", name, f)
				}
			}
		})
	}
}

func TestResolverStoreLost(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.setEpoch(t, "m1")
	h.put("done.csv", rows("a", 2))
	h.start()
	eventually(t, "moved", func() bool { return there(h.done("done.csv")) })
	r.mute(true)
	h.put("waiting.csv", rows("b", 2))
	eventually(t, "entries published", func() bool { return r.lost() == 1 })
	r.mute(false)
	before := len(r.history())
	r.setEpoch(t, "m2")
	eventually(t, "moved too", func() bool { return there(h.done("waiting.csv")) })
	eventually(t, "recovered", func() bool { return slices.Contains(r.history(), "recovered m2") })

	if got := r.history()[before:]; len(got) != 3 || !strings.HasPrefix(got[0], "settled ") || !strings.HasPrefix(got[1], "open ") || got[2] != "recovered m2" {
		t.Errorf("published %v", got)
	}
}

// TestAFileThatFinishesDuringARecovery: the outcomes of a file arrive after the finished files were read again and
// before the waiting ones are. The file is replayed all the same, and moved after that.
func TestAFileThatFinishesDuringARecovery(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.setEpoch(t, "m1")

	text := rows("b", 2)
	var settle atomic.Bool
	h.tune.hit = func(at failpoint.Point) error {
		if at != failpoint.FinishedReplay || !settle.Swap(false) {
			return nil
		}

		var applied event.RowSet
		applied.Add(1)
		applied.Add(2)
		r.publish(t.Context(), &event.Acks{Rows: []event.FileRows{{File: idFor(text), Outcome: event.Applied, Rows: applied}}})
		eventually(t, "its outcomes are noted", h.outcomesNoted)

		if !there(h.in("waiting.csv")) {
			t.Error("it was moved before it was replayed")
		}

		return nil
	}

	r.mute(true)
	h.put("waiting.csv", text)
	h.start()
	eventually(t, "entries published", func() bool { return r.lost() == 1 })
	eventually(t, "m1", func() bool { return slices.Contains(r.history(), "recovered m1") })

	before := len(r.history())

	settle.Store(true)
	r.setEpoch(t, "m2")
	eventually(t, "recovered", func() bool { return slices.Contains(r.history(), "recovered m2") })

	if got, want := r.history()[before:], []string{"open " + idFor(text), "recovered m2"}; !slices.Equal(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}

	eventually(t, "moved", func() bool { return there(h.done("waiting.csv")) && !there(h.in("waiting.csv")) })
}

func TestLedgerDeleted(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.setEpoch(t, "m1")
	h.start()

	old := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
	for i, name := range []string{"c.csv", "b.csv", "a.csv"} {
		write(t, h.in(name+".new"), rows(name, 2))

		at := old.Add(time.Duration(i) * time.Hour)
		if err := os.Chtimes(h.in(name+".new"), at, at); err != nil {
			t.Fatal(err)
		}

		if name == "a.csv" {
			r.mute(true) // it must wait
		}

		if err := os.Rename(h.in(name+".new"), h.in(name)); err != nil {
			t.Fatal(err)
		}

		if name != "a.csv" {
			eventually(t, "moved", func() bool { return there(h.done(name)) })
		}
	}

	eventually(t, "waits", func() bool { return r.lost() == 1 })
	h.end()

	if err := os.Remove(h.cfg.LedgerPath()); err != nil {
		t.Fatal(err)
	}

	r.mute(false)
	before := len(r.history())

	h.start()
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	eventually(t, "recovered", func() bool { return slices.Contains(r.history()[before:], "recovered m1") })
	// The fake resolver complains if a sequence number differs from the first one. The content of a finished file is
	// still known.
	copied, err := os.ReadFile(h.done("c.csv"))
	if err != nil {
		t.Fatal(err)
	}

	h.put("again.csv", string(copied))
	eventually(t, "the copy is moved", func() bool { return there(h.done("again.csv")) })

	got := r.history()[before:]
	if len(got) != 4 || !strings.HasPrefix(got[0], "settled") || !strings.HasPrefix(got[1], "settled") || !strings.HasPrefix(got[2], "open") || got[3] != "recovered m1" {
		t.Errorf("published %v", got)
	}

	for name, f := range h.files() {
		if f.Status != ledger.Moved {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestStoreLost(t *testing.T) {
	h := newHarness(t)
	h.tune.check = 50 * time.Millisecond
	r := h.resolve()
	r.mute(true)
	h.start()
	h.put("a.csv", rows("a", 2))
	eventually(t, "entries published", func() bool { return r.lost() == 1 })

	for _, stream := range []string{topology.StreamEntries, topology.StreamAcks} {
		if err := h.conn.JS.DeleteStream(t.Context(), stream); err != nil {
			t.Fatal(err)
		}
	}

	r.mute(false)
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
}

func TestBrokerRestarts(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	h.start()
	h.put("a.csv", rows("a", 2))
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	h.srv.Down(t)
	h.put("b.csv", rows("b", 2))
	h.srv.Up(t)
	eventually(t, "moved too", func() bool { return there(h.done("b.csv")) })

	if r.fileCount() != 2 {
		t.Errorf("%d files", r.fileCount())
	}
}

func TestWatchdogAsksForLostOutcomes(t *testing.T) {
	h := newHarness(t)
	h.tune.check, h.tune.stallTimeout = 20*time.Millisecond, 60*time.Millisecond
	r := h.resolve()
	r.mute(true)
	h.start()
	h.put("a.csv", rows("a", 2))
	eventually(t, "entries published and lost", func() bool { return r.lost() >= 1 }) // it is published again and again
	r.mute(false)
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })

	if f := h.files()["a.csv"]; f.Readings == 0 || h.log.Count("nothing is under way") == 0 {
		t.Errorf("record %+v", f)
	}
}

func TestFileRemovedWhileWaiting(t *testing.T) {
	h := newHarness(t)
	h.tune.check, h.tune.stallTimeout = 20*time.Millisecond, 60*time.Millisecond
	r := h.resolve()
	r.mute(true)
	h.start()
	h.put("a.csv", rows("a", 2))
	eventually(t, "entries published and lost", func() bool { return r.lost() > 0 })

	if err := os.Remove(h.in("a.csv")); err != nil {
		t.Fatal(err)
	}

	eventually(t, "given up", func() bool { return h.log.Count("was removed or changed before all of its rows") == 1 })

	if f := h.files()["a.csv"]; f.Status != ledger.Moved || f.Codes[ledger.Vanished] != 2 {
		t.Errorf("record %+v", f)
	}
}

func TestStreamFull(t *testing.T) {
	h := newHarness(t)
	h.cfg.Broker.EntriesMaxBytes = 256 << 10
	h.provision()
	h.start()

	text := rows("employee-", 20_000)
	h.put("a.csv", text) // several times what the stream holds
	eventually(t, "it waits for room", func() bool { return h.log.Count("no room for more entries") == 1 })

	r := h.resolve()
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })

	if n := len(r.entriesOf(idFor(text))); n != 20_000 || r.fileCount() != 1 {
		t.Errorf("%d entries", n)
	}

	eventually(t, "room is logged", func() bool { return h.log.Count("there is room for entries again") == 1 })
}

func TestHousekeepingPurgesOnlyWhatWasRead(t *testing.T) {
	h := newHarness(t)
	h.tune.check = 20 * time.Millisecond
	h.cfg.Broker.MaxAge = time.Nanosecond
	r := h.resolve()
	h.start()
	h.put("a.csv", rows("a", 2))
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })

	stream, err := h.conn.JS.Stream(t.Context(), topology.StreamEntries)
	if err != nil {
		t.Fatal(err)
	}

	held := func() uint64 {
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}

		return info.State.Msgs
	}
	eventually(t, "purged", func() bool { return held() == 0 })
	r.stop()
	h.put("b.csv", rows("b", 2))
	eventually(t, "published", func() bool { return held() == 1 })
	r.start()
	eventually(t, "moved", func() bool { return there(h.done("b.csv")) })
}

func TestUnreadableOutcomesBecomeDeadLetters(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	if _, err := h.conn.JS.Publish(t.Context(), topology.SubjectAcks, []byte(`{"v":99,"rows":[]}`)); err != nil {
		t.Fatal(err)
	}

	h.start()
	h.put("a.csv", rows("a", 2))
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })

	stream, err := r.conn.JS.Stream(t.Context(), topology.StreamDead)
	if err != nil {
		t.Fatal(err)
	}

	var m *jetstream.RawStreamMsg
	eventually(t, "it is a dead letter", func() bool {
		m, err = stream.GetLastMsgForSubject(t.Context(), topology.DeadSubject("ingest"))
		return err == nil
	})

	var d event.DeadLetter
	if err := event.Decode(m.Data, &d); err != nil || string(d.Payload) != `{"v":99,"rows":[]}` || !strings.Contains(d.Reason, "version") {
		t.Errorf("dead letter %+v, %v", d, err)
	}

	eventually(t, "settled for good", func() bool {
		return h.outcomesNoted()
	})
}

func TestLedgerLocked(t *testing.T) {
	h := newHarness(t)
	h.book(func(*ledger.Ledger) {
		err := Run(t.Context(), h.cfg, program.Deps{Conn: h.conn, Log: bustest.Logger()})
		if err == nil || !strings.Contains(err.Error(), h.cfg.LedgerPath()) || !strings.Contains(err.Error(), "in use") {
			t.Errorf("got %v", err)
		}
	})
}

func TestManySmallFiles(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 500
	}

	h := newHarness(t)
	h.resolve()

	h.cfg.PollInterval = time.Second
	for i := range n {
		if err := os.WriteFile(h.in(fmt.Sprintf("%05d.csv", i)), []byte(row(fmt.Sprint("e", i))), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	began := time.Now()

	h.start()
	eventually(t, "all are moved", func() bool { return h.log.Count("file finished") == n })
	t.Logf("%d files in %s", n, time.Since(began))

	if left := names(t, h.cfg.CSVDirectory); len(left) != 0 {
		t.Errorf("%d are left", len(left))
	}

	last := int64(0)
	for i, files := 0, h.files(); i < n; i++ {
		f := files[fmt.Sprintf("%05d.csv", i)]
		if f.Sequence <= last {
			t.Fatalf("%s has order %d after %d", f.Name, f.Sequence, last)
		}

		last = f.Sequence
	}
}

func TestLargeFile(t *testing.T) {
	if testing.Short() {
		t.Skip("a large file takes seconds")
	}

	h := newHarness(t)
	r := h.resolve()
	const n = 200_000
	h.put("big.csv", rows("e", n))

	began := time.Now()

	h.start()
	eventually(t, "moved", func() bool { return there(h.done("big.csv")) })
	t.Logf("%d rows in %s", n, time.Since(began))

	if f := h.files()["big.csv"]; f.Rows != n || f.Codes.Settled() != n || r.messageCount() < n/500 {
		t.Errorf("record %+v", f)
	}
}

func TestMoveFailsAndIsTriedAgain(t *testing.T) {
	h := newHarness(t)
	h.tune.check = 50 * time.Millisecond
	h.resolve()
	h.start()
	eventually(t, "started", h.ready.Load)
	// A file where the directory should be: every move fails, even for root.
	if err := os.Rename(h.cfg.ProcessedDirectory, h.cfg.ProcessedDirectory+".away"); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(h.cfg.ProcessedDirectory, nil, 0o644); err != nil {
		t.Fatal(err)
	}

	h.put("a.csv", row("1"))
	eventually(t, "complained", func() bool { return h.log.Count("variable=PROCESSED_DIRECTORY") == 1 })
	eventually(t, "the file was tried", func() bool { return h.state().BlockedFiles == 1 })

	if !there(h.in("a.csv")) {
		t.Fatal("the file is gone")
	}

	// Checked before the repair, because a move that fails just before it may look like the file's own fault just
	// after it.
	if h.log.Count("cannot be moved") != 0 {
		t.Error("the file is blamed")
	}

	if err := errors.Join(os.Remove(h.cfg.ProcessedDirectory), os.Rename(h.cfg.ProcessedDirectory+".away", h.cfg.ProcessedDirectory)); err != nil {
		t.Fatal(err)
	}

	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	eventually(t, "its end is logged", func() bool { return h.log.Count("can be used again") == 1 })
	h.end()

	if h.log.Count("cannot be used") != 1 {
		t.Error("more lines than one for the directory")
	}
}

// TestAFileThatCannotBeMoved: the directory is not to blame, so the problem is reported for the file itself: in the
// log, in the state and in its record. The file holds up no other one, and is moved once it can be.
func TestAFileThatCannotBeMoved(t *testing.T) {
	h := newHarness(t)
	h.resolve()

	began := time.Now()

	h.put("a.csv", row("1"))
	free := pin(t, h.in("a.csv"))
	h.start()
	eventually(t, "it is said", func() bool { return h.log.Count("cannot be moved") == 1 })
	h.put("b.csv", row("2"))
	eventually(t, "the other one is moved", func() bool { return there(h.done("b.csv")) && !there(h.in("b.csv")) })

	s := h.state()
	if p := s.Blocked["a.csv"]; s.BlockedFiles != 1 || len(s.Blocked) != 1 || p.Reason != "operation not permitted" || p.Since.Before(began) {
		t.Errorf("state %+v", s)
	}

	if f := h.record("a.csv"); f.Status != string(ledger.Done) || f.Blocked == nil || *f.Blocked != s.Blocked["a.csv"] {
		t.Errorf("record %+v", f)
	}

	if h.log.Count("cannot be used") != 0 {
		t.Error("the directory is blamed")
	}

	free()
	eventually(t, "it is moved", func() bool { return there(h.done("a.csv")) && !there(h.in("a.csv")) })
	h.arrived()

	if s := h.state(); s.BlockedFiles != 0 || len(s.Blocked) != 0 || h.record("a.csv").Blocked != nil {
		t.Errorf("state %+v", s)
	}
}

// record asks ingest for the record of a file.
func (h *harness) record(name string) control.FileState {
	h.t.Helper()

	a, err := control.Ask[control.FilesAnswer](h.t.Context(), h.conn.NC, topology.Ingest, control.Files, control.FilesRequest{Text: name})
	if err != nil || len(a.Files) != 1 {
		h.t.Fatalf("record of %s: %+v, %v", name, a.Files, err)
	}

	return a.Files[0]
}

// pin keeps a file from being moved by anybody, even root, until free is called.
func pin(t *testing.T, path string) (free func()) {
	t.Helper()

	set := func(on bool) error {
		file, err := os.Open(path)
		if err != nil {
			return err
		}

		flags, err := unix.IoctlGetInt(int(file.Fd()), unix.FS_IOC_GETFLAGS)
		if flags &^= unix.STATX_ATTR_IMMUTABLE; on {
			flags |= unix.STATX_ATTR_IMMUTABLE // the same bit as FS_IMMUTABLE_FL
		}

		return errors.Join(err, unix.IoctlSetPointerInt(int(file.Fd()), unix.FS_IOC_SETFLAGS, flags), file.Close())
	}
	if err := set(true); err != nil {
		t.Skip("files cannot be made immutable here:", err)
	}

	free = sync.OnceFunc(func() {
		if err := set(false); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(free)

	return free
}

// TestNamesAreBytes checks that a name that is not UTF-8 works like any other, even across a restart.
func TestNamesAreBytes(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	names := []string{"caf\xe9.csv", "\xff\xfe.csv", strings.Repeat("\xe9", 245) + ".csv", "a\nb\x1b[31m.csv"}

	r.mute(true)

	for i, name := range names {
		h.put(name, row(fmt.Sprint(i)))
	}

	h.start()
	eventually(t, "they are read", func() bool { return r.fileCount() == len(names) })
	h.end()
	r.mute(false)

	h.tune.check, h.tune.stallTimeout = 20*time.Millisecond, 60*time.Millisecond
	h.start()

	for _, name := range names {
		eventually(t, "moved", func() bool { return there(h.done(name)) && !there(h.in(name)) })
	}

	h.arrived()

	if f := h.record(`caf\xe9.csv`); f.Name != `caf\xe9.csv` || len(f.Paths) != 1 || !strings.HasSuffix(f.Paths[0], `/caf\xe9.csv`) {
		t.Errorf("record %+v", f)
	}

	h.put(names[0], row("again"))
	eventually(t, "moved beside the first", func() bool { return there(h.done("caf\xe9 (2).csv")) })

	for name, f := range h.files() {
		if f.Status != ledger.Moved || !slices.Contains(names, name) || !there(f.Copies[0].MovedTo) {
			t.Errorf("%q: %+v", name, f)
		}
	}
}

// TestAFileThatComesVeryOften checks that each copy gets a name, whatever lies there already.
func TestAFileThatComesVeryOften(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	h.start()
	eventually(t, "started", h.ready.Load)

	const n = 60
	for i := range n {
		h.put("a.csv", "")
		eventually(t, "moved", func() bool { return len(names(t, h.cfg.ProcessedDirectory)) == i+1 })
	}

	h.arrived()
}

// TestWhatIsWrittenAfterAFileWasTaken: a producer keeps its file open and pauses for longer than the settle time.
// What it writes later is read, even if ingest was not running then.
func TestWhatIsWrittenAfterAFileWasTaken(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		t.Run(fmt.Sprintf("stopped %v", stopped), func(t *testing.T) {
			h := newHarness(t)
			h.tune.check = 50 * time.Millisecond
			r := h.resolve()
			h.start()

			file, err := os.Create(h.in("a.csv"))
			if err != nil {
				t.Fatal(err)
			}

			first, second := row("1"), row("2")
			if _, err := file.WriteString(first); err != nil {
				t.Fatal(err)
			}

			eventually(t, "moved", func() bool { return there(h.done("a.csv")) && !there(h.in("a.csv")) })
			h.arrived()

			if stopped {
				h.end()
			}

			if _, err := file.WriteString(second); err != nil {
				t.Fatal(err)
			}

			if err := file.Close(); err != nil {
				t.Fatal(err)
			}

			if stopped {
				h.start()
			}

			eventually(t, "all of it is read", func() bool { return len(r.entriesOf(idFor(first+second))) == 2 })
			eventually(t, "moved again", func() bool { return there(h.done("a.csv")) && !there(h.in("a.csv")) })
			h.arrived()
			h.end()
			h.book(func(l *ledger.Ledger) {
				f, err := l.File(idFor(first))
				if err != nil || f.Status != ledger.Moved || notes(f, "written to after it was moved") != 1 || f.Copies[0].AtDest() {
					t.Errorf("record %+v, %v", f, err)
				}
			})

			if text, err := os.ReadFile(h.done("a.csv")); err != nil || string(text) != first+second {
				t.Errorf("moved %q, %v", text, err)
			}
		})
	}
}

// TestWhatCannotBeTakenBackAtOnce checks that a file that was written to after its move is taken back once that is
// possible, however late it is.
func TestWhatCannotBeTakenBackAtOnce(t *testing.T) {
	h := newHarness(t)
	var later atomic.Int64
	h.tune.now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	h.tune.check = 50 * time.Millisecond
	r := h.resolve()
	h.start()

	first, second := row("1"), row("2")
	h.put("a.csv", first)
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) && !there(h.in("a.csv")) })
	h.arrived()

	away := h.cfg.CSVDirectory + "-away"
	if err := os.Rename(h.cfg.CSVDirectory, away); err != nil {
		t.Fatal(err)
	}

	file, err := os.OpenFile(h.done("a.csv"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}

	if _, err := file.WriteString(second); err != nil {
		t.Fatal(err)
	}

	if err := file.Close(); err != nil {
		t.Fatal(err)
	}

	for warnings := range 3 { // from the second one on, the file would be too old to be checked
		eventually(t, "it is said", func() bool { return h.log.Count("cannot be taken back") > warnings })
		later.Add(int64(10 * time.Minute))
	}

	if err := os.Rename(away, h.cfg.CSVDirectory); err != nil {
		t.Fatal(err)
	}

	eventually(t, "all of it is read", func() bool { return len(r.entriesOf(idFor(first+second))) == 2 })
}

// TestWhatIsWrittenAfterAFileWasCopied is the same test with the processed files on another file system, so that the
// original file is gone.
func TestWhatIsWrittenAfterAFileWasCopied(t *testing.T) {
	elsewhere, err := os.MkdirTemp("/dev/shm", "bobosync-")
	if err != nil {
		t.Skip("no other file system here:", err)
	}

	t.Cleanup(func() { _ = os.RemoveAll(elsewhere) })

	for _, ended := range []bool{false, true} {
		t.Run(fmt.Sprintf("ended %v", ended), func(t *testing.T) {
			h := newHarness(t)
			h.tune.check = 50 * time.Millisecond
			if ended { // then it is checked for the last time at the end
				h.tune.check = time.Hour
			}

			r := h.resolve()
			if err := errors.Join(os.RemoveAll(h.done("")), os.Symlink(elsewhere, strings.TrimSuffix(h.done(""), "/"))); err != nil {
				t.Fatal(err)
			}

			h.start()

			name := fmt.Sprintf("%v.csv", ended)

			file, err := os.Create(h.in(name))
			if err != nil {
				t.Fatal(err)
			}

			first, second := row("1"), row("2")
			if _, err := file.WriteString(first); err != nil {
				t.Fatal(err)
			}

			eventually(t, "copied", func() bool { return there(h.done(name)) && !there(h.in(name)) })
			h.arrived()

			if _, err := file.WriteString(second); err != nil {
				t.Fatal(err)
			}

			if err := file.Close(); err != nil {
				t.Fatal(err)
			}

			if ended {
				h.end()
				h.start()
			}

			eventually(t, "all of it is read", func() bool { return len(r.entriesOf(idFor(first+second))) == 2 })
			h.end()
		})
	}
}

// TestRewrittenInPlace checks that a file of the same size and with its old modification time restored still counts
// as another file.
func TestRewrittenInPlace(t *testing.T) {
	h := newHarness(t)
	h.tune.check, h.tune.stallTimeout = 20*time.Millisecond, 60*time.Millisecond
	r := h.resolve()
	r.mute(true)

	first, second := row("1"), row("2")
	h.put("a.csv", first)
	h.start()
	eventually(t, "read", func() bool { return r.entriesOf(idFor(first)) != nil })

	info, err := os.Stat(h.in("a.csv"))
	if err != nil {
		t.Fatal(err)
	}

	if err := errors.Join(os.WriteFile(h.in("a.csv"), []byte(second), 0o644), os.Chtimes(h.in("a.csv"), info.ModTime(), info.ModTime())); err != nil {
		t.Fatal(err)
	}

	eventually(t, "read too", func() bool { return r.entriesOf(idFor(second)) != nil })
	r.mute(false)
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
}

// TestLinksStay checks that the target of a link is neither read nor copied, and that other files go through.
func TestLinksStay(t *testing.T) {
	h := newHarness(t)
	h.resolve()

	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, row("secret"))

	for _, name := range []string{"link.csv", ".bobosync-x.aside"} {
		if err := os.Symlink(secret, h.in(name)); err != nil {
			t.Fatal(err)
		}
	}

	if err := errors.Join(os.Mkdir(h.in(".bobosync-y.aside"), 0), unix.Mkfifo(h.in("pipe.csv"), 0o644)); err != nil {
		t.Fatal(err)
	}

	h.put("a.csv", row("1"))
	h.start()
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) && !there(h.in("a.csv")) })

	s := h.state()
	if !strings.Contains(s.Problems["link.csv"].Reason, "link") || s.Problems["pipe.csv"].Reason == "" || !there(h.in("link.csv")) {
		t.Errorf("problems %v", s.Problems)
	}

	if got := names(t, h.cfg.ProcessedDirectory); !slices.Equal(got, []string{"a.csv"}) {
		t.Errorf("processed %v", got)
	}
}

// TestNoNameKeepsIngestFromStarting: a file looks as if an earlier run had put it aside, and its own name is not
// free.
func TestNoNameKeepsIngestFromStarting(t *testing.T) {
	h := newHarness(t)
	h.resolve()

	long, shortened := strings.Repeat("x", 251)+".csv", strings.Repeat("x", 247)+" (2).csv"
	aside := h.in(".bobosync-y.aside")
	if err := errors.Join(os.Mkdir(h.in(long), 0o755), os.Mkdir(aside, 0o755), os.WriteFile(filepath.Join(aside, long), nil, 0o644)); err != nil {
		t.Fatal(err)
	}

	h.put("a.csv", row("1"))
	h.start()

	for _, name := range []string{"a.csv", shortened} {
		eventually(t, "moved", func() bool { return there(h.done(name)) && !there(h.in(name)) })
	}

	h.arrived()
}

// TestASmallFileDoesNotWaitForALargeOne checks that the small file is published first but still counts as the later
// one.
func TestASmallFileDoesNotWaitForALargeOne(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	const n = intake.WindowLines + 5000
	large, small := rows("l", n), row("s")
	var once sync.Once
	h.tune.hit = func(at failpoint.Point) error {
		if at == failpoint.Published {
			once.Do(func() { // the first part of the large one is published
				h.put("small.csv", small)
				eventually(t, "the small one is found", func() bool { return h.state().Unread > 0 })
			})
		}

		return nil
	}
	h.put("large.csv", large)
	h.start()
	eventually(t, "both are moved", func() bool { return there(h.done("large.csv")) && there(h.done("small.csv")) })

	history := r.history()
	last := slices.Index(history, "open "+idFor(small))
	if last < 0 || !slices.Contains(history[last:], "open "+idFor(large)) {
		t.Errorf("the small one came after the large one: %d parts", len(history))
	}

	files := h.files()
	if files["large.csv"].Sequence >= files["small.csv"].Sequence {
		t.Errorf("the large one has order %d, the small one %d", files["large.csv"].Sequence, files["small.csv"].Sequence)
	}
}

// TestASmallFileDoesNotWaitForOneWithoutRows checks the same for a large file whose lines are all blank.
func TestASmallFileDoesNotWaitForOneWithoutRows(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	small := row("s")

	h.put("blank.csv", strings.Repeat("\n", 64<<20))
	h.start()
	eventually(t, "started", h.ready.Load)
	eventually(t, "the large one is begun", func() bool { return h.state().Unread == 1 && len(h.state().Unsettled) == 0 })
	h.put("small.csv", small)
	eventually(t, "the small one is moved", func() bool { return there(h.done("small.csv")) })

	if len(r.entriesOf(idFor(small))) != 1 || !there(h.in("blank.csv")) {
		t.Error("the small one waited for the large one")
	}

	eventually(t, "the large one is moved", func() bool { return there(h.done("blank.csv")) })
}

// TestTheOrderOfALargeFileOutlivesACrash checks that a small file that was read before a large one still counts as
// the later one.
func TestTheOrderOfALargeFileOutlivesACrash(t *testing.T) {
	h := newHarness(t)
	h.resolve()

	large, small := rows("l", 40_000), row("s")
	for i, name := range []string{"large.csv", "small.csv"} {
		h.put(name, []string{large, small}[i])

		at := time.Now().Add(time.Duration(i-2) * time.Hour)
		if err := os.Chtimes(h.in(name), at, at); err != nil {
			t.Fatal(err)
		}
	}

	h.tune.hit = func(at failpoint.Point) error {
		if at == failpoint.Published { // of the small one
			return failpoint.ErrCrash
		}
		return nil
	}
	h.start()
	h.died()
	h.tune.hit = failpoint.None
	h.start()
	eventually(t, "both are moved", func() bool { return there(h.done("large.csv")) && there(h.done("small.csv")) })

	files := h.files()
	if files["large.csv"].Sequence >= files["small.csv"].Sequence {
		t.Errorf("the large one has order %d, the small one %d", files["large.csv"].Sequence, files["small.csv"].Sequence)
	}
}

func TestInputDirectoryVanishes(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	h.start()
	h.put("a.csv", row("1"))
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })

	away := h.cfg.CSVDirectory + ".away"
	if err := os.Rename(h.cfg.CSVDirectory, away); err != nil {
		t.Fatal(err)
	}

	eventually(t, "complained", func() bool { return h.log.Count("variable=CSV_DIRECTORY") == 1 })

	if err := os.Mkdir(h.cfg.CSVDirectory, 0o755); err != nil {
		t.Fatal(err)
	}

	h.put("b.csv", row("2"))
	eventually(t, "moved", func() bool { return there(h.done("b.csv")) })
	eventually(t, "its end is logged", func() bool { return h.log.Count("can be used again") == 1 })
}

func TestConfig(t *testing.T) {
	t.Parallel()

	if err := (&Config{Move: true, MaxClockSkew: -1}).Validate(); err == nil {
		t.Fatal("an empty configuration is valid")
	} else {
		for _, name := range []string{"CSV_DIRECTORY", "PROCESSED_DIRECTORY", "FAILED_FILES_DIRECTORY", "POLL_INTERVAL", "SETTLE_TIME", "MAX_CLOCK_SKEW", "STREAM_MAX_AGE"} {
			if !strings.Contains(err.Error(), name) {
				t.Errorf("%s is not named in %v", name, err)
			}
		}
	}

	dir := t.TempDir()
	tests := map[string]Config{
		"CSV_DIRECTORY: the directory":                          {CSVDirectory: filepath.Join(dir, "missing")},
		"CSV_DIRECTORY and PROCESSED_DIRECTORY are the same":    {CSVDirectory: dir, ProcessedDirectory: dir + "/."},
		"PROCESSED_DIRECTORY and FAILED_FILES_DIRECTORY are th": {CSVDirectory: dir, ProcessedDirectory: dir + "/x", FailedDirectory: dir + "/x"},
	}
	for want, cfg := range tests {
		if err := cfg.prepare(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestMendedFileIsMovedOn: a file was set aside because of dead rows. Once the last of them is applied after all, the
// file goes to the processed files, even across a restart.
func TestMendedFileIsMovedOn(t *testing.T) {
	t.Parallel()

	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			h := newHarness(t)
			r := h.resolve()
			text := row("dead1") + row("6") + row("dead2")
			h.put("a.csv", text)
			h.start()
			failed := filepath.Join(h.cfg.FailedDirectory, "a.csv")
			eventually(t, "set aside", func() bool { return there(failed) })
			h.noted("a.csv")
			r.publish(t.Context(), &event.Acks{Answers: []event.Answer{{File: idFor(text), Version: event.Version{Row: 1}, Outcome: event.Applied}}})

			if restart {
				h.end()
				h.start()
			}

			r.publish(t.Context(), &event.Acks{Answers: []event.Answer{{File: idFor(text), Version: event.Version{Row: 3}, Outcome: event.Superseded}}})
			eventually(t, "moved on", func() bool { return there(h.done("a.csv")) && !there(failed) })
			eventually(t, "logged", func() bool { return h.log.Count("the dead rows of a file were repaired") == 1 })

			f := h.files()["a.csv"]
			if f.Status != ledger.Moved || f.Failed() || f.Codes[ledger.Code(event.Applied)] != 2 || f.Codes[ledger.Code(event.Superseded)] != 1 {
				t.Errorf("record %+v", f)
			}
		})
	}
}

// TestRepairedWhileACopyIsBlocked checks that a copy of a failed file that cannot be moved is moved once it can be,
// even if the file was repaired meanwhile.
func TestRepairedWhileACopyIsBlocked(t *testing.T) {
	h := newHarness(t)
	south := filepath.Join(filepath.Dir(h.cfg.CSVDirectory), "south")
	if err := os.Mkdir(south, 0o755); err != nil {
		t.Fatal(err)
	}

	h.cfg.Feeds = Feeds{{Feed: "north", Dir: h.cfg.CSVDirectory}, {Feed: "south", Dir: south}}
	h.cfg.SettleTime = 500 * time.Millisecond
	r := h.resolve()
	text := row("dead1") + row("6")
	h.put("a.csv", text)
	h.start()
	failed := filepath.Join(h.cfg.FailedDirectory, "a.csv")
	eventually(t, "set aside", func() bool { return there(failed) })
	h.noted("north/a.csv")
	write(t, filepath.Join(south, "b.csv"), text)

	free := pin(t, south)
	if !there(filepath.Join(south, "b.csv")) {
		t.Skip("it was moved before that was forbidden")
	}

	eventually(t, "the copy is blocked", func() bool { return h.state().BlockedFiles == 1 })
	r.publish(t.Context(), &event.Acks{Answers: []event.Answer{{File: idFor(text), Version: event.Version{Row: 1}, Outcome: event.Applied}}})
	eventually(t, "moved on", func() bool { return there(h.done("a.csv")) && !there(failed) })
	eventually(t, "moved on, says the ledger", func() bool { return h.log.Count("the dead rows of a file were repaired") == 1 })
	free()
	eventually(t, "the copy is moved", func() bool { return !there(filepath.Join(south, "b.csv")) })
	h.arrived()
}

// TestRepairedWhileItIsMoved: the last dead row of a file is applied after the file was moved as a failed one, but
// before the move is noted.
func TestRepairedWhileItIsMoved(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	text := row("dead1") + row("6")
	h.put("a.csv", text)

	moved, repaired := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.tune.hit = func(at failpoint.Point) error {
		if at == failpoint.Moved {
			once.Do(func() {
				close(moved)
				<-repaired
			})
		}

		return nil
	}
	h.start()
	<-moved
	r.publish(t.Context(), &event.Acks{Answers: []event.Answer{{File: idFor(text), Version: event.Version{Row: 1}, Outcome: event.Applied}}})
	eventually(t, "repaired", func() bool {
		open, err := control.Ask[control.FilesAnswer](t.Context(), h.conn.NC, topology.Ingest, control.Files, control.FilesRequest{Open: true})
		return err == nil && len(open.Files) == 1 && !open.Files[0].Failed
	})
	close(repaired)

	failed := filepath.Join(h.cfg.FailedDirectory, "a.csv")
	eventually(t, "moved on", func() bool { return there(h.done("a.csv")) && !there(failed) })
	eventually(t, "finished", func() bool { return h.files()["a.csv"].Status == ledger.Moved })
}
