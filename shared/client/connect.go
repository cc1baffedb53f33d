// Package client connects commands and the console to the services: over the broker of NATS_URL, or over the broker
// inside the all-in-one program that uses the same data directory.
package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/config"
	"bobosync/shared/disk"
	"bobosync/shared/logging"
	"bobosync/shared/observe"
	"bobosync/shared/program"
	"bobosync/shared/verdict"
)

// ConnectTimeout is how long a command tries to reach the broker.
const ConnectTimeout = 5 * time.Second

// insideRoom is the free space, in bytes, below which the broker inside bobosync run does not start.
const insideRoom = 1 << 20

// littleRoom is the free space, in bytes, below which it cannot make all streams.
const littleRoom = 16 << 20

// Settings are the settings that commands and the console need.
type Settings struct {
	Broker config.Broker
	Data   config.Data
}

// Validate implements config.Validator.
func (s *Settings) Validate() error { return s.Broker.Validate() }

// Connect tries to reach the broker for the given time. Its error is a *verdict.Unreachable, except for faults of the
// program itself.
func (s Settings) Connect(ctx context.Context, wait time.Duration) (*bus.Conn, error) {
	inside := s.Broker.URL == ""
	if inside {
		address, err := os.ReadFile(filepath.Join(s.Data.Directory, AddressFile))
		if err != nil {
			return nil, noAddress(err)
		}

		s.Broker.URL = strings.TrimSpace(string(address))
	}

	log, _, err := logging.New(io.Discard, "bobosync", config.Log{Level: "ERROR", Format: "json"})
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()

	conn, err := bus.Connect(ctx, program.BusConfig("operator", s.Broker, log))
	if err == nil {
		return conn, nil
	}

	why := whyUnreachable(err, inside)
	if inside && why.Cause != verdict.CauseNotAllowed {
		why = cmp.Or(s.noRoom(insideRoom), why)
	}

	return nil, why
}

// noRoom reports that the disk of the broker inside has fewer than least bytes free, or can hold no more files; nil
// otherwise.
func (s Settings) noRoom(least uint64) *verdict.Unreachable {
	switch free, err := disk.Free(s.Data.Directory); {
	case err == nil && free < least:
		return verdict.InsideFull(fmt.Sprintf("%d MiB are left", free>>20))
	case disk.NoFiles(s.Data.Directory):
		return verdict.InsideFull(verdict.NoFilesLeft)
	}

	return nil
}

func noAddress(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &verdict.Unreachable{
			Cause: verdict.CauseNotAllowed, Text: "the address of the broker inside bobosync may not be read",
			Do: "run the command as the user that bobosync runs as, or as root", Err: err,
		}
	}

	return &verdict.Unreachable{
		Cause: verdict.CauseBroker, Text: "no broker to ask: NATS_URL is not set, and no bobosync run has left its address in DATA_DIRECTORY",
		Do: "start bobosync run, or set NATS_URL to the broker's address, or run the command where the .env file of the services is (or name it with --env)", Err: err,
	}
}

// whyUnreachable explains a connection error in words; inside means that the broker is the one inside bobosync run.
func whyUnreachable(err error, inside bool) *verdict.Unreachable {
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return &verdict.Unreachable{
			Cause: verdict.CauseNotAllowed, Text: "the broker refuses the login",
			Do: "check the name and password in NATS_URL, or the file that NATS_CREDS names", Err: err,
		}
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		strings.Contains(err.Error(), "JetStream does not answer"):
		return observe.NoJetStream()
	case errors.Is(err, context.DeadlineExceeded) && inside:
		return &verdict.Unreachable{
			Cause: verdict.CauseBroker, Text: "the broker inside bobosync run cannot be reached",
			Do: "is bobosync running? Start it; the end of its log says why it has stopped. Nothing is lost, the files wait in CSV_DIRECTORY",
		}
	case errors.Is(err, context.DeadlineExceeded):
		return &verdict.Unreachable{
			Cause: verdict.CauseBroker, Text: "the broker cannot be reached",
			Do: "is it running, and is NATS_URL right? Start it, or fix the network in between; nothing is lost, the files wait in CSV_DIRECTORY",
		}
	default:
		return &verdict.Unreachable{Cause: verdict.CauseBroker, Text: "the broker cannot be reached", Do: "check NATS_URL, NATS_CREDS and NATS_CA", Err: err}
	}
}

// Whoami names the sender of an order, for the record.
func Whoami() string {
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
