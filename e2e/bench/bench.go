//go:build unix

// Package bench measures the real programs, as separate processes against the AtHoc simulator: how many rows a second
// they carry from a file to AtHoc, how long a single booking takes, and how much memory and CPU that costs. It also
// measures what the machine allows, and checks that AtHoc ends up with what the files say.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"bobosync/shared/pause"
)

// Config says what to measure. Settings and the fields below it are optional.
type Config struct {
	// Bin is the directory of the programs, including natsd. Dir is a directory for everything else; it must be
	// empty, and on a disk: a file system in memory would make syncing free.
	Bin, Dir string
	// Rows is the number of rows in the one large file; Workers is how many workers it and the small files mention.
	Rows, Workers int
	// Files is the number of small files, FileRows the number of rows in each.
	Files, FileRows int
	// LatencyFiles is how many files are dropped one after another.
	LatencyFiles int
	// Messages is the number of messages with which JetStream's own rate is measured.
	Messages int
	// Idle is the time over which the CPU time of idle processes is measured.
	Idle time.Duration
	// Stream is how long each steady stream of files lasts, Outages how long AtHoc is out of reach before each
	// recovery, and Mappings the numbers of users for which the first mapping is measured.
	Stream   time.Duration
	Outages  []time.Duration
	Mappings []int
	// Parts are what to measure; see Parts.
	Parts []string
	// Settings are environment variables of all services; they override those that the benchmark sets.
	Settings map[string]string
	// Keep leaves the directories with the logs and data of each run in place.
	Keep bool
	// Judge compares figures with their targets. It makes sense only with the sizes and settings that the targets are
	// meant for.
	Judge bool
	// Progress, if not nil, receives lines about what is being done.
	Progress io.Writer
}

// The parts of the benchmark.
const (
	PartLimits  = "limits"
	PartLarge   = "a"
	PartSmall   = "b"
	PartHuge    = "c"
	PartIdle    = "idle"
	PartLatency = "latency"
)

// Parts are all parts, in the order in which they are measured.
var Parts = []string{
	PartLimits, PartLarge, PartSmall, PartHuge, PartIdle, PartLatency, PartSteady, PartBehind, PartRecovery, PartTooLarge, PartSlow, PartCulprit, PartMapping,
	PartAttack,
}

// Quick has small sizes, to see within seconds whether everything works. Bin and Dir must still be set.
var Quick = Config{
	Rows: 20_000, Workers: 500, Files: 50, FileRows: 20, LatencyFiles: 3, Messages: 5000, Idle: time.Second,
	Stream: 2 * time.Second, Outages: []time.Duration{2 * time.Second}, Mappings: []int{1000},
	Parts: []string{PartLimits, PartLarge, PartSmall, PartHuge, PartIdle, PartLatency, PartSteady, PartBehind, PartRecovery, PartMapping},
}

// The targets, and what the tool that this program replaces achieved on such a machine.
const (
	oldTool       = 4590.0  // rows a second
	wantLarge     = 250_000 // all in one
	wantServices  = 200_000 // four services
	wantSmall     = 60_000
	wantCPU       = 5   // seconds of ingest and resolver together, for the large file
	wantSends     = 1.1 // "once or little more"
	wantMemory    = 100
	wantMemoryAll = 250
	// wantLinear is the least share of the large file's rate that a file with five times its rows and ten times its
	// workers should reach.
	wantLinear  = 0.7
	wantIdle    = 60
	wantIdleCPU = 1.0
	settleTime  = time.Second // the default of SETTLE_TIME
	wantMedian  = 0.3         // seconds above SETTLE_TIME
	wantNearly  = 1.0

	// freeRate is an ATHOC_RATE_LIMIT that does not bind.
	freeRate = "1000"
	// latencyRows is the number of rows, each for a different worker, in a file whose latency is measured.
	latencyRows = 10
	// confirmedWithin is how long files may take to be confirmed, plus a second for every slowestRate rows.
	confirmedWithin = 2 * time.Minute
	slowestRate     = 20_000
	mebibyte        = 1 << 20
)

// Validate returns an error if the sizes do not fit together.
func (c Config) Validate() error {
	var errs []error
	for name, n := range map[string]int{"-rows": c.Rows, "-workers": c.Workers, "-files": c.Files, "-file-rows": c.FileRows, "-latency-files": c.LatencyFiles} {
		if n < 1 {
			errs = append(errs, fmt.Errorf("%s: must be at least 1", name))
		}
	}

	if c.Rows < c.Workers || c.Files*c.FileRows < c.Workers {
		errs = append(errs, errors.New("-workers: must not be more than there are rows, in the large file and in all small ones"))
	}

	if c.LatencyFiles*latencyRows > c.Workers {
		errs = append(errs, fmt.Errorf("-latency-files: must be at most %d, a %dth of -workers", c.Workers/latencyRows, latencyRows))
	}

	if most := int(span/time.Second) / manyFiles; c.Files > most || c.LatencyFiles > most {
		errs = append(errs, fmt.Errorf("-files, -latency-files: must be at most %d", most))
	}

	for _, p := range c.Parts {
		if !slices.Contains(Parts, p) {
			errs = append(errs, fmt.Errorf("-only: there is no part %q; there are %s", p, strings.Join(Parts, ", ")))
		}
	}

	return errors.Join(errs...)
}

// bench is a running benchmark. Its methods are for one goroutine.
type bench struct {
	Config
	Report
	jetStream map[topology]float64 // JetStream's own rate, next to each topology
	stacks    int
	// rateOfLarge is the large file's rate, in rows a second.
	rateOfLarge map[topology]float64
}

// Run measures. What went wrong in the pipeline is listed in the report's problems; an error means that ctx has ended
// or that there is nothing to report. When Run returns, all processes have ended.
func Run(ctx context.Context, c Config) (*Report, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}

	b := &bench{Config: c, jetStream: map[topology]float64{}, rateOfLarge: map[topology]float64{}}
	b.Problems = []string{}
	b.Machine = machine()
	parts := append([]part{
		{PartLarge + " " + PartLimits, b.large},
		{PartSmall, b.small},
		{PartHuge, b.huge},
		{PartIdle + " " + PartLatency, b.quiet},
	}, b.freshParts()...)
	for _, part := range parts {
		if !slices.ContainsFunc(strings.Fields(part.name), b.has) {
			continue
		}

		if err := part.run(ctx); err != nil {
			b.problem(err)
		}

		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}

	b.notes()

	return &b.Report, nil
}

func (b *bench) has(part string) bool { return slices.Contains(b.Parts, part) }

func (b *bench) problem(err error) {
	for line := range strings.SplitSeq(err.Error(), "\n") {
		b.Problems = append(b.Problems, line)
	}
}

// note reports progress.
func (b *bench) note(format string, args ...any) {
	if b.Progress != nil {
		fmt.Fprintf(b.Progress, format+"\n", args...)
	}
}

func (b *bench) notes() {
	b.Notes = []string{
		"Rows a second: from the drop of the first file until the last one has left the input directory, with everything",
		"confirmed by AtHoc, SETTLE_TIME (1 s) included. AtHoc is athocsim on the same machine, without latency, and takes its",
		"share of the CPU. ATHOC_RATE_LIMIT is " + freeRate + " where not said otherwise: it is the operator's choice (default 2).",
		"The broker syncs to disk before it acknowledges, in all runs.",
	}
	if !b.Judge {
		b.Notes = append(b.Notes, "The sizes are not those that the targets are for, so nothing is compared with them.")
	}
}

// add adds a figure and, if it has targets and the sizes permit it, whether they are met.
func (b *bench) add(f Figure, targets ...target) {
	met := true
	var words []string
	for _, t := range targets {
		words = append(words, t.text)
		met = met && t.met(f.Value)
	}

	f.Target = strings.Join(words, ", ")
	if len(targets) > 0 && b.Judge {
		f.Met = &met
	}

	b.Figures = append(b.Figures, f)
}

// machine describes the machine that this runs on.
func machine() []string {
	lines := []string{fmt.Sprintf("%s, %s/%s, %d CPUs, %s", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), time.Now().UTC().Format(time.DateTime+" MST"))}
	if cpu, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(cpu)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				lines = append(lines, strings.TrimSpace(value))
				break
			}
		}
	}

	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		if f := strings.Fields(string(load)); len(f) > 0 {
			lines = append(lines, "load of the last minute before the start: "+f[0])
		}
	}

	return lines
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// with starts a stack, calls do and stops the stack. The stack's directory is removed unless something went wrong.
func (b *bench) with(ctx context.Context, t topology, settings map[string]string, do func(*stack) error) (err error) {
	b.stacks++
	return b.in(ctx, fmt.Sprintf("stack-%d", b.stacks), t, settings, do)
}

func (b *bench) in(ctx context.Context, name string, t topology, settings map[string]string, do func(*stack) error) error {
	all := map[string]string{}
	maps.Copy(all, settings)
	maps.Copy(all, b.Settings)

	s, err := startStack(ctx, stackConfig{
		topology: t, dir: filepath.Join(b.Dir, name), bin: b.Bin, workers: b.Workers, settings: all,
	})
	if err == nil {
		err = do(s)
	}

	if err = errors.Join(err, s.stop()); err != nil {
		return fmt.Errorf("%s: %w", t, err)
	}

	if b.Keep {
		return nil
	}

	return os.RemoveAll(s.dir)
}

// How much larger the huge file is than the large one.
const (
	hugeRows    = 5
	hugeWorkers = 10
)

// limits measures what the machine allows.
func (b *bench) limits(ctx context.Context, file string) error {
	const section = "What this machine allows"

	b.note("measuring the machine's limits")

	syncing, err := syncTime(b.Dir)
	if err != nil {
		return fmt.Errorf("measure syncing: %w", err)
	}

	b.add(Figure{Section: section, Where: "disk", What: "write and sync of 4 KiB, median", Value: syncing.Seconds() * 1000, Unit: "ms"})

	for _, way := range []struct {
		what string
		read func(string) (int, error)
	}{{"rows a second, reading alone, encoding/csv", readCSV}, {"rows a second, reading alone, lines split at commas", splitLines}} {
		began := time.Now()

		rows, err := way.read(file)
		if err != nil {
			return fmt.Errorf("read the large file: %w", err)
		}

		b.add(Figure{Section: section, Where: "file", What: way.what, Value: float64(rows) / time.Since(began).Seconds()})
	}

	for _, t := range []topology{allInOne, services} {
		where := "within the process"
		if t == services {
			where = "over loopback TCP"
		}

		rate, err := jetStreamRate(ctx, filepath.Join(b.Dir, "jetstream"), b.Messages, t == services)
		if err != nil {
			return fmt.Errorf("measure JetStream %s: %w", where, err)
		}

		b.jetStream[t] = rate
		b.add(Figure{Section: section, Where: "JetStream", Value: rate,
			What: fmt.Sprintf("messages of %d bytes a second, atomic batches, synced, %s", payload, where)})
	}

	return nil
}

// quiet measures idle processes and single files, with the default settings. It measures both topologies at the same
// time, because there is little to do and it takes long.
func (b *bench) quiet(ctx context.Context) error {
	if b.has(PartLatency) {
		b.note("idling for %s, then %d files one after another", b.Idle, b.LatencyFiles)
	}

	both := []topology{allInOne, services}
	results := make([]*bench, len(both))
	var measuring sync.WaitGroup
	for i, t := range both {
		own := &bench{Config: b.Config}
		results[i] = own
		measuring.Go(func() {
			err := own.in(ctx, fmt.Sprintf("quiet-%d", i), t, nil, func(s *stack) error {
				if b.has(PartIdle) {
					if err := own.idle(ctx, s); err != nil {
						return err
					}
				}

				if b.has(PartLatency) {
					return own.single(ctx, s)
				}

				return nil
			})
			if err != nil {
				own.problem(err)
			}
		})
	}

	measuring.Wait()

	for _, r := range results {
		b.Figures = append(b.Figures, r.Figures...)
		b.Problems = append(b.Problems, r.Problems...)
	}

	slices.SortStableFunc(b.Figures, bySection(b.Figures))

	return nil
}

// bySection returns an order that puts the figures of a section together, with sections in the order of their first
// figures.
func bySection(figures []Figure) func(a, b Figure) int {
	order := map[string]int{}
	for _, f := range figures {
		if _, known := order[f.Section]; !known {
			order[f.Section] = len(order)
		}
	}

	return func(a, b Figure) int { return order[a.Section] - order[b.Section] }
}

func (b *bench) idle(ctx context.Context, s *stack) error {
	before, err := s.usage()
	if errors.Is(err, errNoProc) {
		return nil
	}

	if err != nil {
		return err
	}

	if err := pause.For(ctx, b.Idle); err != nil {
		return err
	}

	after, err := s.usage()
	if err != nil {
		return err
	}

	section := fmt.Sprintf("Idle, %s users known", separated(int64(b.Workers)))
	for _, name := range s.names() {
		memory, cpu := atMost(wantIdle, fmt.Sprintf("at most %d MiB", wantIdle)), below(wantIdleCPU, "below 1 %")

		targets := [][]target{{memory}, {cpu}}
		if name == simulatorProcess {
			targets = [][]target{nil, nil}
		}

		b.add(Figure{Section: section, Where: string(s.topology), What: "memory of " + name, Value: float64(after[name].now) / mebibyte, Unit: "MiB"}, targets[0]...)
		b.add(Figure{Section: section, Where: string(s.topology), What: "CPU of " + name, Unit: "% of a core",
			Value: 100 * (after[name].cpu - before[name].cpu).Seconds() / b.Idle.Seconds()}, targets[1]...)
	}

	return nil
}

// percentile returns a percentile by nearest rank. sorted must be sorted and not empty.
func percentile(sorted []time.Duration, share float64) time.Duration {
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}
