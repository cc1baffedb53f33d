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
	"sync/atomic"
	"testing"
	"time"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/bustest"
	"bobosync/shared/event"
	"bobosync/shared/program"
	"bobosync/shared/topology"
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
	eventually(t, "logged", func() bool { return h.log.count("file finished") == 1 })
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
	eventually(t, "problems are logged", func() bool { return h.log.count("cannot be read as a file") == len(left)-1 })
	eventually(t, "all files are logged", func() bool {
		return h.log.count("msg=\"file finished") == len(processed)+1 && h.log.count("file set aside") == 2
	})

	files := h.files()
	if f := files["future.csv"]; f.Rejected != 1 || f.Codes[ledger.Code(bobocsv.Future)] != 1 {
		t.Errorf("future: %+v", f)
	}
	if f := files["badrows.csv"]; f.Rows != 8 || f.Rejected != 6 || f.Settled() != 2 {
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
		problems, err := l.Problems()
		if err != nil || problems["dir.csv"].Reason == "" || problems["dangling.csv"].Reason == "" || len(problems) != len(left)-1 {
			t.Errorf("problems %v, %v", problems, err)
		}
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
	if n := h.log.count("known content"); n != 2 {
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
	eventually(t, "both are done", func() bool { return h.log.count("file finished") == 1 && h.log.count("file set aside") == 1 })
	h.end()
	h.start() // it must not be read again, nor after a new memory be taken for unsettled
	r.remember(t, "m1")
	eventually(t, "recovered", func() bool { return slices.Contains(r.history(), "recovered m1") })
	files := h.files()
	if !there(h.in("a.csv")) || files["a.csv"].Status != ledger.Done || files["bad.csv"].Status != ledger.Done {
		t.Errorf("records %+v, %+v", files["a.csv"], files["bad.csv"])
	}
	id := files["a.csv"].ID
	if want := []string{"open " + id, "settled " + id, "recovered m1"}; !slices.Equal(r.history(), want) {
		t.Errorf("published %v, want %v", r.history(), want)
	}
	if n := h.log.count("file finished"); n != 1 {
		t.Errorf("finished %d times", n)
	}
}

func TestGrowingFileIsLeftAlone(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	h.cfg.SettleTime = 300 * time.Millisecond
	f, err := os.Create(h.in("a.csv"))
	if err != nil {
		t.Fatal(err)
	}
	h.start()
	text := ""
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for i := range 20 {
		<-ticker.C
		line := row(fmt.Sprint(i))
		text += line
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	if whole := r.entriesOf(idFor(text)) != nil; !whole || r.fileCount() != 1 {
		t.Errorf("%d contents were read, the whole one among them: %t", r.fileCount(), whole)
	}
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
	// The old one's outcomes arrive late; nothing may be moved for it.
	r.publish(t.Context(), &event.Acks{Rows: []event.FileRows{
		{File: idFor(old), Outcome: event.Applied, Rows: event.Rows(1, 2)}, {File: idFor(new), Outcome: event.Applied, Rows: event.Rows(1, 2, 3)},
	}})
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	eventually(t, "both logged", func() bool { return h.log.count("file finished") == 2 })
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

// TestKilledAtAnyPoint kills ingest between any two steps, starts it again, and wants the same end.
func TestKilledAtAnyPoint(t *testing.T) {
	t.Parallel()
	for _, p := range []point{pointStored, pointPublished, pointSettled, pointMoved, pointRebuilt, pointFinishedTold, pointRecovered} {
		t.Run(string(p), func(t *testing.T) {
			h := newHarness(t)
			r := h.resolve()
			r.remember(t, "m1")
			texts := map[string]string{"a.csv": rows("a", 700), "b.csv": rows("b", 2) + "bad\n", "c.csv": "", "d.csv": rows("dead", 1)}
			for name, text := range texts {
				h.put(name, text)
			}
			h.tune.reach = func(at point) error {
				if at == p {
					return fmt.Errorf("%w at: %s", errKilled, at)
				}
				return nil
			}
			h.start()
			h.died()
			h.tune.reach = func(point) error { return nil }
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
				if f.Status != ledger.Moved || f.ID != idFor(texts[name]) || len(f.Left()) != 0 {
					t.Errorf("%s: %+v", name, f)
				}
			}
		})
	}
}

func TestResolverMemoryLost(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.remember(t, "m1")
	h.put("done.csv", rows("a", 2))
	h.start()
	eventually(t, "moved", func() bool { return there(h.done("done.csv")) })
	r.mute(true)
	h.put("waiting.csv", rows("b", 2))
	eventually(t, "entries published", func() bool { return r.lost() == 1 })
	r.mute(false)
	before := len(r.history())
	r.remember(t, "m2")
	eventually(t, "moved too", func() bool { return there(h.done("waiting.csv")) })
	eventually(t, "recovered", func() bool { return slices.Contains(r.history(), "recovered m2") })
	if got := r.history()[before:]; len(got) != 3 || !strings.HasPrefix(got[0], "settled ") || !strings.HasPrefix(got[1], "open ") || got[2] != "recovered m2" {
		t.Errorf("published %v", got)
	}
}

// TestAFileThatFinishesDuringARecovery: its outcomes come, and it is moved, after the finished files were read again and before
// those that wait are.
func TestAFileThatFinishesDuringARecovery(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.remember(t, "m1")
	text := rows("b", 2)
	var settle atomic.Bool
	h.tune.reach = func(at point) error {
		if at != pointFinishedTold || !settle.Swap(false) {
			return nil
		}
		var applied event.RowSet
		applied.Add(1)
		applied.Add(2)
		r.publish(t.Context(), &event.Acks{Rows: []event.FileRows{{File: idFor(text), Outcome: event.Applied, Rows: applied}}})
		eventually(t, "moved", func() bool { return there(h.done("waiting.csv")) && !there(h.in("waiting.csv")) })
		return nil
	}
	r.mute(true)
	h.put("waiting.csv", text)
	h.start()
	eventually(t, "entries published", func() bool { return r.lost() == 1 })
	eventually(t, "m1", func() bool { return slices.Contains(r.history(), "recovered m1") })
	before := len(r.history())
	settle.Store(true)
	r.remember(t, "m2")
	eventually(t, "recovered", func() bool { return slices.Contains(r.history(), "recovered m2") })
	if got, want := r.history()[before:], []string{"settled " + idFor(text), "recovered m2"}; !slices.Equal(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}
}

func TestLedgerDeleted(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.remember(t, "m1")
	h.start()
	old := time.Now().Add(-3 * time.Hour).Truncate(time.Second)
	for i, name := range []string{"c.csv", "b.csv", "a.csv"} {
		write(t, h.in(name+".new"), rows(name, 2))
		at := old.Add(time.Duration(i) * time.Hour)
		if err := os.Chtimes(h.in(name+".new"), at, at); err != nil {
			t.Fatal(err)
		}
		if name == "a.csv" {
			r.mute(true) // it waits
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
	// The fake resolver complains if an order came out otherwise. A finished content is known, in spite of all.
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
	h.tune.check, h.tune.patience = 20*time.Millisecond, 60*time.Millisecond
	r := h.resolve()
	r.mute(true)
	h.start()
	h.put("a.csv", rows("a", 2))
	eventually(t, "entries published and lost", func() bool { return r.lost() == 1 })
	r.mute(false)
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	if f := h.files()["a.csv"]; f.Readings == 0 || h.log.count("nothing is under way") == 0 {
		t.Errorf("record %+v", f)
	}
}

func TestFileRemovedWhileWaiting(t *testing.T) {
	h := newHarness(t)
	h.tune.check, h.tune.patience = 20*time.Millisecond, 60*time.Millisecond
	r := h.resolve()
	r.mute(true)
	h.start()
	h.put("a.csv", rows("a", 2))
	eventually(t, "entries published and lost", func() bool { return r.lost() > 0 })
	if err := os.Remove(h.in("a.csv")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "given up", func() bool { return h.log.count("was removed or changed before all of its rows") == 1 })
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
	eventually(t, "it waits for room", func() bool { return h.log.count("no room for more entries") == 1 })
	r := h.resolve()
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	if n := len(r.entriesOf(idFor(text))); n != 20_000 || r.fileCount() != 1 {
		t.Errorf("%d entries", n)
	}
	eventually(t, "room is logged", func() bool { return h.log.count("there is room for entries again") == 1 })
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
	m, err := stream.GetLastMsgForSubject(t.Context(), topology.DeadSubject("ingest"))
	if err != nil {
		t.Fatal(err)
	}
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
	n := 10_000
	if testing.Short() {
		n = 1000
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
	eventually(t, "all are moved", func() bool { return h.log.count("file finished") == n })
	t.Logf("%d files in %s", n, time.Since(began))
	if left := names(t, h.cfg.CSVDirectory); len(left) != 0 {
		t.Errorf("%d are left", len(left))
	}
	last := int64(0)
	for i, files := 0, h.files(); i < n; i++ {
		f := files[fmt.Sprintf("%05d.csv", i)]
		if f.Order <= last {
			t.Fatalf("%s has order %d after %d", f.Name, f.Order, last)
		}
		last = f.Order
	}
}

func TestLargeFile(t *testing.T) {
	if testing.Short() {
		t.Skip("a large file takes seconds")
	}
	h := newHarness(t)
	r := h.resolve()
	const n = 300_000
	h.put("big.csv", rows("e", n))
	began := time.Now()
	h.start()
	eventually(t, "moved", func() bool { return there(h.done("big.csv")) })
	t.Logf("%d rows in %s", n, time.Since(began))
	if f := h.files()["big.csv"]; f.Rows != n || f.Settled() != n || r.messageCount() < n/500 {
		t.Errorf("record %+v", f)
	}
}

func TestMoveFailsAndIsTriedAgain(t *testing.T) {
	h := newHarness(t)
	h.tune.check = 50 * time.Millisecond
	h.resolve()
	h.start()
	eventually(t, "started", h.ready.Load)
	// A file where the directory should be: every move fails, for root too.
	if err := os.Rename(h.cfg.ProcessedDirectory, h.cfg.ProcessedDirectory+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.cfg.ProcessedDirectory, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	h.put("a.csv", row("1"))
	eventually(t, "complained", func() bool { return h.log.count("variable=PROCESSED_DIRECTORY") == 1 })
	if !there(h.in("a.csv")) {
		t.Fatal("the file is gone")
	}
	if err := errors.Join(os.Remove(h.cfg.ProcessedDirectory), os.Rename(h.cfg.ProcessedDirectory+".away", h.cfg.ProcessedDirectory)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "moved", func() bool { return there(h.done("a.csv")) })
	eventually(t, "its end is logged", func() bool { return h.log.count("can be used again") == 1 })
	h.end()
	if h.log.count("cannot be used") != 1 || h.log.count("cannot be moved") != 0 {
		t.Error("more lines than one for the directory")
	}
}

// TestAFileThatCannotBeMoved: it is not the directory's fault, so the file has lines of its own.
func TestAFileThatCannotBeMoved(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	h.start()
	eventually(t, "started", h.ready.Load)
	name := strings.Repeat("x", 250) + ".csv"
	for i := range 2 { // the second one's free name beside the first is too long for the file system
		h.put("short", row(fmt.Sprint(i)))
		if err := os.Rename(h.in("short"), h.in(name)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "moved, or complained", func() bool { return there(h.done(name)) && (i == 0 || h.log.count("cannot be moved") == 1) })
		eventually(t, "gone", func() bool { return i == 1 || !there(h.in(name)) })
	}
	if h.log.count("cannot be used") != 0 {
		t.Error("the directory is blamed")
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
	eventually(t, "complained", func() bool { return h.log.count("variable=CSV_DIRECTORY") == 1 })
	if err := os.Mkdir(h.cfg.CSVDirectory, 0o755); err != nil {
		t.Fatal(err)
	}
	h.put("b.csv", row("2"))
	eventually(t, "moved", func() bool { return there(h.done("b.csv")) })
	eventually(t, "its end is logged", func() bool { return h.log.count("can be used again") == 1 })
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

func TestTextCheck(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want string }{
		{"", ""}, {"plain", ""}, {"ä€😀", ""}, {"ab\x00", "NUL at byte 3"}, {"ab\xff", "near byte 3"},
		{"ä\xc3", "ends within a character, at byte 3"}, {"\xe2\x82", "ends within"}, {"😀\xf0\x9fx", "near byte 5"}, {"\x80\x80\x80\x80\x80", "near byte 1"},
	}
	for _, tt := range tests {
		for block := 1; block <= len(tt.text)+1; block++ {
			var c textCheck
			for rest := tt.text; rest != ""; rest = rest[min(block, len(rest)):] {
				if n, err := c.Write([]byte(rest[:min(block, len(rest))])); err != nil || n != min(block, len(rest)) {
					t.Fatal(n, err)
				}
			}
			if got := c.finding(); tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("%q in blocks of %d: %q, want %q", tt.text, block, got, tt.want)
			}
		}
	}
}

// TestMendedFileIsMovedOn: a file was set aside because of dead rows; when the last of them is applied after all, it goes to
// the processed files, also over a restart.
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
			r.publish(t.Context(), &event.Acks{Answers: []event.Answer{{File: idFor(text), Version: event.Version{Row: 1}, Outcome: event.Applied}}})
			if restart {
				h.end()
				h.start()
			}
			r.publish(t.Context(), &event.Acks{Answers: []event.Answer{{File: idFor(text), Version: event.Version{Row: 3}, Outcome: event.Superseded}}})
			eventually(t, "moved on", func() bool { return there(h.done("a.csv")) && !there(failed) })
			eventually(t, "logged", func() bool { return h.log.count("the dead rows of a file were mended") == 1 })
			f := h.files()["a.csv"]
			if f.Status != ledger.Moved || f.Failed() || f.Codes[ledger.Code(event.Applied)] != 2 || f.Codes[ledger.Code(event.Superseded)] != 1 {
				t.Errorf("record %+v", f)
			}
		})
	}
}
