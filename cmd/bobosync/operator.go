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

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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

// unreachable says why the broker cannot be asked, and what to do. Its text is for the operator and holds no secret.
type unreachable struct {
	// Cause is one of the cause… names, for scripts.
	Cause string
	Text  string
	Do    string
	err   error
}

func (u *unreachable) Error() string {
	if u.err == nil {
		return u.Text + ": " + u.Do
	}
	return fmt.Sprintf("%s: %s (%v)", u.Text, u.Do, u.err)
}

func (u *unreachable) Unwrap() error { return u.err }

// loadOperator reads the settings of the operators' commands.
func loadOperator(ctx context.Context, envFile string) (operator, error) {
	var o operator
	if err := program.Load(ctx, envFile, &o); err != nil {
		program.Complain(os.Stderr, "the command", err)
		return o, exitStatus(exitUsage)
	}
	return o, nil
}

// reach connects to the broker: the one of NATS_URL, or that inside an all-in-one program with the same data directory. Its
// error is an *unreachable, or an exitStatus when a setting is wrong.
func reach(ctx context.Context, envFile string) (*bus.Conn, error) {
	o, err := loadOperator(ctx, envFile)
	if err != nil {
		return nil, err
	}
	return o.connect(ctx, reachWait)
}

// connect tries to reach the broker for some time.
func (o operator) connect(ctx context.Context, wait time.Duration) (*bus.Conn, error) {
	inside := o.Broker.URL == ""
	if inside {
		address, err := os.ReadFile(filepath.Join(o.Data.Directory, addressFile))
		if err != nil {
			return nil, noAddress(err)
		}
		o.Broker.URL = strings.TrimSpace(string(address))
	}
	log, _, err := logging.New(io.Discard, "bobosync", config.Log{Level: "ERROR", Format: "json"})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	conn, err := bus.Connect(ctx, program.BusConfig("operator", o.Broker, log))
	if err != nil {
		return nil, whyUnreachable(err, inside)
	}
	return conn, nil
}

func noAddress(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &unreachable{
			Cause: causeNotAllowed, Text: "the address of the broker inside bobosync may not be read",
			Do: "run the command as the user that bobosync runs as, or as root", err: err,
		}
	}
	return &unreachable{
		Cause: causeBroker, Text: "no broker to ask: NATS_URL is not set, and no bobosync run has left its address in DATA_DIRECTORY",
		Do: "start bobosync run, or set NATS_URL to the broker's address, or run the command where the .env file of the services is (or name it with --env)", err: err,
	}
}

// whyUnreachable turns what the connection says into words; inside says that it is the broker inside bobosync run.
func whyUnreachable(err error, inside bool) *unreachable {
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return &unreachable{
			Cause: causeNotAllowed, Text: "the broker refuses the login",
			Do: "check the name and password in NATS_URL, or the file that NATS_CREDS names", err: err,
		}
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		strings.Contains(err.Error(), "JetStream does not answer"):
		return &unreachable{
			Cause: causeJetStream, Text: "the broker is there, but its JetStream is off or does not answer, so nothing can be stored or sent",
			Do: "look whether the broker's disk is full (then make room and restart the broker), and whether JetStream is switched on in its configuration, for this account too",
		}
	case errors.Is(err, context.DeadlineExceeded) && inside:
		return &unreachable{
			Cause: causeBroker, Text: "the broker inside bobosync run cannot be reached",
			Do: "is bobosync running? Start it; the end of its log says why it has stopped. Nothing is lost, the files wait in CSV_DIRECTORY",
		}
	case errors.Is(err, context.DeadlineExceeded):
		return &unreachable{
			Cause: causeBroker, Text: "the broker cannot be reached",
			Do: "is it running, and is NATS_URL right? Start it, or mend the network in between; nothing is lost, the files wait in CSV_DIRECTORY",
		}
	default:
		return &unreachable{Cause: causeBroker, Text: "the broker cannot be reached", Do: "check NATS_URL, NATS_CREDS and NATS_CA", err: err}
	}
}

// with runs a command with a connection to the broker. It ends at once when the broker says that its user may not do that;
// otherwise an answer would be waited for in vain.
func with(envFile *string, f func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		conn, err := reach(cmd.Context(), *envFile)
		if err != nil {
			return err
		}
		defer conn.Close()
		ctx, cancel := context.WithCancelCause(cmd.Context())
		defer cancel(nil)
		conn.NC.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if errors.Is(err, nats.ErrPermissionViolation) {
				cancel(errNotAllowed)
			}
		})
		err = f(ctx, conn, cmd, args)
		if err != nil && errors.Is(context.Cause(ctx), errNotAllowed) {
			return errNotAllowed
		}
		return err
	}
}

// errNotAllowed tells what to do about a command that the broker's user has no right to.
var errNotAllowed = errors.New("the broker does not let this user give that order: call the command with the operator's file in NATS_CREDS")

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

// ago shows how long something has lasted, in the two largest units.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		if minutes := int(d.Minutes()) % 60; minutes > 0 {
			return fmt.Sprintf("%d h %d min", int(d.Hours()), minutes)
		}
		return fmt.Sprintf("%d h", int(d.Hours()))
	default:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	}
}

// count shows a number of things: 1 file, 2 files.
func count[N int | int64 | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// short shows the beginning of an id, enough to name it by.
func short(id string) string { return id[:min(len(id), 12)] }

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
	return time.Time{}, misused("%q is no time: use 2024-06-17 14:30, 2024-06-17T14:30:00Z, or how long ago, such as 90m", text)
}
