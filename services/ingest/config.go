package ingest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bobosync/shared/check"
	"bobosync/shared/config"
	"bobosync/shared/topology"
)

// Config holds the settings of ingest. Load it with config.Load.
type Config struct {
	// CSVDirectory is where BOBO puts its files. It must exist.
	CSVDirectory string `env:"CSV_DIRECTORY"`
	// Feeds are several such directories, each with a name, instead of CSVDirectory. They must exist, and none may
	// lie within another.
	Feeds Feeds `env:"FEEDS"`
	// ProcessedDirectory is where finished files go; it is created if it is missing.
	ProcessedDirectory string `env:"PROCESSED_DIRECTORY"`
	// FailedDirectory is where files go that are not text, or that have rows which AtHoc will never take or which
	// were withheld; it is created if it is missing.
	FailedDirectory string `env:"FAILED_FILES_DIRECTORY"`
	// Move makes ingest move finished files. If it is off, they stay in the input directory, and the ledger records
	// which ones are done.
	Move bool `env:"MOVE_PROCESSED_FILES, default=true"`
	// PollInterval is how often the input directory is listed, in addition to file-system events.
	PollInterval time.Duration `env:"POLL_INTERVAL, default=5s"`
	// SettleTime is how long a file must stay unchanged before it is taken.
	SettleTime time.Duration `env:"SETTLE_TIME, default=1s"`
	// LateAfter is how far the time up to which AtHoc is complete may lie in the past before duty data counts as
	// late.
	LateAfter time.Duration `env:"LATE_AFTER, default=2m"`
	// MaxFileSize is the most bytes that a file may have; a larger file is left where it is.
	MaxFileSize int64 `env:"MAX_FILE_SIZE, default=1073741824"`
	// Zone is the zone of the wall clock in the files.
	Zone config.Zone `env:"BOBO_TIMEZONE, default=local"`
	// MaxClockSkew is how far in the future an event may lie.
	MaxClockSkew time.Duration `env:"MAX_CLOCK_SKEW, default=15m"`

	// Lifetime bounds which finished files are read again after a state store was lost: older bookings do not count
	// any more.
	Lifetime config.Lifetime
	// Data says where the ledger is: the file ingest.db.
	Data config.Data

	Broker config.Broker
	// Calls is only needed to create the streams, which the first service to start does.
	Calls config.Calls
	Log   config.Log
}

// Common returns the settings that every program needs.
func (c *Config) Common() (config.Broker, config.Log) { return c.Broker, c.Log }

// Checked returns the settings in the form in which they are checked.
func (c *Config) Checked() check.Settings {
	var feeds []check.Feed
	for _, in := range c.InputDirectories() {
		feeds = append(feeds, check.Feed(in))
	}

	return check.Settings{
		Service: topology.Ingest, Broker: c.Broker, Calls: c.Calls, Log: c.Log, Data: &c.Data, BoboZone: &c.Zone,
		Files: &check.Files{Feeds: feeds, Processed: c.ProcessedDirectory, Failed: c.FailedDirectory, Move: c.Move},
	}
}

// Validate reports everything that is wrong, by the names of the variables. It does not access the disk.
func (c *Config) Validate() error {
	required := map[string]bool{}
	if c.Move {
		required["PROCESSED_DIRECTORY"] = c.ProcessedDirectory != ""
		required["FAILED_FILES_DIRECTORY"] = c.FailedDirectory != ""
	}

	errs := []error{
		config.Require(required), c.validateInputs(),
		config.Positive("POLL_INTERVAL", c.PollInterval),
		config.Positive("SETTLE_TIME", c.SettleTime),
		config.Positive("LATE_AFTER", c.LateAfter),
		c.Broker.Validate(), c.Calls.Validate(), c.Lifetime.Validate(), c.Log.Validate(),
	}
	if c.PollInterval > 0 && c.PollInterval < quickestPoll {
		errs = append(errs, fmt.Errorf("POLL_INTERVAL: must be at least %s", quickestPoll))
	}

	if c.LateAfter > latest {
		errs = append(errs, fmt.Errorf("LATE_AFTER: must be %s at most: what waits for longer is not fresh", latest))
	}

	if c.MaxClockSkew < 0 {
		errs = append(errs, errors.New("MAX_CLOCK_SKEW: must be 0s or more"))
	}

	if c.MaxFileSize < 1 {
		errs = append(errs, errors.New("MAX_FILE_SIZE: must be 1 byte or more"))
	}

	return errors.Join(errs...)
}

const (
	// quickestPoll is the shortest POLL_INTERVAL: it leaves time to list a directory and do something else.
	quickestPoll = 10 * time.Millisecond
	// latest is the largest LATE_AFTER.
	latest = 24 * time.Hour
)

// LedgerPath returns the path of the ledger.
func (c Config) LedgerPath() string { return filepath.Join(c.Data.Directory, "ingest.db") }

// directory is one of the configured directories.
type directory struct {
	variable, path string
	input          bool
}

func (c Config) directories() (dirs []directory) {
	for _, in := range c.InputDirectories() {
		dirs = append(dirs, directory{in.Name, in.Dir, true})
	}

	for _, d := range []directory{{"PROCESSED_DIRECTORY", c.ProcessedDirectory, false}, {"FAILED_FILES_DIRECTORY", c.FailedDirectory, false}} {
		if d.path != "" {
			dirs = append(dirs, d)
		}
	}

	return dirs
}

// prepare creates the directories that may be created and checks all of them. Its errors name variable and path.
func (c Config) prepare() error {
	var errs []error
	for _, d := range c.directories() {
		if !d.input {
			if err := os.MkdirAll(d.path, 0o750); err != nil {
				errs = append(errs, fmt.Errorf("%s: cannot make the directory %s: %w", d.variable, d.path, err))
				continue
			}
		}

		// Files are renamed out of the input directory, so it must be writable unless they stay.
		errs = append(errs, d.check(c.Move))
	}

	if err := errors.Join(errs...); err != nil {
		return err
	}

	return errors.Join(c.distinct(), c.apartOnDisk())
}

func (d directory) check(write bool) error {
	info, err := os.Stat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: the directory %s does not exist: make it, or name another one", d.variable, d.path)
	case err != nil:
		return fmt.Errorf("%s: cannot look at %s: %w", d.variable, d.path, err)
	case !info.IsDir():
		return fmt.Errorf("%s: %s is not a directory", d.variable, d.path)
	}

	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("%s: the directory %s cannot be read, give this program the right to: %w", d.variable, d.path, err)
	}

	if !write {
		return nil
	}

	for _, e := range entries { // left by a process that was killed before it removed them
		if strings.HasPrefix(e.Name(), probe) {
			_ = os.Remove(filepath.Join(d.path, e.Name())) // the check below reports what is wrong
		}
	}

	file, err := os.CreateTemp(d.path, probe+"*")
	if err != nil {
		return fmt.Errorf("%s: the directory %s cannot be written to, give this program the right to: %w", d.variable, d.path, err)
	}

	if err := errors.Join(file.Close(), os.Remove(file.Name())); err != nil {
		return fmt.Errorf("%s: the directory %s cannot be written to: %w", d.variable, d.path, err)
	}

	return nil
}

// probe is the prefix of the names of files that test whether a directory can be written to.
const probe = ".bobosync-probe-"

// distinct returns an error for directories that are the same: finished files would be found again.
func (c Config) distinct() error {
	dirs := c.directories()
	var errs []error
	for i, a := range dirs {
		for _, b := range dirs[i+1:] {
			if a.input && b.input { // see apartOnDisk
				continue
			}

			infoA, err1 := os.Stat(a.path)
			infoB, err2 := os.Stat(b.path)
			if err := errors.Join(err1, err2); err != nil {
				errs = append(errs, err)
			} else if os.SameFile(infoA, infoB) {
				errs = append(errs, fmt.Errorf("%s and %s are the same directory, %s: they must differ", a.variable, b.variable, a.path))
			}
		}
	}

	return errors.Join(errs...)
}
