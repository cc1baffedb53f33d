package ledger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/services/ingest/internal/files"
	"bobosync/shared/event"
)

var noon = time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)

func open(tb testing.TB, path string) *Ledger {
	tb.Helper()

	l, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatalf("open: %v", err)
	}

	return l
}

func fresh(tb testing.TB) *Ledger {
	tb.Helper()
	l := open(tb, filepath.Join(tb.TempDir(), "ingest.db"))
	tb.Cleanup(func() {
		if err := l.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})

	return l
}

func idFor(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// store stores a file with the given codes, one byte for each line.
func store(tb testing.TB, l *Ledger, name string, codes []byte) *File {
	tb.Helper()

	f := &File{ID: idFor(name), Name: name, Status: Reading, Copies: []Copy{{Name: name}}, FirstSeen: noon}

	err := l.Update(func(tx *Tx) error {
		for at := 0; at < len(codes); at += ChunkLines {
			if _, err := tx.Rows(f.ID).Add(at/ChunkLines, codes[at:min(at+ChunkLines, len(codes))], nil); err != nil {
				return err
			}
		}

		return tx.Complete(f, len(codes), noon)
	})
	if err != nil {
		tb.Fatalf("store: %v", err)
	}

	return f
}

func get(tb testing.TB, l *Ledger, id string) *File {
	tb.Helper()

	f, err := l.File(id)
	if err != nil || f == nil {
		tb.Fatalf("file %s: %v, %v", id, f, err)
	}

	return f
}

func settle(tb testing.TB, l *Ledger, acks ...*event.Acks) []*File {
	tb.Helper()

	finished, err := l.Settle(acks, noon)
	if err != nil {
		tb.Fatalf("settle: %v", err)
	}

	return finished
}

func rowsAck(id string, o event.Outcome, rows ...int) *event.Acks {
	return &event.Acks{Rows: []event.FileRows{{File: id, Outcome: o, Rows: event.Rows(rows...)}}}
}

func TestSettleFirstOutcomeWins(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	codes := []byte{byte(NoRow), 0, byte(bobocsv.Date), 0, 0}

	f := store(t, l, "a.csv", codes)
	if f.Status != Waiting || f.Rows != 4 || f.Rejected != 1 || f.Pending() != 3 {
		t.Fatalf("stored as %+v", f)
	}

	if done := settle(t, l, rowsAck(f.ID, event.Applied, 2), rowsAck(f.ID, event.Dead, 2, 4)); len(done) != 0 {
		t.Fatalf("finished too early: %+v", done[0])
	}

	// The header, a rejected row, rows that do not exist, an unknown file, a pending outcome: none of these changes
	// anything.
	settle(t, l, rowsAck(f.ID, event.Applied, 1, 3, 6, 5000), rowsAck(idFor("other"), event.Applied, 1),
		rowsAck("no id", event.Applied, 1), rowsAck(f.ID, event.Pending, 5))
	answer := &event.Acks{Answers: []event.Answer{
		{File: f.ID, Version: event.Version{Row: 5}, Outcome: event.Dead, Detail: "value refused"},
		{File: "", Version: event.Version{Row: 5}, Outcome: event.Applied},
	}}

	done := settle(t, l, answer)
	if len(done) != 1 || done[0].Status != Done || !done[0].Failed() {
		t.Fatalf("not finished: %+v", done)
	}

	f = get(t, l, f.ID)
	if f.Codes[Code(event.Applied)] != 1 || f.Codes[Code(event.Dead)] != 2 || f.Codes.Settled() != 3 || f.Rows != f.Rejected+f.Codes.Settled() {
		t.Errorf("counts %v of %d rows", f.Codes, f.Rows)
	}

	if again := settle(t, l, answer); len(again) != 0 {
		t.Error("finished twice")
	}

	var got string
	for r, err := range l.Rows(f.ID, func(c Code) bool { return c.Rejected() || c == Code(event.Dead) }) {
		if err != nil {
			t.Fatal(err)
		}

		got += fmt.Sprintf("%d %s %q; ", r.Line, r.Code, r.Detail)
	}

	if want := `3 date ""; 4 dead ""; 5 dead "value refused"; `; got != want {
		t.Errorf("rows %s, want %s", got, want)
	}
}

// TestALongRunEndsWithTheFile checks that outcomes for more rows than the file has cost no more than those for its
// own rows.
func TestALongRunEndsWithTheFile(t *testing.T) {
	t.Parallel()

	l := fresh(t)
	f := store(t, l, "a.csv", make([]byte, ChunkLines+2))
	var long event.RowSet
	if err := long.UnmarshalText([]byte("1-1000000000000")); err != nil {
		t.Fatal(err)
	}

	acks := &event.Acks{}
	for range 1000 {
		acks.Rows = append(acks.Rows, event.FileRows{File: f.ID, Outcome: event.Applied, Rows: long})
	}

	if done := settle(t, l, acks); len(done) != 1 || done[0].Codes[Code(event.Applied)] != ChunkLines+2 {
		t.Fatalf("finished: %+v", done)
	}
}

func TestAcksBeforeTheFileIsWhollyRead(t *testing.T) {
	t.Parallel()

	l := fresh(t)
	f := &File{ID: idFor("big"), Status: Reading}
	first := make([]byte, ChunkLines)
	if err := l.Update(func(tx *Tx) error {
		if _, err := tx.Rows(f.ID).Add(0, first, nil); err != nil {
			return err
		}
		return tx.Put(f)
	}); err != nil {
		t.Fatal(err)
	}

	all := event.RowSet{}
	for i := 1; i <= ChunkLines; i++ {
		all.Add(i)
	}

	if done := settle(t, l, &event.Acks{Rows: []event.FileRows{{File: f.ID, Outcome: event.Superseded, Rows: all}}}); len(done) != 0 {
		t.Fatal("finished while it is read")
	}

	if err := l.Update(func(tx *Tx) error {
		codes, err := tx.Rows(f.ID).Add(0, first, nil) // the file is read again after a crash
		if err != nil || Code(codes[7]) != Code(event.Superseded) {
			t.Errorf("the second reading undid an outcome: %v, %v", Code(codes[7]), err)
		}

		if _, err := tx.Rows(f.ID).Add(1, []byte{0}, nil); err != nil {
			return err
		}

		return tx.Complete(f, ChunkLines+1, noon)
	}); err != nil {
		t.Fatal(err)
	}

	if f.Status != Waiting || f.Pending() != 1 || f.Codes[Code(event.Superseded)] != ChunkLines {
		t.Fatalf("complete: %+v", f)
	}

	if done := settle(t, l, rowsAck(f.ID, event.Applied, ChunkLines+1)); len(done) != 1 {
		t.Fatal("not finished")
	}
}

// TestSettleProperties checks that in whatever order and however often outcomes arrive, each row keeps its first one,
// the counts are those of the rows, and the file is reported as finished exactly once.
func TestSettleProperties(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++

		codes := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0, 0, byte(NoRow), byte(bobocsv.Columns)}), 1, 40).Draw(t, "codes")
		pad := rapid.SampledFrom([]int{0, ChunkLines - 3}).Draw(t, "pad") // so that some files span chunks
		for range pad {
			codes = append([]byte{byte(NoRow)}, codes...)
		}

		f := &File{ID: idFor(fmt.Sprint(n)), Status: Reading}
		if err := l.Update(func(tx *Tx) error {
			for at := 0; at < len(codes); at += ChunkLines {
				if _, err := tx.Rows(f.ID).Add(at/ChunkLines, codes[at:min(at+ChunkLines, len(codes))], nil); err != nil {
					return err
				}
			}

			return tx.Complete(f, len(codes), noon)
		}); err != nil {
			t.Fatal(err)
		}

		want := map[int]Code{}
		open := bytes.Count(codes, []byte{0})

		finished, wantFinished := 0, 0
		if f.Status == Done {
			finished++
		}

		if open == 0 {
			wantFinished++
		}

		for range rapid.IntRange(0, 30).Draw(t, "acks") {
			row := rapid.IntRange(1, len(codes)+2).Draw(t, "row")
			o := rapid.SampledFrom(event.Outcomes()).Draw(t, "outcome")
			if row <= len(codes) && codes[row-1] == 0 {
				before := dead(want)
				switch {
				case want[row] == 0:
					want[row] = Code(o)
					if len(want) == open {
						wantFinished++
					}
				case want[row].repairable():
					want[row] = Code(o)
					if len(want) == open && before > 0 && dead(want) == 0 {
						wantFinished++ // repaired: it must be moved again
					}
				}
			}

			done, err := l.Settle([]*event.Acks{rowsAck(f.ID, o, row)}, noon)
			if err != nil {
				t.Fatal(err)
			}

			finished += len(done)
		}

		got, err := l.File(f.ID)
		if err != nil {
			t.Fatal(err)
		}

		counts := map[Code]int{}
		for row, err := range l.Rows(f.ID, func(Code) bool { return true }) {
			if err != nil {
				t.Fatal(err)
			}

			if c := Code(codes[row.Line-1]); c == 0 && row.Code != want[row.Line] || c != 0 && row.Code != c {
				t.Fatalf("line %d is %s, was %s, wanted %s", row.Line, row.Code, c, want[row.Line])
			}

			if row.Code != 0 {
				counts[row.Code]++
			}
		}

		if fmt.Sprint(counts) != fmt.Sprint(got.Codes) && len(counts)+len(got.Codes) > 0 {
			t.Fatalf("counts %v, rows say %v", got.Codes, counts)
		}

		if finished != wantFinished || (got.Status == Done) != (got.Pending() == 0) {
			t.Fatalf("finished %d times, status %s, %d pending", finished, got.Status, got.Pending())
		}
	})
}

func dead(codes map[int]Code) int {
	n := 0
	for _, c := range codes {
		if c.repairable() {
			n++
		}
	}

	return n
}

func TestSurvivesReopening(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "ingest.db")
	l := open(t, path)
	epoch := l.Epoch()

	f := store(t, l, "a.csv", []byte{0, byte(bobocsv.Columns)})
	if err := l.Update(func(tx *Tx) error {
		stat := files.Stat{Size: 3, Modified: 4, Key: "1:2"}

		if _, err := tx.Rows(f.ID).Add(1, []byte{byte(bobocsv.Columns)}, []Detail{{Line: ChunkLines + 1, Number: 9}}); err != nil {
			return err
		}

		return tx.Names().Set("a.csv", NameEntry{Stat: stat, ID: f.ID})
	}); err != nil {
		t.Fatal(err)
	}

	if err := l.db.Update(func(tx *bbolt.Tx) error { // as kept by earlier versions
		bucket, err := tx.CreateBucket(bucketProblems)
		if err != nil {
			return err
		}

		return bucket.Put([]byte("x.csv"), []byte(`{"reason":"a directory, not a file","since":"2024-06-17T12:00:00Z"}`))
	}); err != nil {
		t.Fatal(err)
	}

	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	l = open(t, path)
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()

	if l.Epoch() != epoch {
		t.Error("another generation after reopening")
	}

	files, err := l.Open()
	if err != nil || len(files) != 1 || files[0].ID != f.ID {
		t.Fatalf("open files: %v, %v", files, err)
	}

	if err := l.db.View(func(tx *bbolt.Tx) error {
		if tx.Bucket(bucketProblems) != nil {
			t.Error("problems of before are still there")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	for r, err := range l.Rows(f.ID, func(c Code) bool { return c.Rejected() }) {
		if err != nil || r.Line > ChunkLines && r.Number != 9 {
			t.Errorf("row %+v, %v", r, err)
		}
	}

	if err := l.Update(func(tx *Tx) error {
		n, known, err := tx.Names().Get("a.csv")
		if err != nil || !known || n.Stat.Key != "1:2" || n.ID != f.ID {
			t.Errorf("name: %+v, %t, %v", n, known, err)
		}

		return tx.Remove(f.ID)
	}); err != nil {
		t.Fatal(err)
	}

	for r, err := range l.Rows(f.ID, func(Code) bool { return true }) {
		t.Errorf("row %+v of a removed file, %v", r, err)
	}

	if all, err := l.Files(); err != nil || len(all) != 0 {
		t.Errorf("files after removal: %v, %v", all, err)
	}
}

func TestOrderNeverGoesBack(t *testing.T) {
	t.Parallel()
	l := fresh(t)

	err := l.Update(func(tx *Tx) error {
		early, err := tx.NextSequence(noon.Add(-time.Hour), noon)
		if err != nil || early != noon.Add(-time.Hour).UnixNano() {
			t.Errorf("first: %d, %v", early, err)
		}

		earlier, err := tx.NextSequence(noon.Add(-2*time.Hour), noon)
		if err != nil || earlier != early+1 {
			t.Errorf("an older file that came later: %d, %v", earlier, err)
		}

		future, err := tx.NextSequence(noon.Add(time.Hour), noon)
		if err != nil || future != noon.UnixNano() {
			t.Errorf("a file from the future: %d, %v", future, err)
		}

		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAbandon(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	f := store(t, l, "a.csv", []byte{0, 0, byte(bobocsv.Time)})
	settle(t, l, rowsAck(f.ID, event.Applied, 1))

	f = get(t, l, f.ID)
	if err := l.Update(func(tx *Tx) error { return tx.Abandon(f, Vanished, noon) }); err != nil {
		t.Fatal(err)
	}

	f = get(t, l, f.ID)
	if f.Status != Done || f.Rejected != 2 || f.Codes.Settled() != 1 || f.Codes[Vanished] != 1 || f.Rows != 3 {
		t.Errorf("abandoned: %+v", f)
	}
}

func TestCodesAndReasonsShareASpace(t *testing.T) {
	t.Parallel()

	for _, o := range event.Outcomes() {
		if c := Code(o); !c.Settled() || c.Rejected() || c.String() != o.String() {
			t.Errorf("outcome %s as a code: settled %t, rejected %t, %s", o, c.Settled(), c.Rejected(), c)
		}
	}

	for _, r := range bobocsv.Reasons() {
		if c := Code(r); c.Settled() || !c.Rejected() || c.Text() != r.Text() {
			t.Errorf("reason %s as a code: settled %t, rejected %t, %s", r, c.Settled(), c.Rejected(), c)
		}
	}

	if Code(event.Pending).Settled() || NoRow.Rejected() || NoRow.Settled() || !SettledEarlier.Settled() || !Vanished.Rejected() {
		t.Error("a special code is on the wrong side")
	}
}

func BenchmarkSettle(b *testing.B) {
	const rows = 1_000_000
	l := fresh(b)
	n := 0
	for b.Loop() {
		b.StopTimer()

		n++

		f := store(b, l, fmt.Sprint(n), make([]byte, rows))
		acks := make([]*event.Acks, 0, rows/1000)
		for from := 1; from <= rows; from += 1000 {
			var set event.RowSet
			for r := from; r < from+1000; r++ {
				set.Add(r)
			}

			acks = append(acks, &event.Acks{Rows: []event.FileRows{{File: f.ID, Outcome: event.Superseded, Rows: set}}})
		}

		b.StartTimer()

		finished := 0
		for len(acks) > 0 {
			done, err := l.Settle(acks[:20], noon)
			if err != nil {
				b.Fatal(err)
			}

			finished += len(done)
			acks = acks[20:]
		}

		if finished != 1 {
			b.Fatal("not finished")
		}
	}
}

// TestReopen checks that only rows that were given up wait again, and that the day's counts do not count the file
// twice.
func TestReopen(t *testing.T) {
	t.Parallel()
	l := fresh(t)
	f := store(t, l, "a", []byte{byte(event.Pending), byte(event.Pending), byte(bobocsv.FirstReason), byte(NoRow)})
	settle(t, l, rowsAck(f.ID, event.Applied, 1))

	reopen := func() (reopened bool) {
		err := l.Update(func(tx *Tx) error {
			f, err := tx.File(f.ID)
			if err != nil {
				return err
			}

			if reopened, err = tx.Reopen(f, noon); err != nil {
				return err
			}

			return tx.Put(f)
		})
		if err != nil {
			t.Fatal(err)
		}

		return reopened
	}
	if reopen() {
		t.Error("a file that waits was reopened")
	}

	err := l.Update(func(tx *Tx) error {
		f, err := tx.File(f.ID)
		if err != nil {
			return err
		}

		return tx.Abandon(f, Vanished, noon)
	})
	if err != nil || !reopen() {
		t.Fatalf("not reopened, %v", err)
	}

	got := get(t, l, f.ID)
	if got.Status != Waiting || !got.NeedsRead() || got.Rows != 3 || got.Rejected != 1 || got.Codes.Settled() != 1 || got.Pending() != 1 {
		t.Errorf("record %+v", got)
	}

	if finished := settle(t, l, rowsAck(f.ID, event.Expired, 1, 2)); len(finished) != 1 || finished[0].Codes[Code(event.Applied)] != 1 {
		t.Errorf("finished %v", finished)
	}

	if want, have := counted(t, l, noon), l.Stats(noon, nil); !sameStats(want, have) {
		t.Errorf("counted %+v, want %+v", have, want)
	}
}

// TestARecordThatCannotBeRead checks that a ledger whose pages are sound, but with a record in them that is not, is
// set aside like any other damaged file.
func TestARecordThatCannotBeRead(t *testing.T) {
	t.Parallel()

	for what, damage := range map[string]struct {
		bucket, key []byte
		value       string
	}{
		"a file":    {bucketFiles, keyOf(idFor("a.csv")), `{"name":"a.csv","st\x00`},
		"a name":    {bucketNames, []byte("a.csv"), "\x00\x00"},
		"the order": {bucketMeta, []byte(metaSequence), "17\x00"},
	} {
		path := filepath.Join(t.TempDir(), "ingest.db")
		l := open(t, path)
		store(t, l, "a.csv", []byte{byte(event.Pending)})

		epoch := l.Epoch()
		err := l.Update(func(tx *Tx) error { return tx.tx.Bucket(damage.bucket).Put(damage.key, []byte(damage.value)) })
		if err := errors.Join(err, l.Close()); err != nil {
			t.Fatal(err)
		}

		l = open(t, path)
		if files, err := l.Files(); err != nil || len(files) != 0 || l.Epoch() == epoch {
			t.Errorf("%s: %d files, %v", what, len(files), err)
		}

		if err := l.Close(); err != nil {
			t.Error(err)
		}

		if aside, err := filepath.Glob(path + ".damaged-*"); err != nil || len(aside) != 1 {
			t.Errorf("%s: set aside are %v, %v", what, aside, err)
		}
	}
}

// TestRejectedRowsTakeLittleRoom checks that a file of very many rows with the wrong number of columns does not fill
// the disk, and that each row still has its reason.
func TestRejectedRowsTakeLittleRoom(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ingest.db")

	l, err := Open(path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = l.Close() })
	const chunks = 500
	id := strings.Repeat("ab", 32)
	codes, details := bytes.Repeat([]byte{byte(bobocsv.Columns)}, ChunkLines), make([]Detail, ChunkLines)

	err = l.Update(func(tx *Tx) error {
		for chunk := range chunks {
			for i := range details {
				details[i] = Detail{Line: chunk*ChunkLines + i + 1, Number: 2}
			}

			if _, err := tx.Rows(id).Add(chunk, codes, details); err != nil {
				return err
			}
		}

		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}

	if lines := int64(chunks * ChunkLines); info.Size() > 4*lines {
		t.Errorf("%d lines take %d bytes", lines, info.Size())
	}

	seen, numbers := 0, 0
	for row, err := range l.Rows(id, Code.Rejected) {
		if err != nil {
			t.Fatal(err)
		}

		if seen++; row.Number > 0 {
			numbers++
		}
	}

	if seen != chunks*ChunkLines || numbers == 0 {
		t.Errorf("%d rejected rows, %d with their number of columns", seen, numbers)
	}
}
