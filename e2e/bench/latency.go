//go:build unix

package bench

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"time"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/boborow"
)

// single drops files one after another, each once the previous one is confirmed. It measures from the moment at which
// a file is completely there to the end of the last call to AtHoc that carries one of its rows.
func (b *bench) single(ctx context.Context, s *stack) error {
	w := workload{files: b.LatencyFiles, rowsPerFile: latencyRows, workers: b.Workers, now: time.Now(), rng: newRand()}
	expected := newWant(b.Workers + 1)
	dropped := make([]time.Time, b.LatencyFiles)
	var moved []time.Duration
	for i := range b.LatencyFiles {
		name := fmt.Sprintf("single-%05d.csv", i)

		err := writeFile(s.path("outside", name), func(out *bufio.Writer) {
			_, _ = out.WriteString(boborow.Header + "\n") // the first error sticks, and Flush returns it
			for j := range latencyRows {
				w.writeRow(out, i*latencyRows+j, i)
			}
		})
		if err != nil {
			return err
		}

		if err := expected.read(s.path("outside", name)); err != nil {
			return err
		}

		dropped[i] = time.Now()

		if err := s.drop(name); err != nil {
			return err
		}

		if err := s.awaitGone(ctx, readyWithin, []string{name}); err != nil {
			return err
		}

		moved = append(moved, time.Since(dropped[i]))
	}

	answered, err := s.answers(ctx)
	if err != nil {
		return err
	}

	var took []time.Duration
	for i, at := range dropped {
		last := time.Time{}
		for j := range latencyRows {
			user := expected.users[employeeOf(i*latencyRows+j)]
			end, sent := answered[user]
			if !sent {
				return fmt.Errorf("file %d is confirmed, but AtHoc was not sent user %s", i, user)
			}

			if end.After(last) {
				last = end
			}
		}

		took = append(took, last.Sub(at))
	}

	b.addLatency(s, took, moved)

	return s.check(ctx, expected)
}

// answers returns, by user, when AtHoc answered the first call in which it took the user's value.
func (s *stack) answers(ctx context.Context) (map[string]time.Time, error) {
	var calls []sim.Call
	if err := s.ask(ctx, "calls?limit=0&endpoint="+sim.EndpointUpdate, &calls); err != nil {
		return nil, err
	}

	first := map[string]time.Time{}
	for _, c := range calls {
		for _, u := range c.Users {
			if _, known := first[u.LoginID]; !known && u.Outcome == sim.OutcomeUpdated {
				first[u.LoginID] = time.Unix(0, c.Finished)
			}
		}
	}

	return first, nil
}

func (b *bench) addLatency(s *stack, took, moved []time.Duration) {
	slices.Sort(took)
	slices.Sort(moved)

	section := fmt.Sprintf("From a file's last byte to AtHoc's answer, %d files one after another, SETTLE_TIME %s", len(took), settleTime)
	add := func(what string, d time.Duration, targets ...target) {
		b.add(Figure{Section: section, Where: string(s.topology), What: what, Value: d.Seconds(), Unit: "s"}, targets...)
	}
	above := func(seconds float64) target {
		return below(settleTime.Seconds()+seconds, fmt.Sprintf("below %.1f s", settleTime.Seconds()+seconds))
	}
	median, nearly := percentile(took, 0.5), percentile(took, 0.99)
	add("median", median, above(wantMedian))
	add("99th percentile", nearly, above(wantNearly))
	add("median, without SETTLE_TIME", median-settleTime)
	add("99th percentile, without SETTLE_TIME", nearly-settleTime)
	add("longest", took[len(took)-1])
	add("until the file has left the directory, median", percentile(moved, 0.5))
}
