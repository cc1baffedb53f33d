package ingest

import (
	"errors"
	"slices"
	"testing"

	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// find asks ingest, once it is there, for the ids of the files that a text may mean.
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
