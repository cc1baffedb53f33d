package ingest

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// find asks ingest, once it serves requests, for the ids of the files that a text may name.
func (h *harness) find(text string) (ids []string, err error) {
	h.t.Helper()
	var found []control.FoundFile
	eventually(h.t, "ingest serves operators", func() bool {
		found, err = control.Ask[[]control.FoundFile](h.t.Context(), h.conn.NC, topology.Ingest, control.FindFile, control.FindRequest{Text: text})
		return !errors.Is(err, control.ErrNobody)
	})

	for _, f := range found {
		ids = append(ids, f.ID)
	}

	slices.Sort(ids)

	return ids, err
}

func TestFilesAreFoundByNameAndID(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	h.start()

	first, second, third := row("1"), row("2"), row("3")
	h.put("monday.csv", first)
	eventually(t, "first moved", func() bool { return there(h.done("monday.csv")) && !there(h.in("monday.csv")) })
	h.put("monday.csv", second)
	h.put("tuesday.csv", third)
	h.put("copy of monday.csv", first)
	eventually(t, "all known", func() bool {
		ids, err := h.find("copy of monday.csv")
		return err == nil && len(ids) == 1 && !there(h.in("monday.csv")) && !there(h.in("tuesday.csv"))
	})

	mondays := []string{idFor(first), idFor(second)}
	slices.Sort(mondays)

	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"name":              {"tuesday.csv", []string{idFor(third)}},
		"a name of two":     {"monday.csv", mondays},
		"a further name":    {"copy of monday.csv", []string{idFor(first)}},
		"id":                {idFor(second), []string{idFor(second)}},
		"beginning of id":   {idFor(second)[:12], []string{idFor(second)}},
		"too short an id":   {idFor(second)[:5], nil},
		"middle of an id":   {idFor(second)[1:20], nil},
		"part of a name":    {"monday", nil},
		"another's letters": {"MONDAY.csv", nil},
	} {
		got, err := h.find(c.text)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: found %v, want %v; error %v", name, got, c.want, err)
		}
	}

	var refusal *control.Refusal
	if got, err := h.find(""); !errors.As(err, &refusal) {
		t.Errorf("no text: found %v, error %v", got, err)
	}
}

// TestListsAreBounded checks that whatever lies in the input directory, the answers to operators fit into a message
// and say what they leave out.
func TestListsAreBounded(t *testing.T) {
	const names, files = 8000, 7
	h := newHarness(t)
	h.resolve()

	for i := range names {
		if err := os.Mkdir(h.in(fmt.Sprintf("%0200d.csv", i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}

	h.start()

	for i := range files {
		h.put(fmt.Sprintf("%d.csv", i), row(fmt.Sprint(i)))
	}

	var answer control.FilesAnswer
	eventually(t, "all are known", func() bool {
		var err error
		answer, err = control.Ask[control.FilesAnswer](t.Context(), h.conn.NC, topology.Ingest, control.Files, control.FilesRequest{})
		return err == nil && len(answer.Files) == files && answer.MoreProblems == names-len(answer.Problems)
	})

	if len(answer.Problems) != maxNames {
		t.Errorf("%d names in an answer", len(answer.Problems))
	}

	if s := h.state(); s.ProblemNames != names || len(s.Problems) != maxNames {
		t.Errorf("the state has %d of %d names", len(s.Problems), s.ProblemNames)
	}

	var paged []string
	for len(paged) < files {
		page, err := control.Ask[control.FilesAnswer](t.Context(), h.conn.NC, topology.Ingest, control.Files, control.FilesRequest{Most: 3, Skip: len(paged)})
		if err != nil || len(page.Files) == 0 || page.More != files-len(paged)-len(page.Files) {
			t.Fatalf("after %d: %d files, %d more; error %v", len(paged), len(page.Files), page.More, err)
		}

		var ids []string
		for _, f := range page.Files {
			ids = append(ids, f.ID)
		}

		paged = append(ids, paged...)
	}

	var whole []string
	for _, f := range answer.Files {
		whole = append(whole, f.ID)
	}

	if !slices.Equal(paged, whole) {
		t.Errorf("pages tell of %v, one answer of %v", paged, whole)
	}
}

// TestRowsFitIntoAMessage checks that an answer about rows is limited by its bytes, not by their number alone, and
// that the parts together have all rows.
func TestRowsFitIntoAMessage(t *testing.T) {
	t.Parallel()

	l, err := ledger.Open(filepath.Join(t.TempDir(), "ingest.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { _ = l.Close() })

	const lines = 6000
	file := &ledger.File{ID: strings.Repeat("ab", 32), Name: "a.csv", Status: ledger.Reading}
	acks := &event.Acks{}
	for line := range lines {
		detail := strings.Repeat("ж", 200) // a text from AtHoc, as long as one that is kept
		if line == 0 {
			detail = strings.Repeat("x", 1<<20)
		}

		acks.Answers = append(acks.Answers, event.Answer{File: file.ID, Version: event.Version{Row: line + 1}, Outcome: event.Dead, Detail: detail})
	}

	err = l.Update(func(tx *ledger.Tx) error {
		for first := 0; first < lines; first += ledger.ChunkLines {
			codes := make([]byte, min(ledger.ChunkLines, lines-first)) // all rows are pending
			chunk, _ := ledger.Chunk(first + 1)
			if _, err := tx.Rows(file.ID).Add(chunk, codes, nil); err != nil {
				return err
			}
		}

		return tx.Complete(file, lines, time.Now())
	})
	if err == nil {
		_, err = l.Settle([]*event.Acks{acks}, time.Now())
	}

	if err != nil {
		t.Fatal(err)
	}

	o := &operators{ledger: l}
	for req, next := (control.RowsRequest{ID: file.ID}), 1; ; {
		answer, err := o.listRows(t.Context(), req)
		data, _ := json.Marshal(answer)
		if err != nil || len(answer.Rows) == 0 || len(data) > 800_000 {
			t.Fatalf("after line %d: %d rows in %d bytes; error %v", req.After, len(answer.Rows), len(data), err)
		}

		for _, r := range answer.Rows {
			if r.Line != next {
				t.Fatalf("line %d comes after %d", r.Line, next-1)
			}

			next++
		}

		if req.After = next - 1; !answer.More {
			if next-1 != lines {
				t.Errorf("%d rows of %d", next-1, lines)
			}
			return
		}
	}
}

// TestBookings checks that the bookings of one worker are listed, with what became of each, from wherever the files
// lie, and that files which are not there or cannot be read are counted.
func TestBookings(t *testing.T) {
	h := newHarness(t)
	h.resolve()
	h.start()

	rows := map[string]string{"one.csv": row("1") + row("2") + row("1"), "two.csv": row("2"), "three.csv": row("1") + row("3"), "four.csv": row("4") + row("1")}
	for name, content := range rows {
		h.put(name, content)
	}

	for name := range rows {
		eventually(t, name+" moved", func() bool { return there(h.done(name)) && !there(h.in(name)) })
	}

	if err := os.Rename(h.done("three.csv"), h.done("away.csv")); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(h.done("four.csv"), []byte(rows["two.csv"]), 0o600); err != nil {
		t.Fatal(err)
	}

	ask := func(from, to time.Time) control.BookingsAnswer {
		t.Helper()

		answer, err := control.Ask[control.BookingsAnswer](t.Context(), h.conn.NC, topology.Ingest, control.Bookings, control.BookingsRequest{Employee: "1", From: from, To: to})
		if err != nil {
			t.Fatal(err)
		}

		return answer
	}

	answer := ask(time.Now().Add(-time.Hour), time.Now())
	if len(answer.Bookings) != 2 || answer.Gone != 2 || answer.Unread != 0 {
		t.Fatalf("got %+v", answer)
	}

	for i, line := range []int{1, 3} {
		if b := answer.Bookings[i]; b.Line != line || b.Name != "one.csv" || b.File != idFor(rows["one.csv"]) || b.Outcome == "" || b.Text == "" || b.At.IsZero() {
			t.Errorf("got %+v", b)
		}
	}

	if answer := ask(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)); len(answer.Bookings)+answer.Gone+answer.Unread > 0 {
		t.Errorf("of another time: got %+v", answer)
	}

	var refusal *control.Refusal
	if _, err := control.Ask[control.BookingsAnswer](t.Context(), h.conn.NC, topology.Ingest, control.Bookings, control.BookingsRequest{}); !errors.As(err, &refusal) {
		t.Errorf("of nobody: %v", err)
	}
}
