//go:build unix

// Command bench measures the speed and memory of the programs on this machine, prints a table of the figures with
// their targets, and checks the end state in AtHoc. It exits with status 1 only if that is wrong or something did not
// finish: a slow machine is not a failure.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"bobosync/e2e/bench"
	"bobosync/e2e/harness"
)

func main() { os.Exit(run()) }

type options struct {
	bench.Config
	bin, dir, json, only string
	quick                bool
}

// sizes are those that the targets are meant for.
var sizes = bench.Config{
	Rows: 1_000_000, Workers: 20_000, Files: 1000, FileRows: 100, LatencyFiles: 100, Messages: 200_000, Idle: 20 * time.Second,
	Stream: 20 * time.Second, Outages: []time.Duration{20 * time.Second, 75 * time.Second},
	Mappings: []int{20_000, 40_000, 80_000, 120_000, 200_000, 1_000_000},
}

func run() int {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "`directory` of the programs; what is not there is built")
	flag.StringVar(&o.dir, "dir", "", "work in a new directory below this `directory`, which should be on a disk (default: that of -bin)")
	flag.StringVar(&o.json, "json", "", "write the figures to this `file` as well, as JSON")
	flag.StringVar(&o.only, "only", "", "measure only these `parts`: "+strings.Join(bench.Parts, ","))
	flag.BoolVar(&o.quick, "quick", false, "small sizes, to see in seconds whether everything works")
	flag.BoolVar(&o.Keep, "keep", false, "keep the directory with all logs and data")
	flag.IntVar(&o.Rows, "rows", sizes.Rows, "rows of the one large file")
	flag.IntVar(&o.Workers, "workers", sizes.Workers, "workers, each with a user in AtHoc")
	flag.IntVar(&o.Files, "files", sizes.Files, "number of small files")
	flag.IntVar(&o.FileRows, "file-rows", sizes.FileRows, "rows of each of them")
	flag.IntVar(&o.LatencyFiles, "latency-files", sizes.LatencyFiles, "files that are dropped one after another")
	o.Settings = map[string]string{}
	flag.Func("set", "`NAME=VALUE` of an environment variable of the services, to see what it does to the figures; may be repeated", func(text string) error {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return errors.New("it must have the form NAME=VALUE")
		}

		o.Settings[name] = value

		return nil
	})
	flag.Parse()

	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench: unexpected argument %q: everything is a flag; see -help\n", flag.Arg(0))
		return 2
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	ok, err := o.measure(ctx)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	case !ok:
		return 1
	default:
		return 0
	}
}

// complete fills in what follows from the flags.
func (o *options) complete() error {
	o.Messages, o.Idle, o.Progress = sizes.Messages, sizes.Idle, os.Stderr
	o.Stream, o.Outages, o.Mappings, o.Parts = sizes.Stream, sizes.Outages, sizes.Mappings, bench.Parts
	o.Judge = len(o.Settings) == 0 && o.Rows >= sizes.Rows && o.Workers == sizes.Workers && o.Files >= sizes.Files && o.FileRows == sizes.FileRows
	if o.quick {
		set, keep := o.Settings, o.Keep
		o.Config = bench.Quick
		o.Settings, o.Keep, o.Progress = set, keep, os.Stderr
	}

	if o.only != "" {
		o.Parts = strings.Split(o.only, ",")
	}

	return o.Validate()
}

// measure runs the benchmark and writes the report. It reports whether nothing went wrong.
func (o *options) measure(ctx context.Context) (ok bool, err error) {
	if err := o.complete(); err != nil {
		return false, err
	}

	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return false, err
	}

	if o.dir == "" {
		o.dir = o.bin // not the temporary directory: if that is in memory, syncing costs nothing
	}

	work, err := os.MkdirTemp(o.dir, "bench-")
	if err != nil {
		return false, fmt.Errorf("make a directory to work in: %w", err)
	}

	if work, err = filepath.Abs(work); err != nil {
		return false, err
	}
	defer func() {
		if ctx.Err() == nil && (o.Keep || !ok) {
			fmt.Fprintln(os.Stderr, "logs and files are in", work)
			return
		}

		err = errors.Join(err, os.RemoveAll(work))
	}()

	o.Bin, o.Dir = filepath.Join(work, "bin"), work
	if err := os.Setenv(harness.BinVariable, o.bin); err != nil {
		return false, err
	}

	if err := harness.Build(ctx, o.Bin); err != nil {
		return false, err
	}

	report, err := bench.Run(ctx, o.Config)
	if err != nil {
		return false, err
	}

	return len(report.Problems) == 0, errors.Join(report.WriteText(os.Stdout), o.writeJSON(report))
}

func (o *options) writeJSON(r *bench.Report) (err error) {
	if o.json == "" {
		return nil
	}

	f, err := os.Create(o.json)
	if err != nil {
		return fmt.Errorf("write -json: %w", err)
	}

	defer func() { err = errors.Join(err, f.Close()) }()

	return r.WriteJSON(f)
}
