//go:build unix

package harness

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/audit"
	"bobosync/e2e/workload"
	"bobosync/shared/pause"
)

// Run is a seeded run: a workload, faults, and the auditor's judgement.
type Run struct {
	Seed uint64
	// Dir is an empty directory; Bin is the directory of the programs.
	Dir, Bin string
	// Publishers (3), Faults (14), Files (50) and Workers (30) are counts. 0 means the default; a negative number of
	// faults means none.
	Publishers, Faults, Files, Workers int
	// Span is the time over which files are dropped and faults begin (8s).
	Span time.Duration
	// Guard holds mass changes, makes mass mistakes, and lets an operator decide about them.
	Guard bool
	// Hostile plays only the faults of a hostile bringer: then nobody's status may be late.
	Hostile bool
	// AllInOne runs `bobosync run`; no faults are played then.
	AllInOne bool
	// Asked is for how many random workers and moments the pipeline is asked what AtHoc held (100).
	Asked int
}

// Result is the result of a run.
type Result struct {
	audit.Report
	Files, Faults int
	Took          time.Duration
}

// String sums the result up on one line.
func (r Result) String() string {
	return fmt.Sprintf("%d findings; %d files, %d rows (%d rejected), %d faults, %d calls with %d users, %s",
		len(r.Findings), r.Files, r.Rows, r.Rejected, r.Faults, r.Updates, r.Sent, r.Took.Round(100*time.Millisecond))
}

// How long parts of a run may take.
const (
	readyWithin = 40 * time.Second
	idleWithin  = 60 * time.Second
)

// Do makes the run. An error says that the run could not be made or judged; what the pipeline did wrong is in the
// findings.
func (r Run) Do(ctx context.Context) (result Result, err error) {
	r.Publishers, r.Faults = cmp.Or(r.Publishers, 3), cmp.Or(r.Faults, 14)
	r.Asked, r.Span = cmp.Or(r.Asked, askedWorkers), cmp.Or(r.Span, 8*time.Second)
	begin := time.Now()

	zone, err := time.LoadLocation(BoboZone)
	if err != nil {
		return result, err
	}

	plan := workload.New(workload.Options{Seed: r.Seed, Now: begin, Zone: zone, Lifetime: Lifetime, Workers: r.Workers, Files: r.Files, Span: r.Span})

	s, err := Start(ctx, Config{Dir: r.Dir, Bin: r.Bin, SmallStore: !r.AllInOne, Publishers: r.Publishers, AllInOne: r.AllInOne, Guard: r.Guard, Hostile: r.Hostile, Asked: r.Asked, Plan: plan})
	defer func() { err = errors.Join(err, s.Close()) }()

	if err != nil {
		return result, err
	}

	s.Note("seed %d", r.Seed)

	if err := s.Ready(readyWithin); err != nil {
		return result, err
	}

	if err := s.RemoveUsers(); err != nil {
		return result, err
	}

	faults := r.faults()
	leave := func() {}
	if r.Guard {
		if err := s.bookCrewOn(); err != nil {
			return result, err
		}

		leave = s.employ(ctx, r.Seed)
	}
	defer leave()

	result.Faults, err = s.drive(ctx, plan.Files, faults)
	if err != nil {
		return result, err
	}

	idle := s.settle(ctx, idleWithin, r.Guard)
	if err := s.awaitRepeats(ctx); err != nil {
		return result, err
	}

	idle = errors.Join(idle, s.settle(ctx, idleWithin, r.Guard))

	leave()

	result.Report, err = s.Judge()
	result.Files, result.Took = len(s.In.files), time.Since(begin)
	if err == nil && idle != nil && len(result.Findings) == 0 {
		result.Findings = append(result.Findings, audit.Finding{Kind: audit.Stuck, Text: idle.Error()})
	}

	return result, err
}

// mistakes is the number of mass mistakes in a run with the guard.
const mistakes = 3

// faults draws what goes wrong.
func (r Run) faults() []Fault {
	if r.AllInOne {
		return nil
	}

	rng := rand.New(rand.NewPCG(r.Seed, 0x6661756c))
	if r.Hostile {
		return Tricks(rng, max(0, r.Faults), r.Span)
	}

	faults := Schedule(rng, max(0, r.Faults), r.Span)
	if r.Guard {
		faults = Mistakes(rng, faults, mistakes, r.Span)
	}

	return faults
}

// repeatsWithin is how long it takes at most until the pipeline has sent the users of a call again that was given up
// without an answer, because AtHoc may work on that call after a newer one: twice ATHOC_TIMEOUT, and what a frozen
// service and the publishing take.
const repeatsWithin = 2*callTimeout + 3*time.Second

// awaitRepeats waits until no call that was given up can be followed by a repetition any longer. Until then the
// pipeline is not idle, although nothing shows that it is not.
func (s *Stack) awaitRepeats(ctx context.Context) error {
	calls, err := sim.ReadCallLog(s.Path(callLog))
	if err != nil {
		return err
	}

	for _, c := range calls {
		if c.Endpoint == sim.EndpointUpdate && c.Status == 0 {
			_ = pause.For(ctx, time.Until(time.Unix(0, max(c.Arrived, c.Finished)).Add(repeatsWithin)))
		}
	}

	return ctx.Err()
}

// drive drops the files and plays the faults.
func (s *Stack) drive(ctx context.Context, files []workload.File, faults []Fault) (played int, err error) {
	dropped := make(chan error, 1)
	go func() { dropped <- s.DropAll(ctx, files) }()

	calm := time.Now()
	played, err = s.Play(ctx, faults)
	s.Note("all faults are over")

	if !s.cfg.Hostile { // a hostile bringer's faults must not make anybody's status late
		calm = time.Now()
	}

	s.mu.Lock()
	s.calm = calm
	s.mu.Unlock()
	s.orders.end()

	return played, errors.Join(err, <-dropped)
}

// DropAll drops each file at its time.
func (s *Stack) DropAll(ctx context.Context, files []workload.File) error {
	begin := time.Now()
	for _, f := range files {
		_ = pause.For(ctx, f.At-time.Since(begin))
		if err := s.In.Drop(f); err != nil {
			return err
		}
	}

	return ctx.Err()
}

// Judge audits what has happened so far, and adds a finding for each process that ended by itself and for each
// service that used too much memory.
func (s *Stack) Judge() (audit.Report, error) {
	in, err := s.Evidence()
	if err == nil && !s.cfg.AllInOne { // the all-in-one program has a broker of its own
		in.Past, err = s.remembered(in)
	}

	report := audit.Audit(in)
	if died := s.Died(); died != nil {
		for line := range strings.SplitSeq(died.Error(), "\n") {
			report.Findings = append(report.Findings, audit.Finding{Kind: Died, Text: line})
		}
	}

	report.Findings = append(report.Findings, s.heavy()...)

	return report, err
}

// memoryLimit is the services' memory limit in deploy/compose.yaml.
const memoryLimit = 128 << 20

// heavy returns a finding for each service that has used more memory than its container would have.
func (s *Stack) heavy() (found []audit.Finding) {
	if s.cfg.AllInOne || os.Getenv(RaceVariable) != "" { // the race detector needs several times as much memory
		return nil
	}

	for _, p := range s.services() {
		if n := p.peak(); p.Name != Broker && n > memoryLimit {
			found = append(found, audit.Finding{Kind: Heavy, Text: fmt.Sprintf("%s has used %d MiB, and its container has %d", p.Name, n>>20, memoryLimit>>20)})
		}
	}

	return found
}

// Heavy is the kind of finding for a service that has used too much memory.
const Heavy audit.Kind = "heavy"

// Died is the kind of finding for a process that ended by itself.
const Died audit.Kind = "died"
