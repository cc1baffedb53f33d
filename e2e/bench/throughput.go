//go:build unix

package bench

// How many rows a second go from files to AtHoc, and what that costs.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// prepared is a workload whose files have been written, and what AtHoc should hold in the end.
type prepared struct {
	workload
	dir   string
	names []string
	want  *want
}

func (b *bench) prepare(name string, files, rowsPerFile int) (*prepared, error) {
	p := &prepared{
		workload: workload{files: files, rowsPerFile: rowsPerFile, workers: b.Workers, name: name, now: time.Now(), rng: newRand()},
		dir:      filepath.Join(b.Dir, "files-"+name), want: newWant(b.Workers + 1),
	}
	b.note("writing %d files of %d rows", files, rowsPerFile)

	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}

	var err error
	if p.names, err = p.write(p.dir); err != nil {
		return nil, err
	}

	for _, n := range p.names {
		if err := p.want.read(filepath.Join(p.dir, n)); err != nil {
			return nil, err
		}
	}

	return p, nil
}

// copyTo puts copies of the files into another directory and syncs them, so that the time of writing them to disk is
// not measured.
func (p *prepared) copyTo(dir string) error {
	for _, n := range p.names {
		if err := copyFile(filepath.Join(p.dir, n), filepath.Join(dir, n)); err != nil {
			return err
		}
	}

	return nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()

	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()

	if _, err := io.Copy(out, in); err != nil {
		return err
	}

	return out.Sync()
}

// large measures the one large file, and the machine's limits for it.
func (b *bench) large(ctx context.Context) error {
	p, err := b.prepare("large", 1, b.Rows)
	if err != nil {
		return err
	}

	if b.has(PartLimits) {
		if err := b.limits(ctx, filepath.Join(p.dir, p.names[0])); err != nil {
			b.problem(err)
		}
	}

	if !b.has(PartLarge) {
		return os.RemoveAll(p.dir)
	}

	section := fmt.Sprintf("(a) 1 file of %s rows, %s workers", separated(int64(b.Rows)), separated(int64(b.Workers)))
	for _, t := range []topology{allInOne, services} {
		err := b.with(ctx, t, map[string]string{"ATHOC_RATE_LIMIT": freeRate}, func(s *stack) error {
			return b.throughput(ctx, s, p, section, b.judgeLarge)
		})
		if err != nil {
			b.problem(err)
		}
	}

	err = b.with(ctx, allInOne, nil, func(s *stack) error {
		return b.throughput(ctx, s, p, section+", ATHOC_RATE_LIMIT at its default of 2 calls a second", nil)
	})

	return errors.Join(err, os.RemoveAll(p.dir))
}

// manyFiles is how many times more files there are, and how many times smaller they are, in the second run with small
// files.
const manyFiles = 2

// small measures many small files: first the configured number and size, then twice as many of half the size.
func (b *bench) small(ctx context.Context) error {
	return errors.Join(b.smallFiles(ctx, b.Files, b.FileRows), b.smallFiles(ctx, b.Files*manyFiles, max(1, b.FileRows/manyFiles)))
}

func (b *bench) smallFiles(ctx context.Context, files, rows int) error {
	p, err := b.prepare("small", files, rows)
	if err != nil {
		return err
	}

	section := fmt.Sprintf("(b) %s files of %s rows, %s workers", separated(int64(files)), separated(int64(rows)), separated(int64(b.Workers)))
	for _, t := range []topology{allInOne, services} {
		err := b.with(ctx, t, map[string]string{"ATHOC_RATE_LIMIT": freeRate}, func(s *stack) error {
			return b.throughput(ctx, s, p, section, func(s *stack, r run) {
				b.rows(s, section, r, atLeast(wantSmall, "at least "+separated(wantSmall)))
				b.cpu(s, section, r)
			})
		})
		if err != nil {
			b.problem(err)
		}
	}

	return os.RemoveAll(p.dir)
}

// huge measures whether time is linear in rows, and memory bounded, at a size that no file has in practice.
func (b *bench) huge(ctx context.Context) error {
	h := &bench{Config: b.Config}
	h.Rows, h.Workers = b.Rows*hugeRows, b.Workers*hugeWorkers

	p, err := h.prepare("huge", 1, h.Rows)
	if err != nil {
		return err
	}

	section := fmt.Sprintf("(c) 1 file of %s rows, %s workers", separated(int64(h.Rows)), separated(int64(h.Workers)))
	for _, t := range []topology{allInOne, services} {
		err := h.in(ctx, "huge", t, map[string]string{"ATHOC_RATE_LIMIT": freeRate}, func(s *stack) error {
			return h.throughput(ctx, s, p, section, func(s *stack, r run) {
				h.rows(s, section, r)

				if rate := b.rateOfLarge[t]; rate > 0 {
					h.add(Figure{Section: section, Where: string(t), What: "rows a second / those of (a)", Value: r.rate() / rate},
						atLeast(wantLinear, fmt.Sprintf("at least %v", wantLinear)))
				}

				h.memory(s, section, r, func(string) []target {
					return []target{atMost(wantMemoryAll, fmt.Sprintf("at most %d MiB", wantMemoryAll))}
				})
			})
		})
		if err != nil {
			b.problem(err)
		}
	}

	b.Figures = append(b.Figures, h.Figures...)

	return os.RemoveAll(p.dir)
}

// run holds the measurements of one run through a workload.
type run struct {
	rows, calls, users int
	took               time.Duration
	before, after      map[string]usage
}

// throughput drops all files, waits until they are done and checks the result. judge adds the figures that have
// targets; if it is nil, only the rate is added.
func (b *bench) throughput(ctx context.Context, s *stack, p *prepared, section string, judge func(*stack, run)) error {
	b.note("%s: %s", s.topology, section)

	if err := p.copyTo(s.path("outside")); err != nil {
		return err
	}

	r := run{rows: p.rows()}

	callsBefore, usersBefore, err := s.sent(ctx)
	if err != nil {
		return err
	}

	if r.before, err = s.usage(); err != nil && !errors.Is(err, errNoProc) {
		return err
	}

	began := time.Now()

	for _, n := range p.names {
		if err := s.drop(n); err != nil {
			return err
		}
	}

	if err := s.awaitGone(ctx, confirmedWithin+time.Duration(p.files*p.rowsPerFile/slowestRate)*time.Second, p.names); err != nil {
		return err
	}

	r.took = time.Since(began)
	if r.after, err = s.usage(); err != nil && !errors.Is(err, errNoProc) {
		return err
	}

	if r.calls, r.users, err = s.sent(ctx); err != nil {
		return err
	}

	r.calls, r.users = r.calls-callsBefore, r.users-usersBefore
	if judge == nil {
		judge = func(s *stack, r run) { b.rows(s, section, r) }
	}

	judge(s, r)
	where := string(s.topology)
	b.add(Figure{Section: section, Where: where, What: "calls to AtHoc", Value: float64(r.calls)})
	b.add(Figure{Section: section, Where: where, What: "users sent, for each worker", Value: float64(r.users) / float64(b.Workers)},
		atMost(wantSends, "1 or little more"))

	if err := s.arrived(p.names); err != nil {
		return err
	}

	if err := s.check(ctx, p.want); err != nil {
		return fmt.Errorf("%s: the end state is wrong: %w", section, err)
	}

	return nil
}

// rows adds the rate of a run.
func (b *bench) rows(s *stack, section string, r run, targets ...target) {
	where := string(s.topology)
	b.add(Figure{Section: section, Where: where, What: "from drop to confirmed", Value: r.took.Seconds(), Unit: "s"})
	b.add(Figure{Section: section, Where: where, What: "rows a second", Value: r.rate()}, targets...)
}

func (r run) rate() float64 { return float64(r.rows) / r.took.Seconds() }

// judgeLarge adds the figures of the large file: rate, ratios, memory and CPU.
func (b *bench) judgeLarge(s *stack, r run) {
	section := fmt.Sprintf("(a) 1 file of %s rows, %s workers", separated(int64(b.Rows)), separated(int64(b.Workers)))

	where := string(s.topology)
	want := float64(wantLarge)
	if s.topology == services {
		want = wantServices
	}

	b.rateOfLarge[s.topology] = r.rate()
	b.rows(s, section, r, atLeast(want, "at least "+separated(int64(want))))

	if own := b.jetStream[s.topology]; own > 0 {
		b.add(Figure{Section: section, Where: where, What: "rows a second / JetStream's own rate", Value: r.rate() / own}, atLeast(1, "at least 1"))
	}

	b.add(Figure{Section: section, Where: where, What: fmt.Sprintf("rows a second / the old tool's %s", separated(int64(oldTool))), Value: r.rate() / oldTool},
		atLeast(10, "at least 10"))
	b.memory(s, section, r, memoryTarget)
	b.cpu(s, section, r)

	if s.topology == services {
		var both time.Duration
		for _, name := range []string{"ingest", "resolver"} {
			both += r.after[name].cpu - r.before[name].cpu
		}

		b.add(Figure{Section: section, Where: where, What: "CPU time of ingest and resolver", Value: both.Seconds(), Unit: "s"},
			atMost(wantCPU, fmt.Sprintf("at most %d", wantCPU)))
	}
}

// memory adds the peak memory of each process.
func (b *bench) memory(s *stack, section string, r run, targets func(name string) []target) {
	for _, name := range s.names() {
		u, known := r.after[name]
		if !known {
			continue
		}

		var wanted []target
		if name != simulatorProcess && name != brokerProcess { // they are not services
			wanted = targets(name)
		}

		b.add(Figure{Section: section, Where: string(s.topology), What: "peak memory of " + name, Value: float64(u.peak) / mebibyte, Unit: "MiB"}, wanted...)
	}
}

// cpu adds the CPU time of each process.
func (b *bench) cpu(s *stack, section string, r run) {
	for _, name := range s.names() {
		if u, known := r.after[name]; known {
			b.add(Figure{Section: section, Where: string(s.topology), What: "CPU time of " + name, Value: (u.cpu - r.before[name].cpu).Seconds(), Unit: "s"})
		}
	}
}

// memoryTarget returns the most memory that a service may use while it works.
func memoryTarget(name string) []target {
	most := wantMemory
	if name == "bobosync" {
		most = wantMemoryAll
	}

	return []target{atMost(float64(most), fmt.Sprintf("at most %d MiB", most))}
}
