package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bobosync/shared/boborow"
)

var noon = time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)

// rowAt builds a row by hand, so that the tests do not depend on the planner.
func rowAt(transaction, employee string, at time.Time) string {
	s := at.Format("20060102150405")
	return strings.Join([]string{transaction, employee, "PAY1", s[:8], s[8:], s, "1", "52.1", "-1.2", "5.0"}, ",")
}

func TestJudge(t *testing.T) {
	at := noon.Add(-time.Hour)
	on, off := rowAt("BON", "00042", at), rowAt("BOF", "00042", at)
	const since = "17/06/2024 11:00:00"
	for name, c := range map[string]struct {
		files []string
		want  string
	}{
		"on":                                 {[]string{on}, since},
		"off":                                {[]string{off}, ""},
		"nobody speaks":                      {nil, ""},
		"at the same second, read later":     {[]string{on, off}, ""},
		"at the same second, the other way":  {[]string{off, on}, since},
		"the same in one file":               {[]string{on + "\n" + off + "\n" + on}, since},
		"an older one that is read later":    {[]string{on, rowAt("BOF", "00042", at.Add(-time.Second))}, since},
		"a newer one that is read earlier":   {[]string{rowAt("BOF", "00042", at.Add(time.Second)), on}, ""},
		"a copy does not count again":        {[]string{on, off, on}, ""},
		"stale":                              {[]string{rowAt("BON", "00042", noon.Add(-25*time.Hour))}, ""},
		"in the future":                      {[]string{on, rowAt("BOF", "00042", noon.Add(2*time.Hour))}, since},
		"another worker":                     {[]string{on, rowAt("BOF", "42", at)}, since},
		"mark, header, blanks, quotes, CRLF": {[]string{"\ufeff" + boborow.Header + "\r\n\r\n" + strings.Replace(on, "00042", ` "00042"`, 1)}, ""},
		"blanks":                             {[]string{strings.Replace(on, "00042", " 00042 ", 1)}, since},
		"quotes":                             {[]string{"\ufeff" + boborow.Header + "\r\n\r\n" + strings.Replace(on, "00042", `"00042"`, 1) + "\r\n"}, since},
		"unknown transaction":                {[]string{on, "BOO" + off[3:]}, since},
		"nine columns":                       {[]string{on, strings.TrimSuffix(off, ",5.0")}, since},
		"eleven columns":                     {[]string{on, off + ",1"}, since},
		"a contradiction":                    {[]string{on, strings.Replace(off, ",110000,", ",110001,", 1)}, since},
		"an impossible date":                 {[]string{on, strings.ReplaceAll(off, "20240617", "20240631")}, since},
		"no text":                            {[]string{on, off + "\x00"}, since},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJudge(noon)
			for _, text := range c.files {
				j.read([]byte(text))
			}

			got := j.want([]worker{{employee: "00042", login: "a@example.org"}})["a@example.org"]
			if got != c.want {
				t.Errorf("AtHoc should hold %q, want %q", got, c.want)
			}
		})
	}
}

func TestJudgeCounts(t *testing.T) {
	j := newJudge(noon)
	text := []byte(boborow.Header + "\n" + rowAt("BON", "1", noon) + "\n\nnot a row\n" + rowAt("BOF", "", noon))
	if got := j.read(text); got != (count{rows: 3, rejected: 2}) {
		t.Errorf("got %+v, want 3 rows and 2 of them rejected", got)
	}

	if got := j.read(text); got != (count{}) {
		t.Errorf("a copy counts as %+v, want nothing", got)
	}
}

func TestJudgeRoles(t *testing.T) {
	before := noon.Add(-2 * time.Hour)
	roles := []role{plain, idle, forbidden, removed, unknown}
	var workers []worker
	j := newJudge(noon)
	for i, r := range roles {
		w := worker{role: r, employee: string(rune('1' + i)), login: string(rune('a' + i)), duty: before}
		workers = append(workers, w)
		if r != idle {
			j.read([]byte(rowAt("BON", w.employee, noon.Add(-time.Hour))))
		}
	}

	want := j.want(workers)
	for i, value := range []string{"17/06/2024 11:00:00", "17/06/2024 10:00:00", "17/06/2024 10:00:00", "", ""} {
		if got := want[workers[i].login]; got != value {
			t.Errorf("role %d should have %q, want %q", roles[i], got, value)
		}
	}
}

func TestCompare(t *testing.T) {
	want := map[string]string{"same": "1", "missing": "2", "other": "3"}
	got := map[string]string{"same": "1", "other": "4", "added": "5"}

	wrong := compare(want, got)
	for i, login := range []string{"added", "missing", "other"} {
		if len(wrong) != 3 || !strings.HasPrefix(wrong[i], login+": ") {
			t.Fatalf("got %q, want one each of added, missing, other", wrong)
		}
	}

	if same := compare(want, want); len(same) != 0 {
		t.Errorf("a state differs from itself: %q", same)
	}

	if !slices.IsSorted(wrong) {
		t.Error("findings are not sorted")
	}
}
