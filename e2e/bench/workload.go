//go:build unix

package bench

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/boborow"
)

// span is the age of the oldest event: less than the age at which duty is stale, so that nothing expires.
const span = 10 * time.Hour

// workload is a number of files with events of the same workers, out of order.
type workload struct {
	files, rowsPerFile int
	workers            int
	name               string // prefix of all files' names
	now                time.Time
	rng                *rand.Rand
}

func (w workload) rows() int { return w.files * w.rowsPerFile }

// write writes the files into dir and returns their names, in the order in which they should be dropped. Every worker
// has the same number of rows, give or take one. Events are spread evenly over the span, in no order. A worker may
// have two events at the same second within a file, where the later row wins, but not in two files.
func (w workload) write(dir string) ([]string, error) {
	order := w.rng.Perm(w.workers)
	next := 0
	var names []string
	for f := range w.files {
		name := fmt.Sprintf("%s-%05d.csv", w.name, f)
		names = append(names, name)

		err := writeFile(filepath.Join(dir, name), func(out *bufio.Writer) {
			_, _ = out.WriteString(boborow.Header + "\n") // the first error sticks, and Flush returns it
			for range w.rowsPerFile {
				w.writeRow(out, order[next], f)

				if next++; next == len(order) {
					w.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })

					next = 0
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}

	return names, nil
}

// writeRow writes an event of a worker. Each file has its own set of seconds for events.
func (w workload) writeRow(out *bufio.Writer, worker, file int) {
	slots := int(span/time.Second) / w.files
	age := time.Duration(1+file+w.files*w.rng.IntN(slots)) * time.Second
	employee := employeeOf(worker)
	r := boborow.New(w.rng.IntN(2) == 1, employee, w.now.Add(-age).UTC())
	r[boborow.Payroll], r[boborow.Latitude], r[boborow.Longitude], r[boborow.Accuracy] = "PAY"+employee, "51.5007", "-0.1246", "5.0"
	_, _ = out.WriteString(r.String())
	_ = out.WriteByte('\n')
}

// employeeOf returns the collar number that the simulator gives the user with that index.
func employeeOf(worker int) string { return fmt.Sprintf("%05d", worker+1) }

func writeFile(path string, fill func(*bufio.Writer)) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()

	out := bufio.NewWriterSize(f, 1<<20)
	fill(out)

	return out.Flush()
}

// want is what AtHoc must hold: the value of each username on duty. It is derived from the files alone.
type want struct {
	users  map[string]string // usernames by employee id
	latest map[string]booking
}

type booking struct {
	at string // as in the file; compares as text
	on bool
}

// newWant starts with the simulator's users, about whom no file has said anything yet.
func newWant(users int) *want {
	w := &want{users: map[string]string{}, latest: map[string]booking{}}
	for _, u := range sim.GenerateUsers(users, sim.DefaultCollar) {
		w.users[u.Attributes[sim.DefaultCollar]] = u.LoginID
	}

	return w
}

// read takes a file into account. The pipeline must read it after those taken into account before.
func (w *want) read(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()

	rows := csv.NewReader(bufio.NewReaderSize(f, 1<<20))
	rows.ReuseRecord = true
	if _, err := rows.Read(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}

	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}

		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}

		// The latest time wins; at the same second, the row that is read later.
		if before, known := w.latest[row[1]]; !known || row[5] >= before.at {
			// A field is a slice of its whole line, which should not be kept.
			w.latest[strings.Clone(row[1])] = booking{at: strings.Clone(row[5]), on: row[0] == "BON"}
		}
	}
}

// compare returns an error that describes what is wrong with what AtHoc holds, nil if nothing is.
func (w *want) compare(state map[string]string) error {
	wrong, example := 0, ""

	told := func(user, got, value string) {
		if wrong++; wrong == 1 {
			example = fmt.Sprintf("%s has %q and should have %q", user, got, value)
		}
	}
	right := 0
	for employee, b := range w.latest {
		value := ""
		if b.on {
			at, err := time.Parse(boborow.CreatedLayout, b.at)
			if err != nil {
				return err
			}

			value = at.Format(sim.DateLayout)
			right++
		}

		if user := w.users[employee]; state[user] != value {
			told(user, state[user], value)
		}
	}

	if len(state) != right && wrong == 0 {
		return fmt.Errorf("AtHoc shows %d users on duty and should show %d", len(state), right)
	}

	if wrong > 0 {
		return fmt.Errorf("AtHoc is wrong about %d of %d users; %s", wrong, len(w.latest), example)
	}

	return nil
}
