// Command athocsim is a strict simulator of the AtHoc web API: point a client at it to try a configuration, or to see
// what the client does when the service misbehaves. README.md in this directory describes it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"bobosync/cmd/athocsim/sim"

	"github.com/lmittmann/tint"
	"github.com/mattn/go-isatty"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr)

	stop()
	os.Exit(code)
}

// run is main without the outside world. It returns the exit code: 2 for a bad configuration, 1 for a failure.
func run(ctx context.Context, args []string, lookup func(string) (string, bool), stdout, stderr io.Writer) int {
	c, err := parseConfig(args, lookup, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}

	if err != nil {
		fmt.Fprintln(stderr, "athocsim:", err)
		return 2
	}

	c.options.Logger = newLogger(stderr, c.logLevel, c.logFormat)
	if err := serve(ctx, c, stdout); err != nil {
		fmt.Fprintln(stderr, "athocsim:", err)
		return 1
	}

	return 0
}

func serve(ctx context.Context, c config, stdout io.Writer) (err error) {
	s, err := sim.New(c.options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	if err := s.Start(ctx, c.listen); err != nil {
		return err
	}

	if err := announce(s, c, stdout); err != nil {
		return err
	}

	<-ctx.Done()
	c.options.Logger.Info("stopping")

	return nil
}

// announce prints, for people and scripts, where the simulator listens and what a client needs, and writes the files
// asked for.
func announce(s *sim.Simulator, c config, stdout io.Writer) error {
	fmt.Fprintf(stdout, "AtHoc simulator: %d users in organization %s, listening on %s\n", s.Stats().Users, c.options.OrgCode, s.Addr())
	fmt.Fprintf(stdout, "Admin pages:     curl %s/sim/\n\nFor the client's .env:\n\n", s.AdminURL())

	var file strings.Builder
	for _, f := range s.Env() {
		line := fmt.Sprintf("%s=%s\n", f.Name, quoteEnv(f.Value))
		file.WriteString(line)

		if c.secret[f.Name] {
			line = fmt.Sprintf("%s=   # as you gave it; -env-file writes it out\n", f.Name)
		}

		fmt.Fprint(stdout, line)
	}

	fmt.Fprintln(stdout)

	if c.envFile != "" {
		if err := writeWhole(c.envFile, file.String()); err != nil {
			return fmt.Errorf("writing -env-file: %w", err)
		}
	}

	if c.addrFile != "" {
		if err := writeWhole(c.addrFile, s.Addr()+"\n"); err != nil {
			return fmt.Errorf("writing -addr-file: %w", err)
		}
	}

	return nil
}

// writeWhole writes a file so that nobody waiting for it finds half of it. The file may hold secrets.
func writeWhole(path, content string) error {
	if err := os.WriteFile(path+".tmp", []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

func quoteEnv(v string) string {
	if strings.ContainsAny(v, " #\"'\\$") {
		return "'" + strings.ReplaceAll(v, "'", `'\''`) + "'"
	}
	return v
}

func newLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	f, isFile := w.(*os.File)
	terminal := isFile && (isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd()))
	if format == "text" || format == "auto" && terminal {
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: level, TimeFormat: time.TimeOnly, NoColor: !terminal}))
	}

	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}
