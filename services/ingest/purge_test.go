package ingest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bobosync/services/ingest/internal/failpoint"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/services/ingest/internal/retention"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

const day = 24 * time.Hour

// clock is a clock that tests can put forward.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

func (h *harness) clock() *clock {
	c := &clock{}
	h.tune.now = c.now
	return c
}

// purge asks ingest, once it serves requests, for one part of a purge.
func (h *harness) purge(req control.PurgeRequest) (answer control.PurgeAnswer, err error) {
	h.t.Helper()
	eventually(h.t, "ingest serves operators", func() bool {
		answer, err = control.Ask[control.PurgeAnswer](h.t.Context(), h.conn.NC, topology.Ingest, control.Purge, req)
		return !errors.Is(err, control.ErrNobody)
	})

	return answer, err
}

// purgeAll asks for parts of a purge until there is nothing more to do.
func (h *harness) purgeAll(req control.PurgeRequest) control.PurgeAnswer {
	h.t.Helper()

	var all control.PurgeAnswer
	for range 100 {
		a, err := h.purge(req)
		if err != nil {
			h.t.Fatal(err)
		}

		all.Files, all.Bytes, all.Records, all.Failed = all.Files+a.Files, all.Bytes+a.Bytes, all.Records+a.Records, a.Failed
		all.Error = a.Error
		if !a.More {
			return all
		}
	}

	h.t.Fatal("a purge that never ends")

	return all
}

// filesOlder returns a request to delete files older than some days, and no records.
func (c *clock) filesOlder(days int) control.PurgeRequest {
	return control.PurgeRequest{FilesBefore: c.now().Add(-time.Duration(days) * day), By: "test"}
}

// moved puts files and waits until ingest has moved all of them and logged that.
func (h *harness) moved(texts map[string]string) {
	h.t.Helper()

	before := h.log.Count("msg=\"file finished") + h.log.Count("msg=\"file set aside")
	for name, text := range texts {
		h.put(name, text)
	}

	eventually(h.t, "all are finished", func() bool {
		return h.log.Count("msg=\"file finished")+h.log.Count("msg=\"file set aside") == before+len(texts)
	})
}

// noted waits until the ledger records that the file under a name was moved.
func (h *harness) noted(name string) {
	h.t.Helper()
	eventually(h.t, "the move is noted", func() bool {
		files, err := control.Ask[control.FilesAnswer](h.t.Context(), h.conn.NC, topology.Ingest, control.Files, control.FilesRequest{Text: name})
		return err == nil && len(files.Files) == 1 && files.Files[0].Status == string(ledger.Moved)
	})
}

func notes(f *ledger.File, text string) (n int) {
	for _, note := range f.History {
		if strings.Contains(note.Text, text) {
			n++
		}
	}

	return n
}

func rowCount(t *testing.T, l *ledger.Ledger, id string) (n int) {
	t.Helper()

	for _, err := range l.Rows(id, func(ledger.Code) bool { return true }) {
		if err != nil {
			t.Fatal(err)
		}

		n++
	}

	return n
}

// TestPurgeDeletesOnlyWhatItMay checks that only old processed files are deleted, and only if their content is what
// was read.
func TestPurgeDeletesOnlyWhatItMay(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	c := h.clock()
	h.start()

	texts := map[string]string{
		"plain.csv": rows("a", 3) + "bad\n", "touched.csv": row("2"), "changed.csv": row("3"), "removed.csv": row("4"), "linked.csv": row("5"),
		"failed.csv": row("dead1"), "binary.csv": "\x00",
	}
	h.moved(texts)
	h.put("copy of plain.csv", texts["plain.csv"])
	eventually(t, "the copy is moved", func() bool { return there(h.done("copy of plain.csv")) })
	h.noted("copy of plain.csv")

	other := row("9")
	write(t, h.done("stranger.csv"), row("8")) // unknown to the ledger
	write(t, h.done("changed.csv"), other)     // of the same size

	now := time.Now()
	if err := errors.Join(
		os.Chtimes(h.done("touched.csv"), now, now), os.Remove(h.done("removed.csv")),
		os.Remove(h.done("linked.csv")), os.Symlink("stranger.csv", h.done("linked.csv")),
	); err != nil {
		t.Fatal(err)
	}

	c.forward(31 * day)
	h.moved(map[string]string{"young.csv": row("6")})
	r.mute(true)
	h.put("waiting.csv", row("7"))
	eventually(t, "waits", func() bool { return r.lost() == 1 })

	answer := h.purgeAll(c.filesOlder(30))
	want := control.PurgeAnswer{Files: 3, Bytes: int64(2*len(texts["plain.csv"]) + len(texts["touched.csv"]))}
	if answer != want {
		t.Errorf("answered %+v, want %+v", answer, want)
	}

	if got := names(t, h.cfg.ProcessedDirectory); !slices.Equal(got, []string{"changed.csv", "linked.csv", "stranger.csv", "young.csv"}) {
		t.Errorf("processed %v", got)
	}

	if got := names(t, h.cfg.FailedDirectory); !slices.Equal(got, []string{"binary.csv", "failed.csv"}) {
		t.Errorf("failed %v", got)
	}

	if got := names(t, h.cfg.CSVDirectory); !slices.Equal(got, []string{"waiting.csv"}) {
		t.Errorf("input %v", got)
	}

	if again := h.purgeAll(c.filesOlder(30)); again != (control.PurgeAnswer{}) {
		t.Errorf("a second purge did %+v", again)
	}

	eventually(t, "logged", func() bool { return h.log.Count("old files were deleted") == 1 })

	files := h.files()
	for name, n := range map[string]string{
		"plain.csv": "deleted for its age: ", "touched.csv": "deleted for its age: ", "removed.csv": "was gone already", "changed.csv": "something else lies there",
		"linked.csv": "something else lies there",
	} {
		if f := files[name]; notes(f, n) == 0 || f.Purged.IsZero() || f.Status != ledger.Moved {
			t.Errorf("%s: %+v", name, f)
		}
	}

	if f := files["plain.csv"]; notes(f, "deleted for its age") != 2 || f.Rows != 4 || f.Rejected != 1 || f.Codes[ledger.Code(event.Applied)] != 3 {
		t.Errorf("plain.csv: %+v", f)
	}

	h.book(func(l *ledger.Ledger) {
		for name, want := range map[string]int{"plain.csv": 0, "touched.csv": 0, "failed.csv": 1, "young.csv": 1, "waiting.csv": 1} {
			if n := rowCount(t, l, files[name].ID); n != want {
				t.Errorf("%s has %d rows, want %d", name, n, want)
			}
		}
	})
}

// TestPurgeReadsWhatIsNew: a producer appended to a processed file weeks after the file was moved.
func TestPurgeReadsWhatIsNew(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	c := h.clock()
	h.start()

	first, second := row("1"), row("2")
	h.moved(map[string]string{"a.csv": first})
	h.arrived()
	c.forward(31 * day)

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

	if answer := h.purgeAll(c.filesOlder(30)); answer != (control.PurgeAnswer{}) {
		t.Errorf("purged %+v", answer)
	}

	eventually(t, "all of it is read", func() bool { return len(r.entriesOf(idFor(first+second))) == 2 })
	eventually(t, "moved again", func() bool { return there(h.done("a.csv")) && !there(h.in("a.csv")) })
}

// TestPurgeLeavesWhatIsYoung checks that files that may be read again after the loss of a state store stay, whatever
// the request says.
func TestPurgeLeavesWhatIsYoung(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	c := h.clock()
	h.start()
	h.moved(map[string]string{"a.csv": row("1")})

	all := control.PurgeRequest{FilesBefore: c.now().Add(1000 * day), RecordsBefore: c.now().Add(1000 * day)}
	c.forward(h.cfg.Lifetime.Duration() + retention.Margin - time.Minute)

	if answer := h.purgeAll(all); answer != (control.PurgeAnswer{}) || !there(h.done("a.csv")) {
		t.Fatalf("purged too early: %+v", answer)
	}

	c.forward(2 * time.Minute)

	if answer := h.purgeAll(all); answer.Files != 1 || answer.Records != 1 || there(h.done("a.csv")) {
		t.Fatalf("not purged: %+v", answer)
	}

	if len(h.files()) != 0 {
		t.Error("the record is left")
	}
}

// TestPurgeWithMovingOff checks that the files stay where they are, and their records with them.
func TestPurgeWithMovingOff(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	h.cfg.Move = false
	c := h.clock()
	h.start()
	h.moved(map[string]string{"a.csv": row("1"), "bad.csv": "\x00"})
	c.forward(1000 * day)

	req := c.filesOlder(1)
	req.RecordsBefore = req.FilesBefore
	if answer := h.purgeAll(req); answer != (control.PurgeAnswer{}) {
		t.Errorf("purged %+v", answer)
	}

	files := h.files()
	if !there(h.in("a.csv")) || !there(h.in("bad.csv")) || len(files) != 2 || !files["a.csv"].Purged.IsZero() {
		t.Errorf("records %v", files)
	}
}

// TestPurgedFileComesAgain: as long as the record is there, the file is known and moved at once. Without the record,
// it is read as a new file.
func TestPurgedFileComesAgain(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	c := h.clock()
	h.start()

	text := row("1")
	h.moved(map[string]string{"a.csv": text})
	c.forward(31 * day)

	if answer := h.purgeAll(c.filesOlder(30)); answer.Files != 1 {
		t.Fatalf("purged %+v", answer)
	}

	published := len(r.history())

	h.put("b.csv", text)
	eventually(t, "moved at once", func() bool { return there(h.done("b.csv")) && !there(h.in("b.csv")) })
	h.noted("b.csv")

	if len(r.history()) != published || h.log.Count("file finished") != 1 {
		t.Errorf("it was read again: %v", r.history())
	}

	req := c.filesOlder(30)
	req.RecordsBefore = req.FilesBefore
	if answer := h.purgeAll(req); answer != (control.PurgeAnswer{}) || !there(h.done("b.csv")) {
		t.Errorf("the new copy is young, and the record is its; purged %+v", answer)
	}

	c.forward(31 * day)

	if answer := h.purgeAll(c.filesOlder(30)); answer.Files != 1 || there(h.done("b.csv")) {
		t.Errorf("the new copy has become old: %+v", answer)
	}

	if answer := h.purgeAll(control.PurgeRequest{RecordsBefore: c.now().Add(-30 * day), By: "test"}); answer.Records != 1 {
		t.Fatalf("the record was not forgotten: %+v", answer)
	}

	r.forget(idFor(text)) // it gets another sequence number in the order of reading
	h.moved(map[string]string{"c.csv": text})

	if f := h.files()["c.csv"]; f.Status != ledger.Moved || f.Codes[ledger.Code(event.Applied)] != 1 || !f.Purged.IsZero() {
		t.Errorf("record %+v", f)
	}

	if got := r.history(); got[len(got)-1] != "open "+idFor(text) {
		t.Errorf("published %v", got)
	}
}

// TestPurgedFileIsRecovered checks that a copy of a purged file that turned up again is read when the resolver has
// lost its state store. A row that was rejected then is rejected again, although the codes of the single rows were
// dropped.
func TestPurgedFileIsRecovered(t *testing.T) {
	h := newHarness(t)
	r := h.resolve()
	r.setEpoch(t, "m1")

	c := h.clock()
	h.start()
	eventually(t, "recovered", func() bool { return slices.Contains(r.history(), "recovered m1") })

	at := time.Now().UTC().Add(2 * time.Hour)
	future := fmt.Sprintf("BOF,1,P,%s,%s,%s,,,,\n", at.Format("20060102"), at.Format("150405"), at.Format("20060102150405"))
	text := row("1") + future
	h.moved(map[string]string{"a.csv": text})
	c.forward(31 * day)

	if answer := h.purgeAll(c.filesOlder(30)); answer.Files != 1 {
		t.Fatalf("purged %+v", answer)
	}

	h.put("b.csv", text)
	eventually(t, "moved", func() bool { return there(h.done("b.csv")) && !there(h.in("b.csv")) })
	h.noted("b.csv")
	c.ahead.Store(0) // the clock of the file system, which says which files are young, is not ahead
	c.forward(3 * time.Hour)

	before := len(r.history())
	r.setEpoch(t, "m2")
	eventually(t, "recovered again", func() bool { return slices.Contains(r.history(), "recovered m2") })

	if got, want := r.history()[before:], []string{"settled " + idFor(text), "recovered m2"}; !slices.Equal(got, want) {
		t.Errorf("published %v, want %v", got, want)
	}

	if got := r.entriesOf(idFor(text)); len(got) != 1 || got[1].Employee != "1" || !got[1].On {
		t.Errorf("the resolver got %v", got)
	}

	f := h.files()["a.csv"]
	h.book(func(l *ledger.Ledger) {
		if n := rowCount(t, l, f.ID); n != 0 || f.Rows != 2 || f.Rejected != 1 || f.Pending() != 0 {
			t.Errorf("%d rows came back, record %+v", n, f)
		}
	})
}

// TestPurgeKilledInBetween checks that the next purge accounts for whatever a killed one had done.
func TestPurgeKilledInBetween(t *testing.T) {
	t.Parallel()

	for _, p := range []failpoint.Point{failpoint.Marked, failpoint.Deleted} {
		t.Run(string(p), func(t *testing.T) {
			h := newHarness(t)
			h.resolve()
			c := h.clock()
			var kill atomic.Bool
			h.tune.hit = func(at failpoint.Point) error {
				if at == p && kill.Load() {
					return fmt.Errorf("%w at: %s", failpoint.ErrCrash, at)
				}
				return nil
			}
			h.start()
			h.moved(map[string]string{"a.csv": row("1"), "b.csv": row("2")})
			c.forward(31 * day)
			kill.Store(true)

			if _, err := h.purge(c.filesOlder(30)); err == nil {
				t.Fatal("it was not killed")
			}

			h.died()

			if left := len(names(t, h.cfg.ProcessedDirectory)); left != map[failpoint.Point]int{failpoint.Marked: 2, failpoint.Deleted: 0}[p] {
				t.Fatalf("%d files are left", left)
			}

			kill.Store(false)
			h.start()

			if answer := h.purgeAll(c.filesOlder(30)); answer.Files != 2 || answer.Failed != 0 {
				t.Errorf("answered %+v", answer)
			}

			if left := names(t, h.cfg.ProcessedDirectory); len(left) != 0 {
				t.Errorf("left %v", left)
			}

			for name, f := range h.files() {
				if notes(f, "deleted for its age: "+h.done(name)) != 1 || f.Purged.IsZero() {
					t.Errorf("%s: %+v", name, f)
				}
			}
		})
	}
}

// TestPurgeInParts purges in many small parts, with a file that cannot be deleted: it is counted once, and the others
// are deleted.
func TestPurgeInParts(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	c := h.clock()
	h.tune.purgeRecords, h.tune.purgeTime = 3, 0
	stubborn := h.done("4.csv")
	h.tune.remove = func(path string) error {
		if path == stubborn {
			return &os.PathError{Op: "remove", Path: path, Err: errors.New("somebody has it open")}
		}
		return os.Remove(path)
	}
	h.start()

	texts := map[string]string{}
	for i := range 10 {
		texts[fmt.Sprint(i, ".csv")] = row(fmt.Sprint(i))
	}

	h.moved(texts)
	c.forward(31 * day)
	req := c.filesOlder(30)

	first, err := h.purge(req)
	if err != nil || !first.More || first.Files+first.Failed != 3 {
		t.Fatalf("the first part did %+v, %v", first, err)
	}

	rest := h.purgeAll(req)
	if first.Files+rest.Files != 9 || rest.Failed != 1 || !strings.Contains(rest.Error, "somebody has it open") {
		t.Errorf("answered %+v and %+v", first, rest)
	}

	if got := names(t, h.cfg.ProcessedDirectory); !slices.Equal(got, []string{"4.csv"}) {
		t.Errorf("left %v", got)
	}

	eventually(t, "logged", func() bool {
		return h.log.Count("old files cannot be deleted") == 1 && h.log.Count("old files were deleted") == 1
	})

	if f := h.files()["4.csv"]; !f.Purged.IsZero() || len(f.Copies) != 1 || !f.Copies[0].AtDest() || f.Copies[0].Deleting {
		t.Errorf("record %+v", f)
	}
}

// TestPurgeRecords checks that records are dropped once they are old and nothing is left of their files.
func TestPurgeRecords(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	c := h.clock()
	h.start()
	h.moved(map[string]string{
		"done.csv": row("1"), "left.csv": row("2"), "failed.csv": row("dead1"), "cleared.csv": row("dead2"),
	})

	if err := os.Remove(filepath.Join(h.cfg.FailedDirectory, "cleared.csv")); err != nil {
		t.Fatal(err)
	}

	c.forward(91 * day)
	req := c.filesOlder(30)
	req.RecordsBefore = c.now().Add(-90 * day)

	h.tune.remove = os.Remove
	only := req
	only.FilesBefore = time.Time{}
	if answer := h.purgeAll(only); answer.Files != 0 || answer.Records != 1 { // cleared.csv
		t.Errorf("answered %+v", answer)
	}

	write(t, h.done("left.csv"), "other content")

	if answer := h.purgeAll(req); answer.Files != 1 || answer.Records != 2 { // done.csv, and left.csv, which the ledger takes to be gone
		t.Errorf("answered %+v", answer)
	}

	if files := h.files(); len(files) != 1 || files["failed.csv"] == nil || !there(h.done("left.csv")) {
		t.Errorf("records %v", files)
	}
}

// TestPurgeOfAFileThatCameVeryOften checks that copies for which the record had no room are deleted too.
func TestPurgeOfAFileThatCameVeryOften(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	c := h.clock()
	const n = 130

	if err := os.MkdirAll(h.cfg.ProcessedDirectory, 0o755); err != nil {
		t.Fatal(err)
	}

	id := idFor("")
	h.book(func(l *ledger.Ledger) {
		err := l.Update(func(tx *ledger.Tx) error {
			f := &ledger.File{ID: id, Name: "0.csv", Status: ledger.Done, Finished: time.Now()}
			for i := range n {
				name := fmt.Sprint(i, ".csv")
				write(t, h.done(name), "")

				info, err := os.Stat(h.done(name))
				if err != nil {
					return err
				}

				if err := tx.Attach(f, ledger.Copy{Name: name}); err != nil {
					return err
				}

				f.MarkMoved(name, h.done(name), files.StatOf(info), false, time.Now())
			}

			return errors.Join(tx.Put(f), tx.SetMeta(ledger.MetaRebuilt, "yes"))
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	c.forward(31 * day)
	h.start()

	if answer := h.purgeAll(c.filesOlder(30)); answer.Files != n {
		t.Errorf("answered %+v", answer)
	}

	if left := names(t, h.cfg.ProcessedDirectory); len(left) != 0 {
		t.Errorf("left %v", left)
	}

	if f := h.files()["0.csv"]; f.Purged.IsZero() || notes(f, "further copies deleted") != 1 {
		t.Errorf("record %+v", f)
	}
}

// TestPurgeWithoutItsDirectory checks that files on a network share that is away do not count as gone.
func TestPurgeWithoutItsDirectory(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	c := h.clock()
	h.start()
	h.moved(map[string]string{"a.csv": row("1")})

	away := h.cfg.ProcessedDirectory + ".away"
	if err := os.Rename(h.cfg.ProcessedDirectory, away); err != nil {
		t.Fatal(err)
	}

	c.forward(31 * day)

	var refusal *control.Refusal
	if _, err := h.purge(c.filesOlder(30)); !errors.As(err, &refusal) || !strings.Contains(refusal.Text, "PROCESSED_DIRECTORY") {
		t.Errorf("answered with %v", err)
	}

	if err := os.Rename(away, h.cfg.ProcessedDirectory); err != nil {
		t.Fatal(err)
	}

	if answer := h.purgeAll(c.filesOlder(30)); answer.Files != 1 {
		t.Errorf("answered %+v", answer)
	}
}
