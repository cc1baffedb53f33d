//go:build unix

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/boborow"
	"bobosync/shared/bustest/freeport"
)

// topology is how the pipeline is run.
type topology string

const (
	allInOne topology = "all in one"    // bobosync run, with the broker inside
	services topology = "four services" // and a broker, each a separate process
)

// Names of the processes that do not belong to the pipeline.
const (
	brokerProcess    = "nats-server"
	simulatorProcess = "athocsim"
)

const (
	// pollInterval is how often to check whether a file has gone.
	pollInterval = 2 * time.Millisecond
	// readyWithin is how long it may take from the start until the first file is confirmed.
	readyWithin = 60 * time.Second
)

// stack is a running pipeline with the simulator, in a directory of its own.
type stack struct {
	topology topology
	dir      string
	users    int // how many the simulator has: the workers and, last, the probe
	running  []*process
	base     string // the simulator's address
	broker   string // the broker's address, if it is a separate process
	client   http.Client
}

// stackConfig says what to start.
type stackConfig struct {
	topology topology
	dir      string // created by startStack
	bin      string
	workers  int
	settings map[string]string // environment variables of all services
}

// startStack starts everything and waits until a first file is confirmed, so that the mapping is known and all
// connections are up. The caller must call stop, even after an error.
func startStack(ctx context.Context, c stackConfig) (*stack, error) {
	s := &stack{topology: c.topology, dir: c.dir, users: c.workers + 1, client: http.Client{Timeout: 30 * time.Second}}
	for _, d := range []string{"in", "outside", "logs"} {
		if err := os.MkdirAll(s.path(d), 0o700); err != nil {
			return s, err
		}
	}

	if err := s.startSimulator(ctx, c.bin); err != nil {
		return s, err
	}

	env := []string{
		"CSV_DIRECTORY=" + s.path("in"), "PROCESSED_DIRECTORY=" + s.path("processed"),
		"FAILED_FILES_DIRECTORY=" + s.path("failed"), "DATA_DIRECTORY=" + s.path("data"),
		"BOBO_TIMEZONE=UTC", "ATHOC_TIMEZONE=UTC", "LOG_FORMAT=json",
	}
	for k, v := range c.settings {
		env = append(env, k+"="+v)
	}

	if err := s.startPipeline(c.bin, env); err != nil {
		return s, err
	}

	return s, s.probe(ctx)
}

func (s *stack) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// start starts a program. Of this program's environment it sees only what every program needs.
func (s *stack) start(name, path string, env []string, args ...string) error {
	env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir}, env...)

	p, err := startProcess(name, path, s.path("logs", name+".log"), env, args...)
	if err == nil {
		s.running = append(s.running, p)
	}

	return err
}

func (s *stack) startSimulator(ctx context.Context, bin string) error {
	addr := s.path("athoc.addr")

	err := s.start(simulatorProcess, filepath.Join(bin, "athocsim"), nil, "-listen", "127.0.0.1:0", "-addr-file", addr,
		"-env-file", s.path("athoc.env"), "-users", fmt.Sprint(s.users), "-log-level", "WARN")
	if err != nil {
		return err
	}

	err = s.await(ctx, readyWithin, "the simulator to listen", func() (bool, error) {
		text, err := os.ReadFile(addr)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}

		s.base = "http://" + strings.TrimSpace(string(text)) + "/sim/"

		return true, err
	})

	return err
}

func (s *stack) startPipeline(bin string, env []string) error {
	settings := s.path("athoc.env")
	if s.topology == allInOne {
		return s.start("bobosync", filepath.Join(bin, "bobosync"), env, "run", "--env", settings)
	}

	port, err := freeport.Find()
	if err != nil {
		return err
	}

	if err := s.start(brokerProcess, filepath.Join(bin, "natsd"), nil, "-store", s.path("jetstream"), "-port", fmt.Sprint(port)); err != nil {
		return err
	}

	s.broker = fmt.Sprintf("nats://127.0.0.1:%d", port)
	env = append(env, "NATS_URL="+s.broker)
	for _, name := range []string{"ingest", "resolver", "publisher", "janitor"} {
		if err := s.start(name, filepath.Join(bin, name), env, "-env", settings); err != nil {
			return err
		}
	}

	return nil
}

// probe drops a file with a single row, for a worker who has no other rows, and waits until it is confirmed.
func (s *stack) probe(ctx context.Context) error {
	employee := employeeOf(s.users - 1)

	err := writeFile(s.path("outside", "probe.csv"), func(out *bufio.Writer) {
		fmt.Fprintf(out, "%s\n%s\n", boborow.Header, boborow.New(false, employee, time.Now().Add(-time.Minute).UTC()))
	})
	if err != nil {
		return err
	}

	if err := s.drop("probe.csv"); err != nil {
		return err
	}

	return s.awaitGone(ctx, readyWithin, []string{"probe.csv"})
}

// drop moves a file from the directory outside into the input directory.
func (s *stack) drop(name string) error {
	return os.Rename(s.path("outside", name), s.path("in", name))
}

// awaitGone waits until the files have left the input directory.
func (s *stack) awaitGone(ctx context.Context, within time.Duration, names []string) error {
	left := names

	return s.await(ctx, within, "the files to be confirmed", func() (bool, error) {
		for len(left) > 0 {
			_, err := os.Lstat(s.path("in", left[0]))
			if err == nil {
				return false, nil
			}

			if !errors.Is(err, fs.ErrNotExist) {
				return false, err
			}

			left = left[1:]
		}

		return true, nil
	})
}

// await polls until a condition holds. It also fails if a process ends.
func (s *stack) await(ctx context.Context, within time.Duration, what string, holds func() (bool, error)) error {
	deadline := time.Now().Add(within)

	tick := time.NewTicker(pollInterval)
	defer tick.Stop()

	for {
		done, err := holds()
		if err != nil || done {
			return err
		}

		for _, p := range s.running {
			if err := p.died(); err != nil {
				return fmt.Errorf("wait for %s: %w", what, err)
			}
		}

		if time.Now().After(deadline) {
			return fmt.Errorf("%s: waited %s in vain for %s; see %s", s.topology, within, what, s.path("logs"))
		}

		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// arrived checks that the files are among the processed ones, and that none has failed.
func (s *stack) arrived(names []string) error {
	for _, n := range names {
		if _, err := os.Lstat(s.path("processed", n)); err != nil {
			return fmt.Errorf("a file left the input directory and did not arrive: %w", err)
		}
	}

	failed, err := os.ReadDir(s.path("failed"))
	if err == nil && len(failed) > 0 {
		err = fmt.Errorf("%d files are among the failed ones, such as %s", len(failed), failed[0].Name())
	}

	return err
}

// ask reads one of the simulator's pages.
func (s *stack) ask(ctx context.Context, page string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+page, http.NoBody)
	if err != nil {
		return err
	}

	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the simulator: %w", err)
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the simulator for %s: it says %s", page, resp.Status)
	}

	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("ask the simulator for %s: %w", page, err)
	}

	_, err = io.Copy(io.Discard, resp.Body)

	return err
}

// sent counts the update calls so far and the users in them.
func (s *stack) sent(ctx context.Context) (calls, users int, err error) {
	var st sim.Stats
	if err := s.ask(ctx, "stats", &st); err != nil {
		return 0, 0, err
	}

	for _, n := range st.Outcomes {
		users += n
	}

	return st.Endpoints[sim.EndpointUpdate].Calls, users, nil
}

// check compares what AtHoc holds with what it should.
func (s *stack) check(ctx context.Context, w *want) error {
	state := map[string]string{}
	if err := s.ask(ctx, "state", &state); err != nil {
		return err
	}

	return w.compare(state)
}

// usage returns the usage of each process, by name.
func (s *stack) usage() (map[string]usage, error) {
	all := map[string]usage{}
	for _, p := range s.running {
		u, err := usageOf(p.pid())
		if err != nil {
			return nil, err
		}

		all[p.name] = u
	}

	return all, nil
}

// names returns the names of the processes, in the order in which they were started.
func (s *stack) names() []string {
	var names []string
	for _, p := range s.running {
		names = append(names, p.name)
	}

	return names
}

// stop ends all processes; those that need others end first.
func (s *stack) stop() error {
	var errs []error
	first := func(p *process) int {
		switch p.name {
		case simulatorProcess:
			return 2
		case brokerProcess:
			return 1
		default:
			return 0
		}
	}
	slices.SortStableFunc(s.running, func(a, b *process) int { return first(a) - first(b) })

	for _, p := range s.running {
		errs = append(errs, p.stop())
	}

	return errors.Join(errs...)
}
