// Package workload makes up what a run of BOBO Sync has to cope with: workers, their bookings, and the files that
// hold the bookings, with everything that real directories contain. The same seed and the same clock give the same
// workload.
package workload

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"bobosync/shared/boborow"
)

// Options say how much of it to make. Zero values take the defaults given in brackets.
type Options struct {
	Seed uint64
	// Now is the moment before which all bookings lie.
	Now time.Time
	// Zone is BOBO's zone. It should have no summer time: a wall-clock time must name one moment.
	Zone *time.Location
	// Lifetime is the age after which duty is stale (24h).
	Lifetime time.Duration
	// Workers (30), Files (50) and RowsPerFile (20, at most) are counts.
	Workers, Files, RowsPerFile int
	// Span is the time over which the files are dropped (8s).
	Span time.Duration
	// TieGap is the least time between the drops of two files that hold bookings of one worker at the same second
	// (1s). The order in which such files are read decides, and must not be left to chance.
	TieGap time.Duration
}

// Role is how a worker is represented in AtHoc.
type Role int

// The roles.
const (
	// Plain workers have a user.
	Plain Role = iota
	// Unmapped workers have none.
	Unmapped
	// Removed users are in AtHoc when the mapping is read, and are removed before the first file is dropped.
	Removed
	// Forbidden users cannot be written by the account.
	Forbidden
	// Idle users have a worker whom no file mentions, and a status that should stay.
	Idle
)

// Worker is a worker, with the user if there is one.
type Worker struct {
	Employee string
	Role     Role
	// Login is the username; empty for Unmapped.
	Login string
	// Duty is the moment since which the user is on duty when the run begins; zero for off duty.
	Duty time.Time
}

// Kind is what is special about a file.
type Kind string

// The kinds of files.
const (
	Ordinary Kind = "ordinary"
	Empty    Kind = "empty"     // nothing, or a header alone
	Useless  Kind = "useless"   // no valid row
	Copy     Kind = "copy"      // the content of another file under another name
	SameName Kind = "same_name" // the name of an earlier file, but other content
	Binary   Kind = "binary"    // not text
)

// File is a file to drop.
type File struct {
	Name    string
	Content []byte
	Kind    Kind
	// At is when to drop it, counted from the start.
	At time.Duration
	// Pieces, if not empty, are the lengths of the pieces in which the file is slowly written in place. Otherwise the
	// whole file is renamed into the directory.
	Pieces []int
}

// Plan is a workload.
type Plan struct {
	Workers []Worker
	// Files are in the order in which they are dropped, which should also be the order in which they are read.
	Files []File
	// Private are texts that occur in the files and must never leave them: payroll ids and coordinates.
	Private []string
}

// second is a second at which a worker has a booking. No two bookings share one by chance.
type second struct {
	worker int
	unix   int64
}

type maker struct {
	Options
	rng    *rand.Rand
	plan   Plan
	rows   [][]string  // by file
	ties   [][2]int    // pairs of files with bookings at the same second
	copyOf map[int]int // by file: the file whose content a copy has
	taken  map[second]bool
	fixed  map[string]bool // rows that must not be repeated in another file
}

// New makes a workload.
func New(o Options) Plan {
	setDefault(&o.Lifetime, 24*time.Hour)
	setDefault(&o.Workers, 30)
	setDefault(&o.Files, 50)
	setDefault(&o.RowsPerFile, 20)
	setDefault(&o.Span, 8*time.Second)
	setDefault(&o.TieGap, time.Second)

	if o.Zone == nil {
		o.Zone = time.UTC
	}

	m := &maker{Options: o, rng: rand.New(rand.NewPCG(o.Seed, 0x776f726b)), copyOf: map[int]int{},
		taken: map[second]bool{}, fixed: map[string]bool{}}
	m.workers()
	m.schedule()
	m.fill()
	m.addCopies()
	m.finish()

	return m.plan
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// workers gives one in ten of the workers each special role.
func (m *maker) workers() {
	for i := range m.Workers {
		w := Worker{Employee: fmt.Sprintf("%05d", 100+i*7), Login: fmt.Sprintf("W%03d.%x@Example.org", i, m.rng.Uint32())}
		switch i % 10 {
		case 3:
			w.Role, w.Login = Unmapped, ""
		case 5:
			w.Role = Removed
		case 7:
			w.Role = Forbidden
		case 9:
			w.Role, w.Duty = Idle, m.moment(time.Hour, 6*time.Hour)
		default:
			// A status older than all bookings, which the janitor may clear.
			if m.rng.IntN(4) == 0 {
				w.Duty = m.moment(m.Lifetime+20*time.Hour, m.Lifetime+40*time.Hour)
			}
		}

		m.plan.Workers = append(m.plan.Workers, w)
	}
}

// moment draws a moment between two ages, to the second.
func (m *maker) moment(youngest, oldest time.Duration) time.Time {
	age := youngest + time.Duration(m.rng.Int64N(int64(oldest-youngest)))
	return m.Now.Add(-age).Truncate(time.Second)
}

// free draws a moment at which the worker has no other booking.
func (m *maker) free(worker int, youngest, oldest time.Duration) time.Time {
	for {
		at := m.moment(youngest, oldest)
		if s := (second{worker, at.Unix()}); !m.taken[s] {
			m.taken[s] = true
			return at
		}
	}
}

// around draws a moment for a booking in a file. As a rule later files hold later bookings, so that most bookings
// change something in AtHoc; every third is out of order.
func (m *maker) around(worker, file int) time.Time {
	const youngest, oldest, spread = 5 * time.Minute, 8 * time.Hour, 20 * time.Minute
	if m.rng.IntN(3) == 0 {
		return m.free(worker, youngest, oldest)
	}

	age := youngest + (oldest-youngest)*time.Duration(m.Files-file)/time.Duration(m.Files)

	return m.free(worker, max(youngest, age-spread), age+spread)
}

// schedule decides when the files are dropped, and of which kinds they are. Some are dropped together; most are
// spread over the span.
func (m *maker) schedule() {
	at := make([]time.Duration, m.Files)
	for i := range at {
		at[i] = time.Duration(m.rng.Int64N(int64(m.Span)))
		if i > 0 && m.rng.IntN(4) == 0 {
			at[i] = at[i-1]
		}
	}

	slices.Sort(at)

	for i, t := range at {
		f := File{Name: fmt.Sprintf("bobo_%03d.csv", i), Kind: Ordinary, At: t}
		switch n := m.rng.IntN(100); {
		case n < 3:
			f.Kind = Empty
		case n < 6:
			f.Kind = Useless
		case n < 8:
			f.Kind = Binary
		case n < 13:
			f.Kind = Copy
		case n < 18:
			f.Kind = SameName
		case n < 23:
			f.Name = fmt.Sprintf("Duty Clock %d.CSV", i)
		}

		m.plan.Files = append(m.plan.Files, f)
	}

	m.rows = make([][]string, m.Files)
}

// fill makes the bookings and puts them into files, out of order.
func (m *maker) fill() {
	for i := range m.plan.Files {
		switch m.plan.Files[i].Kind {
		case Ordinary, SameName:
			for range 1 + m.rng.IntN(m.RowsPerFile) {
				m.rows[i] = append(m.rows[i], m.anyRow(i)...)
			}
		case Useless:
			for range 1 + m.rng.IntN(4) {
				m.rows[i] = append(m.rows[i], m.badRow())
			}
		case Empty:
			if m.rng.IntN(2) == 0 {
				m.rows[i] = []string{boborow.Header}
			}
		}
	}

	m.addCorrections()
}

// anyRow returns a booking as a rule; sometimes two bookings at the same second, a row of an earlier file, or a row
// that must be rejected.
func (m *maker) anyRow(file int) []string {
	switch n := m.rng.IntN(100); {
	case n < 6:
		return []string{m.badRow()}
	case n < 14 && file > 0:
		if earlier := m.rows[m.rng.IntN(file)]; len(earlier) > 0 {
			if r := earlier[m.rng.IntN(len(earlier))]; !m.fixed[r] {
				return []string{r}
			}
		}
	case n < 18:
		w, on := m.speaker(), m.rng.IntN(2) == 0
		at := m.around(w, file)
		first, then := m.row(w, at, on), m.row(w, at, !on)
		m.fixed[first], m.fixed[then] = true, true

		return []string{first, then}
	case n < 24:
		w := m.speaker()
		return []string{m.row(w, m.free(w, m.Lifetime+time.Hour, m.Lifetime+10*time.Hour), m.rng.IntN(3) > 0)}
	}

	w := m.speaker()

	return []string{m.row(w, m.around(w, file), m.rng.IntN(5) < 3)}
}

// speaker draws a worker whom files may mention. A few book much more often than the others.
func (m *maker) speaker() int {
	for {
		w := m.rng.IntN(m.Workers)
		if m.rng.IntN(3) == 0 {
			w = m.rng.IntN(max(1, m.Workers/5))
		}

		if m.plan.Workers[w].Role != Idle {
			return w
		}
	}
}

func (m *maker) row(worker int, at time.Time, on bool) string {
	r := boborow.New(on, m.plan.Workers[worker].Employee, at.In(m.Zone))
	switch m.rng.IntN(12) {
	case 0:
		r[boborow.Employee] = ` "` + r[boborow.Employee] + `" `
	case 1:
		r[boborow.Type] = " " + r[boborow.Type]
	}

	return m.private(r).String()
}

// private fills the columns that must not leave the files with texts that occur nowhere else.
func (m *maker) private(r boborow.Row) boborow.Row {
	payroll := fmt.Sprintf("PRL%09d", m.rng.Uint32N(1e9))
	lat := fmt.Sprintf("%d.%08d", 50+m.rng.IntN(3), m.rng.Uint32N(1e8))
	lon := fmt.Sprintf("-%d.%08d", m.rng.IntN(3), m.rng.Uint32N(1e8))
	m.plan.Private = append(m.plan.Private, payroll, lat, lon)
	if m.rng.IntN(10) == 0 {
		payroll = `"` + payroll + `, jr"`
	}

	r[boborow.Payroll], r[boborow.Latitude], r[boborow.Longitude], r[boborow.Accuracy] = payroll, lat, lon, "5.0"

	return r
}

// badRow returns a row that must be rejected, for a random reason.
func (m *maker) badRow() string {
	employee := m.plan.Workers[m.speaker()].Employee
	r := m.private(boborow.New(true, employee, m.moment(time.Minute, 5*time.Minute).In(m.Zone)))
	return r.With(boborow.Flaw(m.rng.IntN(int(boborow.Flaws))), m.Now.Add(48*time.Hour).In(m.Zone))
}

// addCorrections puts bookings of one worker at the same second into two files; the later file wins.
func (m *maker) addCorrections() {
	for range m.Files / 5 {
		i, j := m.rng.IntN(m.Files), m.rng.IntN(m.Files)
		if i > j {
			i, j = j, i
		}

		if m.plan.Files[j].At-m.plan.Files[i].At < m.TieGap || m.plan.Files[i].Kind != Ordinary || m.plan.Files[j].Kind != Ordinary {
			continue
		}

		// Recent, so that it is often the worker's latest booking.
		w, on := m.speaker(), m.rng.IntN(2) == 0
		at := m.free(w, time.Minute, 4*time.Minute)
		m.rows[i] = append(m.rows[i], m.row(w, at, on))
		m.rows[j] = append(m.rows[j], m.row(w, at, !on))
		m.ties = append(m.ties, [2]int{i, j})
	}
}

// addCopies chooses, for each file that repeats the content or the name of an earlier one, which one that is.
func (m *maker) addCopies() {
	for i := range m.plan.Files {
		f := &m.plan.Files[i]
		if f.Kind != Copy && f.Kind != SameName {
			continue
		}

		earlier := m.rng.IntN(i + 1)
		if m.plan.Files[earlier].Kind != Ordinary {
			f.Kind = Ordinary
			continue
		}

		if f.Kind == Copy {
			f.Name = fmt.Sprintf("copy %d of %s", i, m.plan.Files[earlier].Name)
			m.copyOf[i] = earlier
		} else {
			f.Name = m.plan.Files[earlier].Name
		}
	}
}

// finish puts the rows into the files.
func (m *maker) finish() {
	tied := map[int]bool{}
	for _, pair := range m.ties {
		tied[pair[0]], tied[pair[1]] = true, true
	}

	for i := range m.plan.Files {
		f := &m.plan.Files[i]
		switch f.Kind {
		case Copy:
			f.Content = m.plan.Files[m.copyOf[i]].Content
			continue
		case Binary:
			f.Content = m.binary()
			continue
		}

		f.Content = m.text(m.rows[i])
		// A file that is written in place may be read before it is complete, and so more than once. That must not
		// happen to a file whose position in the order of reading matters.
		if f.Kind == Ordinary && !tied[i] && len(f.Content) > 100 && m.rng.IntN(8) == 0 {
			for rest := len(f.Content); rest > 0; {
				n := min(rest, 1+m.rng.IntN(len(f.Content)/3))
				f.Pieces = append(f.Pieces, n)
				rest -= n
			}
		}
	}
}

func (m *maker) binary() []byte {
	b := []byte("\x89PNG\r\n\x1a\n\x00\xff\xfe")
	for range 100 {
		b = append(b, byte(m.rng.Uint32()))
	}

	return b
}

// text joins rows into a file, in one of the forms that real files have.
func (m *maker) text(rows []string) []byte {
	end, text := "\n", ""
	if m.rng.IntN(3) == 0 {
		end = "\r\n"
	}

	if m.rng.IntN(5) == 0 {
		text = "\ufeff"
	}

	if m.rng.IntN(2) == 0 && len(rows) > 0 && rows[0] != boborow.Header {
		text += boborow.Header + end
	}

	for _, r := range rows {
		if m.rng.IntN(20) == 0 {
			text += end
		}

		text += r + end
	}

	if m.rng.IntN(4) == 0 {
		text = strings.TrimSuffix(text, end)
	}

	return []byte(text)
}
