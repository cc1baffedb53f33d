package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/config"
	"bobosync/shared/logging"
	"bobosync/shared/program"
)

// addressFile tells the operators' commands how to reach the broker inside the all-in-one program. Only who may read the
// data directory may give orders.
const addressFile = "broker.url"

// reachWait is how long a command tries to reach the broker.
const reachWait = 5 * time.Second

// tellAddress writes the address of the broker inside, with its token, for the operators' commands.
func tellAddress(directory, address, token string) error {
	u, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("the address of the broker inside: %w", err)
	}
	u.User = url.User(token)
	path := filepath.Join(directory, addressFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write the address of the broker inside (DATA_DIRECTORY): %w", err)
	}
	if err := os.WriteFile(path, []byte(u.String()+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the address of the broker inside (DATA_DIRECTORY): %w", err)
	}
	return nil
}

// operator is the settings that the operators' commands need.
type operator struct {
	Broker config.Broker
	Data   config.Data
}

// Validate implements config.Validator.
func (o *operator) Validate() error { return o.Broker.Validate() }

// reach connects to the broker: the one of NATS_URL, or that inside an all-in-one program with the same data directory.
func reach(ctx context.Context, envFile string) (*bus.Conn, error) {
	var o operator
	if err := program.Load(ctx, envFile, &o); err != nil {
		program.Complain(os.Stderr, "the command", err)
		return nil, exitStatus(2)
	}
	if o.Broker.URL == "" {
		address, err := os.ReadFile(filepath.Join(o.Data.Directory, addressFile))
		if err != nil {
			return nil, fmt.Errorf("no broker to ask: NATS_URL is not set, and no bobosync run has left its address in DATA_DIRECTORY: %w", err)
		}
		o.Broker.URL = strings.TrimSpace(string(address))
	}
	log, _, err := logging.New(io.Discard, "bobosync", config.Log{Level: "ERROR", Format: "json"})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, reachWait)
	defer cancel()
	conn, err := bus.Connect(ctx, program.BusConfig("operator", o.Broker, log))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, errors.New("the broker cannot be reached: is bobosync running, and is NATS_URL right?")
	}
	return conn, err
}

// with runs a command with a connection to the broker.
func with(envFile *string, f func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		conn, err := reach(cmd.Context(), *envFile)
		if err != nil {
			return err
		}
		defer conn.Close()
		return f(cmd.Context(), conn, cmd, args)
	}
}

// whoami names who gives an order, for the record.
func whoami() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return name + "@" + host
}

// printJSON writes v for scripts.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// table writes rows for people; the first row is the heading.
func table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}

// when shows a moment in the machine's zone; a dash if it has not come.
func when(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// moment reads what an operator means by a time: RFC 3339, a date with or without a time of the machine's zone, or a
// duration such as 90m that has passed since.
func moment(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(-d.Abs()), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: use 2024-06-17 14:30, 2024-06-17T14:30:00Z, or how long ago, such as 90m", text)
}
