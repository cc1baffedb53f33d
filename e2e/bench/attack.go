//go:build unix

package bench

// How much memory the services use in the worst cases that a file, AtHoc or another service's key can bring about,
// compared with the memory limits of their containers.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/boborow"
	"bobosync/shared/pause"
)

// PartAttack measures memory under attack.
const PartAttack = "attack"

// containerLimits are the memory limits of deploy/compose.yaml, in MiB.
var containerLimits = map[string]float64{"ingest": 128, "resolver": 128, "publisher": 128, "janitor": 128, brokerProcess: 512}

// The dimensions of the attacks.
const (
	inventedRows = 2   // for each row of the large file, so 2,000,000 by default; each names a different worker whom nobody knows
	longLine     = 256 // bytes for each row of the large file, so one line of 256 MB by default
	oddNames     = 8000
	// attackTime is how long AtHoc is hostile in each way, and the least time for which a hostile file is waited for.
	attackTime = 5 * time.Second
	// attackWithin is how long it may take until everything from a hostile file is settled, and after that until a
	// good file is confirmed.
	attackWithin = 15 * time.Minute
)

// trick is one attack.
type trick struct {
	name string
	play func(ctx context.Context, s *stack) error
}

// tricks returns all attacks; rows determines how large their files are.
func tricks(rows int) []trick {
	invented := inventedRows * rows

	all := []trick{
		{separated(int64(invented)) + " invented ids in a file", hostileFile(func(out *bufio.Writer) {
			at := time.Now().UTC().Add(-time.Minute)
			for i := range invented {
				fmt.Fprintln(out, boborow.New(true, fmt.Sprintf("X%08d", i), at))
			}
		})},
		{"rows that are none", hostileFile(func(out *bufio.Writer) { fill(out, "BON,\x1b[1m,,,,,\"\n", invented) })},
		{"one line without an end", hostileFile(func(out *bufio.Writer) { fill(out, strings.Repeat("x", longLine), rows) })},
		{"quotes that never end", hostileFile(func(out *bufio.Writer) { fill(out, "BON,\"x\n", 8*rows) })},
		{"8,000 odd names", manyNames},
		{"outcomes of 90,000,000 rows", inventedOutcomes},
	}
	for _, form := range []string{sim.BombGzip, sim.BombEndless, sim.BombDeep, sim.BombAttributes, sim.BombHeaders} {
		all = append(all, trick{"a bomb for an answer: " + form, hostileAtHoc(sim.Fault{Kind: sim.FaultBomb, Form: form})})
	}

	return append(all, trick{"lies for answers", hostileAtHoc(sim.Fault{Kind: sim.FaultLies})})
}

func fill(out *bufio.Writer, text string, n int) {
	for range n {
		_, _ = out.WriteString(text) // Flush returns the first error
	}
}

// hostileFile returns an attack that drops a file and waits until it has gone.
func hostileFile(write func(*bufio.Writer)) func(context.Context, *stack) error {
	return func(ctx context.Context, s *stack) error {
		const name = "hostile.csv"
		if err := writeFile(s.path("outside", name), write); err != nil {
			return err
		}

		if err := s.drop(name); err != nil {
			return err
		}

		return s.awaitGone(ctx, attackWithin, []string{name})
	}
}

// manyNames drops many names that lead to nothing readable, gives ingest the time to look at them, and removes them.
func manyNames(ctx context.Context, s *stack) error {
	var paths []string
	for i := range oddNames {
		path := s.path("in", fmt.Sprintf("\x1b[2J%s%d.csv", strings.Repeat("\u202e", 60), i))
		paths = append(paths, path)
		if err := os.Symlink("nowhere", path); err != nil {
			return err
		}
	}

	_ = pause.For(ctx, 2*attackTime)

	for _, path := range paths {
		if err := os.Remove(path); err != nil {
			return err
		}
	}

	return nil
}

// inventedOutcomes publishes what a publisher's key is allowed to publish: few bytes that represent many rows.
func inventedOutcomes(ctx context.Context, s *stack) error {
	conn, err := nats.Connect(s.broker)
	if err != nil {
		return err
	}
	defer conn.Close()

	for i := range 1000 {
		file := strings.Repeat(fmt.Sprintf("%08x", i), 8)
		if err := conn.Publish("bobo.acks", fmt.Appendf(nil, `{"v":1,"rows":[{"file":%q,"outcome":"applied","rows":"1-90000000"}]}`, file)); err != nil {
			return err
		}
	}

	err = conn.Flush()
	_ = pause.For(ctx, attackTime)

	return err
}

// hostileAtHoc returns an attack in which every call is answered in a hostile way, with bookings that make the
// publisher call.
func hostileAtHoc(f sim.Fault) func(context.Context, *stack) error {
	return func(ctx context.Context, s *stack) error {
		f.For = sim.Duration(attackTime)
		if err := s.fault(ctx, f); err != nil {
			return err
		}

		if err := s.tell(ctx, http.MethodPost, "revoke", nil); err != nil { // so that tokens are requested as well
			return err
		}

		name := fmt.Sprintf("calls-%d.csv", time.Now().UnixNano())

		err := writeFile(s.path("outside", name), func(out *bufio.Writer) {
			at := time.Now().UTC()
			for i := range 100 {
				fmt.Fprintln(out, boborow.New(true, employeeOf(i), at))
			}
		})
		if err == nil {
			err = s.drop(name)
		}

		if err != nil {
			return err
		}

		_ = pause.For(ctx, attackTime) // awaitGone checks ctx

		return s.awaitGone(ctx, attackWithin, []string{name})
	}
}

// attacks plays one trick after the other, and compares the peak memory of each process with the limit of its
// container.
func (b *bench) attacks(ctx context.Context) error {
	settings := map[string]string{
		"ATHOC_RATE_LIMIT": freeRate, "CLEANUP_INTERVAL": "1s", "ATHOC_TIMEOUT": "5s",
		"GOMEMLIMIT": fmt.Sprintf("%.0fMiB", containerLimits["ingest"]*4/5), // as program.SetMemoryLimits sets it in a container
	}

	return b.with(ctx, services, settings, func(s *stack) error {
		most, by := map[string]int64{}, map[string]string{}
		for _, t := range tricks(b.Rows) {
			b.note("attack: %s", t.name)

			used, err := s.most(func() error { return t.play(ctx, s) })
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}

			for name, bytes := range used {
				if bytes > most[name] {
					most[name], by[name] = bytes, t.name
				}
			}
		}

		const section = "peak memory under attack, beside the limits of deploy/compose.yaml"
		for _, name := range s.names() {
			if limit, known := containerLimits[name]; known {
				b.add(Figure{Section: section, Where: name, What: "the most by " + by[name], Value: float64(most[name]) / mebibyte, Unit: "MiB"},
					atMost(limit, fmt.Sprintf("at most %g", limit)))
			}
		}

		began := time.Now()

		if err := s.probe(ctx); err != nil {
			return fmt.Errorf("a good file after all that: %w", err)
		}

		b.add(Figure{Section: section, Where: string(services), What: "a good file after all that", Value: time.Since(began).Seconds(), Unit: "s"})

		return nil
	})
}

// sampled is how often the memory of processes is sampled: the system records no peak of a process's own memory.
const sampled = 20 * time.Millisecond

// most returns the peak of each process's own memory while do runs. Pages of files, such as bbolt's, do not count:
// the system takes them back when a container gets near its limit.
func (s *stack) most(do func() error) (map[string]int64, error) {
	most, done := map[string]int64{}, make(chan error, 1)
	go func() { done <- do() }()

	ticker := time.NewTicker(sampled)
	defer ticker.Stop()

	for {
		used, err := s.usage()
		for name, u := range used {
			most[name] = max(most[name], u.own)
		}

		select {
		case failure := <-done:
			return most, errors.Join(failure, err)
		case <-ticker.C:
		}
	}
}
