package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/csv"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"bobosync/shared/boborow"
)

func testOptions(seed uint64, workers, files int) planOptions {
	return planOptions{seed: seed, now: noon, workers: workers, files: files, span: 18 * time.Second, outage: 4 * time.Second}
}

func TestPlanIsRepeatable(t *testing.T) {
	o := testOptions(3, 100, 40)
	if !reflect.DeepEqual(newPlan(o), newPlan(o)) {
		t.Error("the same options give two plans")
	}

	p, q := newPlan(o), newPlan(testOptions(4, 100, 40))
	if reflect.DeepEqual(p.files, q.files) {
		t.Error("two seeds give one plan")
	}
}

// TestPlanHolds checks, for plans of many sizes, that each has all the oddities that the demo promises.
func TestPlanHolds(t *testing.T) {
	for size, seeds := range map[[2]int]uint64{{minWorkers, minFiles}: 8, {400, 120}: 2, {2000, 30}: 2, {50, 200}: 1} {
		for seed := range seeds {
			t.Run(fmt.Sprintf("%d workers, %d files, seed %d", size[0], size[1], seed), func(t *testing.T) {
				p := newPlan(testOptions(seed, size[0], size[1]))
				if len(p.workers) != size[0] || len(p.files) != size[1] {
					t.Fatalf("%d workers and %d files, want %v", len(p.workers), len(p.files), size)
				}

				checkWorkers(t, &p)
				byKind := checkFiles(t, &p)
				checkSpecials(t, &p, byKind)
			})
		}
	}
}

func checkWorkers(t *testing.T, p *plan) {
	t.Helper()

	roles, ids, logins := map[role]int{}, map[string]bool{}, map[string]bool{}
	for _, w := range p.workers {
		roles[w.role]++
		if ids[w.employee] || len(w.employee) < 5 {
			t.Errorf("employee id %q is too short or given twice", w.employee)
		}

		ids[w.employee] = true
		if (w.login == "") != (w.role == unknown) || logins[w.login] && w.login != "" {
			t.Errorf("username %q of a worker in role %d", w.login, w.role)
		}

		logins[w.login] = true
	}

	for r := plain; r <= unknown; r++ {
		if roles[r] == 0 {
			t.Errorf("nobody is in role %d", r)
		}
	}
}

// checkFiles checks what must be true of all files, and returns the special ones.
func checkFiles(t *testing.T, p *plan) map[kind]*file {
	t.Helper()

	byKind, names, contents := map[kind]*file{}, map[string]bool{}, map[[sha256.Size]byte]int{}
	var before time.Duration
	for i := range p.files {
		f := &p.files[i]
		if names[f.name] || !strings.EqualFold(f.name[len(f.name)-4:], ".csv") {
			t.Errorf("name %q comes twice, or is not that of a CSV file", f.name)
		}

		names[f.name] = true
		contents[sha256.Sum256(f.text)]++
		if f.at < before {
			t.Errorf("file %d comes before the one before it", i)
		}

		before = f.at
		if f.kind != ordinary {
			byKind[f.kind] = f
		}
	}

	if len(contents) != len(p.files)-1 {
		t.Errorf("%d contents in %d files, want that of the copy twice and no other", len(contents), len(p.files))
	}

	return byKind
}

func checkSpecials(t *testing.T, p *plan, byKind map[kind]*file) {
	t.Helper()

	for _, s := range specials {
		if byKind[s.kind] == nil {
			t.Fatalf("there is no file of the kind %q", s.kind)
		}
	}

	if utf8.Valid(byKind[binary].text) {
		t.Error("the binary is a text")
	}

	j := newJudge(noon)
	if c := j.read(byKind[badRows].text); c.rejected != int(boborow.Flaws) || c.rows != 2*int(boborow.Flaws) {
		t.Errorf("the file of bad rows has %+v, want %d bad ones and as many good ones", c, boborow.Flaws)
	}

	if c := j.read(byKind[noGoodRow].text); c.rows == 0 || c.rows != c.rejected {
		t.Errorf("the file without a good row has %+v", c)
	}

	total := 0
	for _, n := range byKind[growing].pieces {
		total += n
	}

	if g := byKind[growing]; total != len(g.text) || len(g.pieces) < 3 {
		t.Errorf("the growing file has %d pieces of %d bytes together, its text has %d", len(g.pieces), total, len(g.text))
	}

	if f := byKind[inOutage]; f.at <= p.outageAt || f.at >= p.outageAt+p.outage {
		t.Errorf("the file of the outage comes at %s, the outage at %s", f.at, p.outageAt)
	}

	checkCopy(t, p, byKind[copied])
	checkDecisive(t, p, byKind)
}

func checkCopy(t *testing.T, p *plan, again *file) {
	t.Helper()

	for i := range p.files {
		if f := &p.files[i]; f != again && bytes.Equal(f.text, again.text) {
			if f.at > again.at {
				t.Error("the copy comes before its original")
			}
			return
		}
	}

	t.Error("the copy has no original")
}

// checkDecisive checks that the special files matter: a pipeline that handled one of them wrongly would reach another
// end state.
func checkDecisive(t *testing.T, p *plan, byKind map[kind]*file) {
	t.Helper()

	right := end(p, func(*file) bool { return true })
	for _, k := range []kind{badRows, growing, correction, inOutage} {
		if wrong := end(p, func(f *file) bool { return f.kind != k }); reflect.DeepEqual(wrong, right) {
			t.Errorf("the end is the same without the file: %s", k)
		}
	}

	j := newJudge(noon)
	for _, f := range slices.Backward(p.files) {
		j.read(f.text)
	}

	if reflect.DeepEqual(j.want(p.workers), right) {
		t.Error("the order of reading makes no difference")
	}

	if late := byKind[late]; bytes.Count(late.text, []byte("BO")) < len(p.logins(forgotten)) {
		t.Error("the late file is too short")
	}

	if wrong := end(p, func(f *file) bool { return f.kind != late }); !reflect.DeepEqual(wrong, right) {
		t.Error("the late file makes a difference")
	}
}

func end(p *plan, want func(*file) bool) map[string]string {
	j := newJudge(noon)
	for i := range p.files {
		if want(&p.files[i]) {
			j.read(p.files[i].text)
		}
	}

	return j.want(p.workers)
}

// TestPlanIsUnambiguous checks that the order of reading matters only for the file of corrections and the file that it
// corrects: the order of the others is left to chance.
func TestPlanIsUnambiguous(t *testing.T) {
	p := newPlan(testOptions(1, 100, 60))
	said := map[string]string{}
	for i := range p.files {
		f := &p.files[i]
		if f.kind == firstSaid || f.kind == correction || f.kind == binary {
			continue
		}

		r := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(f.text), "\ufeff")))
		r.FieldsPerRecord = -1
		for {
			row, err := r.Read()
			if err == io.EOF {
				break
			}

			if err != nil {
				t.Fatal(err)
			}

			if len(row) != 10 || row[0] != "BON" && row[0] != "BOF" || row[1] == "" || row[3]+row[4] != row[5] {
				continue
			}

			key := strings.TrimSpace(row[1]) + " " + row[5]
			if before, ok := said[key]; ok && before != row[0] && !strings.HasPrefix(row[5], "20240230") && !strings.HasPrefix(row[5], "20240620") {
				t.Errorf("%s: %s and %s of one worker at one second", f.name, before, row[0])
			}

			said[key] = row[0]
		}
	}
}

func TestPlanOverlaps(t *testing.T) {
	p := newPlan(testOptions(1, 100, 60))
	seen, repeated := map[string]bool{}, 0
	for i := range p.files {
		if p.files[i].kind != ordinary {
			continue
		}

		for row := range strings.Lines(string(p.files[i].text)) {
			row = strings.TrimSpace(row)
			if seen[row] && strings.HasPrefix(row, "BO") {
				repeated++
			}

			seen[row] = true
		}
	}

	if repeated < 10 {
		t.Errorf("%d rows are in several files, want some", repeated)
	}
}

func TestCut(t *testing.T) {
	for _, c := range [][2]int{{100, 7}, {7, 100}, {1, 1}, {10_000, 25}} {
		total := 0
		for _, n := range cut(c[0], c[1]) {
			if n <= 0 {
				t.Fatalf("cut%v has a piece of %d", c, n)
			}

			total += n
		}

		if total != c[0] {
			t.Errorf("cut%v makes %d in all", c, total)
		}
	}
}
