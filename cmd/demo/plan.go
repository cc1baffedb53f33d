package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/boborow"
)

// lifetime is the age after which duty counts as stale.
const lifetime = 24 * time.Hour

// role says what AtHoc has of a worker, and what the files say about them.
type role int

const (
	// plain workers have a user, and book on and off.
	plain role = iota
	// idle workers have a user with a status. No file mentions them, so the status must stay.
	idle
	// corrected workers have several bookings at the same second, of which the one that is read last counts.
	corrected
	// forgotten workers have only bookings that are older than lifetime.
	forgotten
	// removed workers have a user that is removed from AtHoc after the mapping was read.
	removed
	// forbidden workers have a user that the account may not write.
	forbidden
	// unknown workers have no user in AtHoc.
	unknown
)

// worker is an invented worker.
type worker struct {
	role     role
	employee string
	login    string    // empty for unknown
	duty     time.Time // the status at the start; zero for none
}

// kind says what is special about a file.
type kind string

const (
	ordinary   kind = ""
	badRows    kind = "bad rows of every kind, between good ones"
	noGoodRow  kind = "a file without a good row"
	growing    kind = "half-written, and goes on growing"
	copied     kind = "an earlier file under another name"
	binary     kind = "no text, though it is named .csv"
	firstSaid  kind = "bookings that will be corrected"
	correction kind = "corrections at the same second"
	inOutage   kind = "new bookings while AtHoc is down"
	late       kind = "a late file with old bookings"
)

// specials are the special files, one of each kind, with the time of their drop as a fraction of the span.
var specials = []struct {
	kind kind
	at   float64
}{
	{firstSaid, 0.08}, {badRows, 0.16}, {growing, 0.20}, {noGoodRow, 0.28}, {binary, 0.34}, {copied, 0.40},
	{inOutage, 0.52}, {correction, 0.78}, {late, 0.86},
}

// The ages of bookings. Those of the special files are newer than all others, so that each of these files makes a
// difference in the end.
const (
	ageNewest, ageNewer, ageNew, ageOld = 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 6 * time.Minute
)

const (
	outageAt = 0.46 // of the span
	// rowsPerFile is how many bookings an ordinary file has on average.
	rowsPerFile = 36
	// pieceInterval is the time between two pieces of the growing file, less than the time after which a file counts
	// as finished.
	pieceInterval = 100 * time.Millisecond
	// growthPart is how long the file grows, as a fraction of the span.
	growthPart = 0.14
)

// file is a file to drop.
type file struct {
	kind kind
	name string
	text []byte
	// at is when the file is dropped, or its first piece is written, counted from the start.
	at time.Duration
	// pieces are the lengths of the pieces in which a growing file is written.
	pieces []int
}

// plan is everything that will happen. The same options give the same plan.
type plan struct {
	workers []worker
	// files are sorted by at.
	files []file
	// outageAt is when AtHoc begins to fail, and outage is for how long.
	outageAt, outage time.Duration
}

type planOptions struct {
	seed           uint64
	now            time.Time
	workers, files int // their numbers
	span, outage   time.Duration
}

// booking is one booking of a worker.
type booking struct {
	worker int
	at     time.Time
	on     bool
}

// second is a second at which a worker has a booking.
type second struct {
	worker int
	unix   int64
}

type planner struct {
	opts  planOptions
	rng   *rand.Rand
	plan  plan
	taken map[second]bool // so that no two bookings of a worker share a second by chance
}

func newPlan(o planOptions) plan {
	o.now = o.now.UTC().Truncate(time.Second)
	p := &planner{opts: o, rng: rand.New(rand.NewPCG(o.seed, 0x64656d6f)), taken: map[second]bool{}}
	p.plan.outageAt, p.plan.outage = part(o.span, outageAt), o.outage
	p.makeWorkers()
	p.makeFiles()

	return p.plan
}

func part(d time.Duration, of float64) time.Duration { return time.Duration(of * float64(d)) }

// users returns the plan's workers as AtHoc has them at the start.
func (p *plan) users() []sim.User {
	var users []sim.User
	for _, w := range p.workers {
		if w.login == "" {
			continue
		}

		u := sim.User{LoginID: w.login, Attributes: map[string]string{sim.DefaultCollar: w.employee}}
		if !w.duty.IsZero() {
			u.Attributes[sim.DefaultDutyAttribute] = w.duty.Format(sim.DateLayout)
		}

		users = append(users, u)
	}

	return users
}

// logins returns the usernames of the workers with a role.
func (p *plan) logins(r role) []string {
	var logins []string
	for _, w := range p.workers {
		if w.role == r {
			logins = append(logins, w.login)
		}
	}

	return logins
}

var (
	firstNames = strings.Fields("amelia oliver isla noah freya arthur mia leo ivy jack grace oscar willow harry ava theo elsie " +
		"finley maya reuben nadia tomasz priya callum yusuf")
	lastNames = strings.Fields("hughes patel walker okafor evans wright kowalski shah turner bailey morgan ahmed fletcher " +
		"hayes lindqvist osborne reid novak barton singh quinn castle devlin marsh yates")
)

// makeWorkers makes the workers and gives a few of them each special role.
func (p *planner) makeWorkers() {
	few := max(2, p.opts.workers/50)
	var roles []role
	for _, r := range []role{idle, corrected, corrected, forgotten, unknown} {
		roles = append(roles, slices.Repeat([]role{r}, few)...)
	}

	roles = append(roles, removed, forbidden)
	roles = append(roles, slices.Repeat([]role{plain}, p.opts.workers-len(roles))...)
	p.rng.Shuffle(len(roles), func(i, j int) { roles[i], roles[j] = roles[j], roles[i] })

	names := p.rng.Perm(len(firstNames) * len(lastNames))
	for i, r := range roles {
		w := worker{role: r, employee: fmt.Sprintf("%05d", 317+i*4+p.rng.IntN(4))}
		if r != unknown {
			n := names[i%len(names)]
			w.login = firstNames[n%len(firstNames)] + "." + lastNames[n/len(firstNames)]
			if again := i / len(names); again > 0 {
				w.login += fmt.Sprint(again + 1)
			}

			w.login += "@example.org"
		}

		if r == idle || r == forbidden {
			w.duty = p.moment(time.Hour, 6*time.Hour)
		}

		p.plan.workers = append(p.plan.workers, w)
	}
}

// with returns the indexes of the workers with a role.
func (p *planner) with(r role) []int {
	var some []int
	for i, w := range p.plan.workers {
		if w.role == r {
			some = append(some, i)
		}
	}

	return some
}

// moment draws a second whose age lies between the two given ages.
func (p *planner) moment(youngest, oldest time.Duration) time.Time {
	return p.opts.now.Add(-youngest - time.Duration(p.rng.Int64N(int64(oldest-youngest)))).Truncate(time.Second)
}

// booking draws a booking of a worker, at a second at which that worker has no other.
func (p *planner) booking(worker int, on bool, youngest, oldest time.Duration) booking {
	for {
		b := booking{worker, p.moment(youngest, oldest), on}
		if s := (second{worker, b.at.Unix()}); !p.taken[s] {
			p.taken[s] = true
			return b
		}
	}
}

// makeFiles schedules all files and fills them.
func (p *planner) makeFiles() {
	for _, s := range specials {
		p.plan.files = append(p.plan.files, file{kind: s.kind, at: part(p.opts.span, s.at)})
	}

	n := p.opts.files - len(specials)
	for i := range n {
		// They are spread evenly, except that some are dropped together.
		at := part(p.opts.span, (float64(i)+p.rng.Float64())/float64(n))
		if i > 0 && p.rng.IntN(4) == 0 {
			at = p.plan.files[len(p.plan.files)-1].at
		}

		p.plan.files = append(p.plan.files, file{at: at})
	}

	slices.SortStableFunc(p.plan.files, func(a, b file) int { return cmp.Compare(a.at, b.at) })

	for i := range p.plan.files {
		p.plan.files[i].name = p.name(i)
	}

	rows := p.ordinaryRows(n)
	for i := range p.plan.files {
		f := &p.plan.files[i]
		if f.kind == ordinary {
			f.text = p.text(rows[0])
			rows = rows[1:]
			continue
		}

		p.fillSpecial(f, i)
	}
}

// name returns the unique name of file i; its extension is sometimes .CSV.
func (p *planner) name(i int) string {
	ending := ".csv"
	if p.rng.IntN(8) == 0 {
		ending = ".CSV"
	}

	return fmt.Sprintf("BOBO_%s_%04d%s", p.opts.now.Format("20060102"), i+1, ending)
}

// ordinaryRows spreads the bookings of a day over n files, not strictly in order; some bookings are in two files.
func (p *planner) ordinaryRows(n int) [][]string {
	files := make([][]booking, n)
	all := p.day(n * rowsPerFile)
	for i, b := range all {
		at := i*n/len(all) + int(p.rng.NormFloat64()*float64(n)/8)
		at = min(max(at, 0), n-1)
		files[at] = append(files[at], b)
	}

	rows := make([][]string, n)
	for i, some := range files {
		if len(some) == 0 {
			some = []booking{p.booking(p.some(1)[0], true, ageOld, 14*time.Hour)}
		}

		own := p.rowsOf(some)
		if p.rng.IntN(5) == 0 {
			own = slices.Insert(own, p.rng.IntN(len(own)+1), p.badRow(boborow.Flaw(p.rng.IntN(int(boborow.Flaws)))))
		}

		if i > 0 && (i == 1 || p.rng.IntN(4) == 0) { // an export that overlaps with the previous one
			before := rows[i-1]
			own = append(slices.Clone(before[max(0, len(before)-8):]), own...)
		}

		rows[i] = own
	}

	return rows
}

// day draws about n bookings of the last hours, oldest first; each worker books on and off in turn.
func (p *planner) day(n int) []booking {
	var workers []int
	for i, w := range p.plan.workers {
		if w.role != idle && w.role != forgotten {
			workers = append(workers, i)
		}
	}

	var all []booking
	for _, w := range workers {
		own := make([]booking, max(2, n/len(workers)-1+p.rng.IntN(3)))
		for i := range own {
			own[i] = p.booking(w, false, ageOld, 14*time.Hour)
		}

		slices.SortFunc(own, byTime)

		on := p.rng.IntN(2) == 0
		for i := range own {
			own[i].on = on
			on = !on
		}

		all = append(all, own...)
	}

	slices.SortFunc(all, byTime)

	return all
}

func byTime(a, b booking) int {
	return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.worker, b.worker))
}

func (p *planner) fillSpecial(f *file, i int) {
	switch f.kind {
	case badRows:
		var rows []string
		for n, w := range p.some(int(boborow.Flaws)) {
			rows = append(rows, p.badRow(boborow.Flaw(n)), p.row(p.booking(w, n%2 == 0, ageNewest, ageNewer)))
		}

		f.text = p.text(rows)
	case noGoodRow:
		f.text = []byte(boborow.Header + "\r\n" + p.badRow(boborow.FewColumns) + "\r\n\r\n" + p.badRow(boborow.UnknownType) + "\r\n")
	case growing:
		var some []booking
		for range 4 * rowsPerFile {
			some = append(some, p.booking(p.some(1)[0], p.rng.IntN(2) == 0, ageNew, ageOld))
		}

		f.text = p.text(p.rowsOf(some))
		f.pieces = cut(len(f.text), max(3, int(part(p.opts.span, growthPart)/pieceInterval)))
	case binary:
		f.text = append([]byte("\x89PNG\r\n\x1a\n\x00\xff\xfe"), make([]byte, 600)...)
		for n := 11; n < len(f.text); n++ {
			f.text[n] = byte(p.rng.Uint32())
		}
	case copied:
		f.text, f.name = p.original(i).text, "Copy of "+p.original(i).name
	case firstSaid, correction:
		f.text = p.text(p.corrections(f.kind == correction))
	case inOutage:
		var some []booking
		for n, w := range p.some(min(2*rowsPerFile, len(p.with(plain))/2)) {
			some = append(some, p.booking(w, n%2 == 0, ageNewer, ageNew))
		}

		f.text = p.text(p.rowsOf(some))
	case late:
		f.text = p.text(p.lateRows())
	}
}

// original returns the latest ordinary file before file i, or the file of kind firstSaid if there is none.
func (p *planner) original(i int) *file {
	for n := i - 1; n >= 0; n-- {
		if p.plan.files[n].kind == ordinary {
			return &p.plan.files[n]
		}
	}

	return &p.plan.files[slices.IndexFunc(p.plan.files, func(f file) bool { return f.kind == firstSaid })]
}

// some returns n plain workers at random.
func (p *planner) some(n int) []int {
	everyday := p.with(plain)
	p.rng.Shuffle(len(everyday), func(i, j int) { everyday[i], everyday[j] = everyday[j], everyday[i] })
	return everyday[:n]
}

// corrections returns rows with the latest bookings of the corrected workers, all at the same second: those of the
// first file, or with again those of the file of corrections. Half of these workers are booked one way in the first
// file and the other way in the file of corrections. The others have both bookings in the file of corrections.
func (p *planner) corrections(again bool) []string {
	var rows []string
	for n, w := range p.with(corrected) {
		b := booking{w, p.opts.now.Add(-time.Minute), n%4 < 2}
		switch {
		case n%2 == 1 && again:
			rows = append(rows, p.row(b), p.row(booking{w, b.at, !b.on}))
		case n%2 == 0 && again:
			b.on = !b.on
			rows = append(rows, p.row(b))
		case n%2 == 0:
			rows = append(rows, p.row(b))
		}
	}

	return rows
}

// lateRows returns bookings that are older than all others, and the only bookings of the forgotten workers.
func (p *planner) lateRows() []string {
	var some []booking
	for range 2 * rowsPerFile {
		some = append(some, p.booking(p.some(1)[0], p.rng.IntN(2) == 0, 15*time.Hour, 20*time.Hour))
	}

	for _, w := range p.with(forgotten) {
		some = append(some, p.booking(w, true, lifetime+2*time.Hour, lifetime+20*time.Hour))
	}

	return p.rowsOf(some)
}

// cut divides a length into about n pieces.
func cut(length, n int) []int {
	var pieces []int
	for length > 0 {
		size := min(length, max(1, length/max(1, n-len(pieces))))
		pieces = append(pieces, size)
		length -= size
	}

	return pieces
}
