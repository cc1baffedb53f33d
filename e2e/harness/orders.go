//go:build unix

package harness

// Mass mistakes by those who make the files, and an operator who uses the real commands to decide about what the
// guard holds and to pause AtHoc. Everything that the operator saw and ordered is kept for the auditor.

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"bobosync/e2e/audit"
	"bobosync/e2e/workload"
	"bobosync/shared/boborow"
	"bobosync/shared/pause"
)

const (
	// Operator is the victim of faults that people cause at the pipeline.
	Operator = "operator"
	// Bobo is the victim of faults that people cause at the duty clock.
	Bobo = "BOBO"

	// crewSize is the number of workers that the mass mistakes are about; no other files mention them.
	crewSize = 12
	// A mistake books off at least minMistake of the first mistaken workers, which is more than the guard allows. The
	// others are booked off while the operator looks.
	mistaken, minMistake = 8, 6
	// stillSent is how long after the beginning of a pause a call may still arrive that was allowed before: as long
	// as a lease lasts.
	stillSent = callTimeout + 3*time.Second
	// copyWithin is how long it may take until the broker has a copy of what is held.
	copyWithin = 6 * time.Second
)

// guardSettings make the guard hold any change that affects more than a few of so few workers.
var guardSettings = map[string]string{
	"GUARD": "hold", "GUARD_WINDOW": guardWindow.String(), "GUARD_MIN_USERS": fmt.Sprint(guardUsers), "GUARD_OFF_PERCENT": fmt.Sprint(guardPercent),
}

const (
	guardWindow              = time.Minute
	guardUsers, guardPercent = 5, 10
)

// orders is what the operator saw and ordered.
type orders struct {
	mu        sync.Mutex
	looks     []audit.Look
	decisions []order
	pauses    []audit.Pause
	mistakes  int  // number of mistakes so far
	ending    bool // nothing new goes wrong, and the operator decides about everything that waits
}

func (o *orders) end() {
	o.mu.Lock()
	defer o.mu.Unlock()

	o.ending = true
}

func (o *orders) ends() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ending
}

// order is a decision with the hold that it was about.
type order struct {
	audit.Decision
	hold, reason string
}

// crew returns the first n workers of the mass mistakes.
func crew(n int) (all []workload.Worker) {
	for i := range n {
		all = append(all, workload.Worker{Employee: fmt.Sprint(80001 + i), Login: fmt.Sprintf("crew%d@example.org", i)})
	}
	return all
}

// bookCrew drops a file that books these members of the crew on or off, at a moment later than everything that the
// crew's files have said so far.
func (s *Stack) bookCrew(members []int, on bool) error {
	s.orders.mu.Lock()
	s.orders.mistakes++
	n := s.orders.mistakes
	s.orders.mu.Unlock()

	at := s.started.Add(-2*time.Hour + time.Duration(n)*time.Minute).In(s.rules().BoboZone)
	var rows []string
	for _, i := range members {
		rows = append(rows, boborow.New(on, crew(crewSize)[i].Employee, at).String())
	}

	name := fmt.Sprintf("crew %d %s.csv", n, map[bool]string{true: "bon", false: "bof"}[on])

	return s.In.Drop(workload.File{Name: name, Content: []byte(strings.Join(rows, "\n") + "\n")})
}

// bookCrewOn books the whole crew on, and waits until AtHoc shows it.
func (s *Stack) bookCrewOn() error {
	if err := s.bookCrew(rand.Perm(crewSize), true); err != nil {
		return err
	}

	return s.eventually(readyWithin, "the crew is on duty", func() (bool, error) {
		users, err := s.Sim.Users(s.ctx)
		for _, w := range crew(crewSize) {
			if users[w.Login][dutyAttribute] == "" {
				return false, err
			}
		}

		return err == nil, err
	})
}

// massMistake books the crew on, so that AtHoc learns of it, and then books most of it off.
func massMistake(_ context.Context, s *Stack, f Fault, _ string) (func() error, error) {
	rng := rand.New(rand.NewPCG(f.Draw, 1))
	members := rng.Perm(mistaken)[:minMistake+rng.IntN(mistaken-minMistake+1)]
	return func() error { return s.bookCrew(members, false) }, s.bookCrew(rng.Perm(crewSize), true)
}

// pauseAtHoc pauses calls to AtHoc; the end of the fault resumes them.
func pauseAtHoc(ctx context.Context, s *Stack, f Fault, _ string) (func() error, error) {
	args := []string{"pause", "--for", "10m", "--reason", "soak"}
	all := f.Draw%2 == 0
	if all {
		args = append(args, "--all")
	}

	began := time.Now()
	paused := s.insist(ctx, f.For, args...) == nil
	from := time.Now().Add(stillSent)

	return func() error {
		to := time.Now()
		if paused && to.After(from) {
			s.mu.Lock()
			for _, lost := range s.storeLost { // the pause was lost with the store
				if lost.After(began) && lost.Before(to) {
					to = lost
				}
			}
			s.mu.Unlock()
			s.orders.mu.Lock()
			s.orders.pauses = append(s.orders.pauses, audit.Pause{Window: audit.Window{From: from, To: to}, All: all})
			s.orders.mu.Unlock()
		}

		return s.insist(ctx, idleWithin, "resume")
	}, nil
}

// insist repeats an order until it is carried out or the time is up.
func (s *Stack) insist(ctx context.Context, within time.Duration, args ...string) error {
	deadline := time.Now().Add(within)
	for {
		out, err := s.Operate(ctx, args...)
		s.Note("bobosync %s: %s", strings.Join(args, " "), strings.TrimSpace(out))

		if err == nil || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}

		_ = pause.For(ctx, 300*time.Millisecond)
	}
}

// held is what `bobosync held list --json` says about a hold.
type held struct {
	ID, Kind, Decision, Reason string
	Users                      int
}

func (s *Stack) holds(ctx context.Context) (waiting, decided []held, err error) {
	var list struct{ Held, Decided []held }
	err = s.ask(ctx, &list, "held", "list", "--json")
	return list.Held, list.Decided, err
}

func (s *Stack) ask(ctx context.Context, answer any, args ...string) error {
	out, err := s.Operate(ctx, args...)
	if err != nil {
		return err
	}

	return json.Unmarshal([]byte(out), answer)
}

// shown is what was in a hold, with the token that identifies exactly these workers.
type shown struct {
	audit.Look
	token     string
	employees []string // by row
}

// show looks at a hold and keeps what it saw.
func (s *Stack) show(ctx context.Context, id string) (shown, error) {
	var set struct {
		Token   string
		Kind    string
		Workers []struct {
			Employee, File string
			Row            int
		}
	}
	look := shown{Look: audit.Look{Asked: time.Now()}}
	if err := s.ask(ctx, &set, "held", "show", id, "--json"); err != nil {
		return look, err
	}

	look.Answered, look.token = time.Now(), set.Token
	for _, w := range set.Workers {
		look.Rows = append(look.Rows, audit.Row{File: w.File, Line: w.Row})
		look.employees = append(look.employees, w.Employee)
	}

	if set.Kind == "off" { // a hold on clearing stale duty does not hold the row itself
		s.orders.mu.Lock()
		s.orders.looks = append(s.orders.looks, look.Look)
		s.orders.mu.Unlock()
	}

	return look, nil
}

// decide gives an order about the rows that were shown, without one of them if except is not negative, and keeps the
// order unless it was refused.
func (s *Stack) decide(ctx context.Context, verb audit.Verb, hold string, look shown, except int) {
	s.orders.mu.Lock()
	o := order{audit.Decision{Verb: verb, Asked: time.Now(), Rows: slices.Clone(look.Rows)}, hold, fmt.Sprint("soak ", len(s.orders.decisions))}
	i := len(s.orders.decisions)
	s.orders.decisions = append(s.orders.decisions, o)
	s.orders.mu.Unlock()

	args := []string{"held", string(verb), hold, "--reason", o.reason}
	if verb != audit.Requeue {
		args = append(args, "--token", look.token)
	}

	if except >= 0 {
		o.Rows = slices.Delete(o.Rows, except, except+1)
		args = append(args, "--except", look.employees[except])
	}

	out, err := s.Operate(ctx, args...)
	s.Note("bobosync %s: %s", strings.Join(args, " "), strings.TrimSpace(out))

	o.Answered, o.Followed = time.Now(), err == nil
	if err != nil && slices.ContainsFunc(refusals, func(text string) bool { return strings.Contains(out, text) }) {
		o.Rows = nil
	}

	s.orders.mu.Lock()
	s.orders.decisions[i] = o
	s.orders.mu.Unlock()
}

// refusals are the texts by which a command says that it certainly did nothing.
var refusals = []string{"since you looked", "are others than were shown", "there is no hold", "it was decided about"}

// employ lets an operator decide about what is held, until leave is called.
func (s *Stack) employ(ctx context.Context, seed uint64) (leave func()) {
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() { s.operate(ctx, rand.New(rand.NewPCG(seed, 0x6f706572))) })
	return func() { cancel(); working.Wait() }
}

// operate decides about what is held until ctx ends: now and then at first, and in the end about everything.
func (s *Stack) operate(ctx context.Context, rng *rand.Rand) {
	for ; ctx.Err() == nil; _ = pause.For(ctx, time.Duration(500+rng.IntN(1000))*time.Millisecond) {
		last := s.orders.ends()

		waiting, decided, err := s.holds(ctx)
		if err != nil {
			continue // the resolver is out of reach
		}

		for _, h := range waiting {
			s.orderAbout(ctx, rng, h, last)
		}

		for _, h := range decided {
			if !last && h.Decision == "rejected" && rng.IntN(4) == 0 {
				s.decide(ctx, audit.Requeue, h.ID, s.rejectedRows(h.ID), -1)
			}
		}
	}
}

// orderAbout looks at a hold, and may give an order about it: either at once, or, after others have joined it, about
// the workers that it saw before.
func (s *Stack) orderAbout(ctx context.Context, rng *rand.Rand, h held, last bool) {
	look, err := s.show(ctx, h.ID)
	if err != nil || len(look.Rows) == 0 && !last && h.Kind == "off" {
		return
	}

	draw := rng.IntN(10)
	switch {
	case h.Kind != "off" || last && draw < 7:
		s.decide(ctx, audit.Approve, h.ID, look, -1)
	case last || draw < 2:
		s.decide(ctx, audit.Reject, h.ID, look, -1)
	case draw < 4:
		s.decide(ctx, audit.Approve, h.ID, look, -1)
	case draw < 5 && len(look.Rows) > 1:
		s.decide(ctx, audit.Approve, h.ID, look, rng.IntN(len(look.Rows)))
	case draw < 8: // others join the hold
		others := rng.Perm(crewSize - mistaken)
		for i := range others {
			others[i] += mistaken
		}

		if err := s.bookCrew(others, false); err != nil {
			return
		}

		_ = pause.For(ctx, settleTime+time.Duration(rng.IntN(1500))*time.Millisecond)
		if _, err := s.show(ctx, h.ID); err == nil {
			s.decide(ctx, []audit.Verb{audit.Approve, audit.Reject}[draw%2], h.ID, look, -1)
		}
	}
}

// rejectedRows returns the rows of the orders that rejected a hold.
func (s *Stack) rejectedRows(hold string) (all shown) {
	s.orders.mu.Lock()
	defer s.orders.mu.Unlock()

	for _, o := range s.orders.decisions {
		if o.hold == hold && o.Verb == audit.Reject {
			all.Rows = append(all.Rows, o.Rows...)
		}
	}

	return all
}

// settle waits until the pipeline is idle and, with an operator, until nothing is held.
func (s *Stack) settle(ctx context.Context, within time.Duration, operating bool) error {
	if !operating {
		return s.Idle(within)
	}

	return errors.Join(s.Idle(within), s.eventually(within, "nothing is held", func() (bool, error) {
		waiting, decided, err := s.holds(ctx)
		s.orders.mu.Lock()
		defer s.orders.mu.Unlock()

		for i, o := range s.orders.decisions { // find out about the orders that got no answer
			verb := map[string]audit.Verb{"approved": audit.Approve, "rejected": audit.Reject, "requeued": audit.Requeue}
			if slices.ContainsFunc(decided, func(h held) bool { return h.Reason == o.reason && verb[h.Decision] == o.Verb }) {
				s.orders.decisions[i].Followed = true
			}
		}

		return err == nil && len(waiting) == 0, err
	}))
}

// evidence adds what the operator saw and ordered.
func (o *orders) evidence(in *audit.Input) {
	o.mu.Lock()
	defer o.mu.Unlock()

	in.Looks, in.Pauses = slices.Clone(o.looks), slices.Clone(o.pauses)
	for _, d := range o.decisions {
		if len(d.Rows) > 0 {
			in.Decisions = append(in.Decisions, d.Decision)
		}
	}
}
