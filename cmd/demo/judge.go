package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"bobosync/cmd/athocsim/sim"
)

// judge reads the files on its own, as simply as possible and without the pipeline's code, to determine what AtHoc
// should hold in the end. Of each worker the latest booking counts; of several at the same second, the one that is
// read last.
type judge struct {
	now    time.Time
	latest map[string]stamp // by employee id
	known  map[[sha256.Size]byte]bool
}

// stamp is a booking as it was read.
type stamp struct {
	at time.Time
	on bool
}

// count is the number of rows found in a file, and how many of them must be rejected.
type count struct{ rows, rejected int }

func newJudge(now time.Time) *judge {
	return &judge{now: now, latest: map[string]stamp{}, known: map[[sha256.Size]byte]bool{}}
}

// read reads the next file; files must be given in the order in which ingest reads them. Content that was read before
// is skipped, and so is content that is not text.
func (j *judge) read(text []byte) count {
	id := sha256.Sum256(text)
	if j.known[id] || !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return count{}
	}

	j.known[id] = true
	var c count
	for line := range strings.Lines(strings.TrimPrefix(string(text), "\ufeff")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "Transaction_Type,") {
			continue
		}

		c.rows++
		employee, s, ok := j.parse(line)
		if !ok {
			c.rejected++
			continue
		}

		if !s.at.Before(j.latest[employee].at) {
			j.latest[employee] = s
		}
	}

	return c
}

func (j *judge) parse(line string) (employee string, s stamp, ok bool) {
	columns, err := csv.NewReader(strings.NewReader(line)).Read()
	if err != nil || len(columns) != 10 {
		return "", stamp{}, false
	}

	for i := range columns {
		columns[i] = strings.TrimSpace(columns[i])
	}

	transaction, employee, created := columns[0], columns[1], columns[5]
	at, err := time.Parse("20060102150405", created)
	switch {
	case transaction != "BON" && transaction != "BOF", employee == "", err != nil:
		return "", stamp{}, false
	case created != columns[3]+columns[4], at.After(j.now.Add(time.Hour)):
		return "", stamp{}, false
	}

	return employee, stamp{at, transaction == "BON"}, true
}

// want returns what AtHoc should hold, by username; users who are off duty are left out. A worker whom no file
// mentions, or whose user may not be written, keeps the status from the start.
func (j *judge) want(workers []worker) map[string]string {
	want := map[string]string{}
	for _, w := range workers {
		last, spoken := j.latest[w.employee]
		duty := w.duty
		switch {
		case w.role == unknown, w.role == removed:
			continue
		case spoken && w.role != forbidden:
			duty = time.Time{}
			if last.on && j.now.Sub(last.at) < lifetime {
				duty = last.at
			}
		}

		if !duty.IsZero() {
			want[w.login] = duty.Format(sim.DateLayout)
		}
	}

	return want
}

// compare lists the users for whom AtHoc holds something else than it should.
func compare(want, got map[string]string) []string {
	var wrong []string

	logins := map[string]bool{}
	for login := range want {
		logins[login] = true
	}

	for login := range got {
		logins[login] = true
	}

	for _, login := range slices.Sorted(maps.Keys(logins)) {
		if want[login] != got[login] {
			wrong = append(wrong, fmt.Sprintf("%s: AtHoc has %s, the files say %s", login,
				cmp.Or(got[login], "off duty"), cmp.Or(want[login], "off duty")))
		}
	}

	return wrong
}
