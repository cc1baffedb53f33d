//go:build unix

// Command soak makes seeded runs of the whole pipeline, as separate processes, with files and faults drawn from the
// seed, and lets the auditor judge them. It exits with status 1 if there was a finding, and prints the seeds.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"bobosync/e2e/harness"
)

type options struct {
	run         harness.Run
	runs        int
	parallel    int
	keep        bool
	verbose     bool
	dir, binDir string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var o options
	flag.Uint64Var(&o.run.Seed, "seed", 1, "seed of the first run; the others have the numbers after it")
	flag.IntVar(&o.runs, "runs", 1, "number of runs")
	flag.IntVar(&o.parallel, "parallel", 1, "runs at the same time")
	flag.IntVar(&o.run.Publishers, "publishers", 3, "publishers at the start of a run")
	flag.IntVar(&o.run.Faults, "faults", 14, "faults drawn for a run, of which one or the other can find its victim taken; -1 for none")
	flag.IntVar(&o.run.Files, "files", 50, "files in a run")
	flag.IntVar(&o.run.Workers, "workers", 30, "workers in a run")
	flag.DurationVar(&o.run.Span, "span", 8*time.Second, "time over which files are dropped and faults begin")
	flag.BoolVar(&o.run.Guard, "guard", false, "hold mass changes in every run, and not only in each third")
	flag.BoolVar(&o.run.Hostile, "hostile", false, "let every run, and not only each fourth, have nothing but a hostile bringer for a fault")
	flag.BoolVar(&o.run.AllInOne, "all-in-one", false, "run `bobosync run` instead of the four services, without faults")
	flag.StringVar(&o.dir, "dir", "", "work in this `directory` (default: a new one)")
	flag.BoolVar(&o.keep, "keep", false, "keep the directories of runs without a finding as well")
	flag.BoolVar(&o.verbose, "v", false, "say more about each run")
	flag.Parse()

	err := soak(ctx, o)

	stop()

	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// soak makes all runs, and returns an error if any of them failed or had a finding.
func soak(ctx context.Context, o options) (err error) {
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "bobosync-soak-"); err != nil {
			return err
		}
	}

	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}

	o.binDir = filepath.Join(o.dir, "bin")
	if err := os.RemoveAll(o.binDir); err != nil { // left by an earlier soak
		return err
	}

	if err := harness.Build(ctx, o.binDir); err != nil {
		return err
	}

	begin := time.Now()

	seeds := make(chan uint64)
	var mu sync.Mutex
	var bad []uint64
	var wg sync.WaitGroup
	for range max(1, o.parallel) {
		wg.Go(func() {
			for seed := range seeds {
				if !one(ctx, o, seed) {
					mu.Lock()

					bad = append(bad, seed)
					mu.Unlock()
				}
			}
		})
	}

	for i := range uint64(o.runs) {
		if ctx.Err() == nil {
			seeds <- o.run.Seed + i
		}
	}

	close(seeds)
	wg.Wait()
	fmt.Printf("%d runs in %s\n", o.runs, time.Since(begin).Round(time.Second))

	if len(bad) > 0 {
		return fmt.Errorf("seeds with findings: %v; look into %s, and run one again with -seed N -runs 1", bad, o.dir)
	}

	if !o.keep {
		err = os.RemoveAll(o.dir)
	}

	return errors.Join(err, ctx.Err())
}

// How many random workers and moments all runs together ask about what AtHoc held, and the least number for each run.
const asked, askedPerRun = 1000, 100

// one makes a run and reports it. It returns false if the run failed or had a finding.
func one(ctx context.Context, o options, seed uint64) bool {
	r := o.run
	r.Guard = r.Guard || seed%3 == 0 && !r.AllInOne

	r.Hostile = (r.Hostile || seed%4 == 1) && !r.Guard && !r.AllInOne
	r.Asked = max(askedPerRun, asked/max(o.runs, 1))
	r.Seed, r.Bin, r.Dir = seed, o.binDir, filepath.Join(o.dir, fmt.Sprint("seed-", seed))
	err := os.RemoveAll(r.Dir) // left by an earlier attempt
	var result harness.Result
	if err == nil {
		result, err = r.Do(ctx)
	}

	good := err == nil && len(result.Findings) == 0
	if ctx.Err() != nil && err != nil {
		return true // an interrupted run says nothing
	}

	if !good || o.verbose {
		fmt.Printf("seed %d: %s\n", seed, result)
	}

	for _, f := range result.Findings {
		fmt.Printf("seed %d:   %s\n", seed, f)
	}

	if err != nil {
		fmt.Printf("seed %d: not made: %v\n", seed, err)
	}

	if good && !o.keep {
		_ = os.RemoveAll(r.Dir)
	}

	return good
}
