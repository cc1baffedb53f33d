//go:build unix

// How fresh AtHoc is kept: under steady streams, behind a large file, and after trouble.

package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"time"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/boborow"
	"bobosync/shared/pause"
)

// The parts that measure how fresh AtHoc is kept.
const (
	PartSteady   = "steady"
	PartBehind   = "behind"
	PartRecovery = "recovery"
	PartTooLarge = "413"
	PartSlow     = "slow"
	PartCulprit  = "culprit"
	PartMapping  = "mapping"
)

// latencyOfAtHoc is how long each call to AtHoc takes in these parts.
const latencyOfAtHoc = 50 * time.Millisecond

// stream is a steady stream of files.
type stream struct{ files, rows int } // files a second, and rows in each

// What is measured, and the targets.
var streams = []stream{{1, 10}, {5, 10}, {10, 50}}

const (
	wantSteadyMedian = 1.6 // seconds
	wantSteadyNearly = 2.2
	wantBehind       = 3
	wantRecovery     = 2
	wantFullSize     = 2 // calls for 1,400 users
	wantSlow         = 1.5
	wantOthers       = 30
)

// part is a part of the benchmark.
type part struct {
	name string
	run  func(context.Context) error
}

// freshParts are the parts of this file.
func (b *bench) freshParts() []part {
	return []part{
		{PartSteady, b.steady}, {PartBehind, b.behind}, {PartRecovery, b.recovery}, {PartTooLarge, b.tooLarge}, {PartSlow, b.slowAtHoc},
		{PartCulprit, b.culprit}, {PartMapping, b.mappings}, {PartAttack, b.attacks},
	}
}

// tell sends a request to the simulator's admin pages.
func (s *stack) tell(ctx context.Context, method, page string, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}

	req, err := http.NewRequestWithContext(ctx, method, s.base+page, bytes.NewReader(data))
	if err != nil {
		return err
	}

	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("tell the simulator: %w", err)
	}
	defer resp.Body.Close()

	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("tell the simulator %s: it says %s", page, resp.Status)
	}

	return nil
}

func (s *stack) fault(ctx context.Context, f sim.Fault) error {
	return s.tell(ctx, http.MethodPost, "faults", f)
}

func (s *stack) latency(ctx context.Context, fixed, perUser time.Duration) error {
	return s.tell(ctx, http.MethodPatch, "settings", map[string]any{"latency": map[string]any{"fixed": fixed.String(), "per_user": perUser.String()}})
}

// calm starts a stack with the default settings and the given ones, with an AtHoc of ordinary speed.
func (b *bench) calm(ctx context.Context, settings map[string]string, do func(*stack) error) error {
	return b.with(ctx, allInOne, settings, func(s *stack) error {
		if err := s.latency(ctx, latencyOfAtHoc, 0); err != nil {
			return err
		}
		return do(s)
	})
}

// series is a series of files, each about different workers, so that AtHoc's answers can be attributed to files.
type series struct {
	*stack
	w       workload
	want    *want
	files   int
	next    int // the next file's first worker
	dropped map[string]time.Time
	workers map[string][]string // usernames, by file
}

func (b *bench) series(s *stack) *series {
	return &series{
		stack: s, w: workload{files: 4000, workers: b.Workers, now: time.Now(), rng: newRand()}, want: newWant(b.Workers + 1),
		dropped: map[string]time.Time{}, workers: map[string][]string{},
	}
}

// dropFile writes a file of so many rows, each for a different worker, and drops it.
func (r *series) dropFile(rows int) (name string, err error) {
	name = fmt.Sprintf("series-%05d.csv", r.files)

	err = writeFile(r.path("outside", name), func(out *bufio.Writer) {
		_, _ = out.WriteString(boborow.Header + "\n") // the first error sticks, and Flush returns it
		for range rows {
			r.w.writeRow(out, r.next, r.files)
			r.workers[name] = append(r.workers[name], r.want.users[employeeOf(r.next)])
			r.next++
		}
	})
	if err == nil {
		err = r.want.read(r.path("outside", name))
	}

	if err != nil {
		return "", err
	}

	r.files++
	r.dropped[name] = time.Now()

	return name, r.drop(name)
}

// took returns, sorted, how long it took from the drop of each file until AtHoc had answered for all of its workers.
func (r *series) took(ctx context.Context, names []string) ([]time.Duration, error) {
	answered, err := r.answers(ctx)
	if err != nil {
		return nil, err
	}

	var all []time.Duration
	for _, name := range names {
		var last time.Time
		for _, user := range r.workers[name] {
			at, sent := answered[user]
			if !sent {
				return nil, fmt.Errorf("AtHoc was not sent user %s of %s", user, name)
			}

			if at.After(last) {
				last = at
			}
		}

		all = append(all, last.Sub(r.dropped[name]))
	}

	slices.Sort(all)

	return all, nil
}

// steady drops files at a steady rate.
func (b *bench) steady(ctx context.Context) error {
	return b.calm(ctx, nil, func(s *stack) error {
		r := b.series(s)
		for _, st := range streams {
			if err := b.oneStream(ctx, r, st); err != nil {
				return err
			}
		}

		return s.check(ctx, r.want)
	})
}

func (b *bench) oneStream(ctx context.Context, r *series, st stream) error {
	n := min(st.files*int(b.Stream/time.Second), (b.Workers/len(streams))/st.rows)
	section := fmt.Sprintf("Steady: %d files a second of %d rows", st.files, st.rows)
	b.note("%s, %d files", section, n)

	callsBefore, usersBefore, err := r.sent(ctx)
	if err != nil {
		return err
	}

	var names []string

	tick := time.NewTicker(time.Second / time.Duration(st.files))
	defer tick.Stop()

	for range n {
		name, err := r.dropFile(st.rows)
		if err != nil {
			return err
		}

		names = append(names, name)

		<-tick.C
	}

	if err := r.awaitGone(ctx, confirmedWithin, names); err != nil {
		return err
	}

	took, err := r.took(ctx, names)
	if err != nil {
		return err
	}

	calls, users, err := r.sent(ctx)
	if err != nil {
		return err
	}

	where := string(r.topology)
	b.add(Figure{Section: section, Where: where, What: "drop to answered, median", Value: percentile(took, 0.5).Seconds(), Unit: "s"},
		atMost(wantSteadyMedian, "at most 1.6 s"))
	b.add(Figure{Section: section, Where: where, What: "drop to answered, 99th percentile", Value: percentile(took, 0.99).Seconds(), Unit: "s"},
		atMost(wantSteadyNearly, "at most 2.2 s"))
	b.add(Figure{Section: section, Where: where, What: "calls to AtHoc", Value: float64(calls - callsBefore)})
	b.add(Figure{Section: section, Where: where, What: "users sent, for each row", Value: float64(users-usersBefore) / float64(n*st.rows)})

	return nil
}

// behind drops a small file a few seconds after a large one.
func (b *bench) behind(ctx context.Context) error {
	section := fmt.Sprintf("A small file 3 s after one of %s rows", separated(int64(b.Rows)))
	b.note("%s", section)

	return b.calm(ctx, map[string]string{"ATHOC_RATE_LIMIT": freeRate}, func(s *stack) error {
		r := b.series(s)
		r.next = b.Workers - latencyRows
		large := workload{files: 1, rowsPerFile: b.Rows, workers: r.next, name: "bulk", now: time.Now(), rng: newRand()}

		names, err := large.write(s.path("outside"))
		if err != nil {
			return err
		}

		if err := s.drop(names[0]); err != nil {
			return err
		}

		if err := pause.For(ctx, 3*time.Second); err != nil {
			return err
		}

		small, err := r.dropFile(latencyRows)
		if err != nil {
			return err
		}

		if err := s.awaitGone(ctx, confirmedWithin, []string{small, names[0]}); err != nil {
			return err
		}

		took, err := r.took(ctx, []string{small})
		if err != nil {
			return err
		}

		b.add(Figure{Section: section, Where: string(s.topology), What: "drop to answered", Value: took[0].Seconds(), Unit: "s"},
			atMost(wantBehind, "at most 3 s"))

		return nil
	})
}

// recovery measures how long after the end of an outage AtHoc has taken a file's updates.
func (b *bench) recovery(ctx context.Context) error {
	return b.calm(ctx, nil, func(s *stack) error {
		r := b.series(s)
		for _, outage := range b.Outages {
			section := fmt.Sprintf("Recovery: 503 for %s", outage)
			b.note("%s", section)

			ended := time.Now().Add(outage)
			if err := s.fault(ctx, sim.Fault{Kind: sim.FaultStatus, Status: http.StatusServiceUnavailable, For: sim.Duration(outage)}); err != nil {
				return err
			}

			name, err := r.dropFile(latencyRows)
			if err != nil {
				return err
			}

			if err := s.awaitGone(ctx, outage+confirmedWithin, []string{name}); err != nil {
				return err
			}

			took, err := r.took(ctx, []string{name})
			if err != nil {
				return err
			}

			b.add(Figure{Section: section, Where: string(s.topology), What: "from its end to the update taken", Unit: "s",
				Value: r.dropped[name].Add(took[0]).Sub(ended).Seconds()}, atMost(wantRecovery, "at most 2 s"))
		}

		return s.check(ctx, r.want)
	})
}

// tooLarge has AtHoc answer 413 for three seconds, and counts the calls for a file meanwhile and half a minute later,
// when calls should have their full size again.
func (b *bench) tooLarge(ctx context.Context) error {
	const section = "413 for 3 s"
	users := min(1400, b.Workers/2)
	b.note("%s", section)

	return b.calm(ctx, nil, func(s *stack) error {
		r := b.series(s)

		err := s.fault(ctx, sim.Fault{Kind: sim.FaultStatus, Status: http.StatusRequestEntityTooLarge, Scope: []string{sim.EndpointUpdate}, For: sim.Duration(3 * time.Second)})
		if err != nil {
			return err
		}

		for _, when := range []string{"during it", "half a minute after it"} {
			before, _, err := s.sent(ctx)
			if err != nil {
				return err
			}

			name, err := r.dropFile(users)
			if err != nil {
				return err
			}

			if err := s.awaitGone(ctx, confirmedWithin, []string{name}); err != nil {
				return err
			}

			calls, _, err := s.sent(ctx)
			if err != nil {
				return err
			}

			took, err := r.took(ctx, []string{name})
			if err != nil {
				return fmt.Errorf("%s: %w", when, err)
			}

			var wanted []target
			if when != "during it" {
				wanted = []target{atMost(wantFullSize, "at most 2")}
			}

			b.add(Figure{Section: section, Where: string(s.topology), What: fmt.Sprintf("calls for %d users, %s", users, when), Value: float64(calls - before)}, wanted...)
			b.add(Figure{Section: section, Where: string(s.topology), What: "drop to answered, " + when, Value: took[0].Seconds(), Unit: "s"})

			if err := pause.For(ctx, time.Until(r.dropped[name].Add(33*time.Second))); err != nil {
				return err
			}
		}

		return s.arrived(nil)
	})
}

// slowAtHoc makes a full call take AtHoc longer than ATHOC_TIMEOUT.
func (b *bench) slowAtHoc(ctx context.Context) error {
	const perUser, users = 40 * time.Millisecond, 600
	section := fmt.Sprintf("AtHoc takes %s for each user, ATHOC_TIMEOUT 6 s, BATCH_SIZE 300, %d users", perUser, min(users, b.Workers))
	b.note("%s", section)

	return b.calm(ctx, map[string]string{"ATHOC_TIMEOUT": "6s", "BATCH_SIZE": "300"}, func(s *stack) error {
		if err := s.latency(ctx, latencyOfAtHoc, perUser); err != nil {
			return err
		}

		r := b.series(s)

		name, err := r.dropFile(min(users, b.Workers))
		if err != nil {
			return err
		}

		if err := s.awaitGone(ctx, confirmedWithin, []string{name}); err != nil {
			return err
		}

		took, err := r.took(ctx, []string{name})
		if err != nil {
			return err
		}

		ideal := time.Duration(min(users, b.Workers)) * perUser
		b.add(Figure{Section: section, Where: string(s.topology), What: "drop to answered", Value: took[0].Seconds(), Unit: "s"})
		b.add(Figure{Section: section, Where: string(s.topology), What: fmt.Sprintf("as a multiple of the ideal of %s", ideal), Value: took[0].Seconds() / ideal.Seconds()},
			atMost(wantSlow, "at most 1.5"))

		return s.check(ctx, r.want)
	})
}

// culprit makes AtHoc fail every call that carries a certain user.
func (b *bench) culprit(ctx context.Context) error {
	const section = "One of 60 users makes each call fail that carries it"
	b.note("%s", section)

	return b.calm(ctx, nil, func(s *stack) error {
		r := b.series(s)
		r.next = min(1, b.Workers-60)
		bad := r.want.users[employeeOf(r.next)]

		err := s.fault(ctx, sim.Fault{Kind: sim.FaultStatus, Status: http.StatusInternalServerError, Scope: []string{sim.EndpointUpdate}, Users: []string{bad}})
		if err != nil {
			return err
		}

		name, err := r.dropFile(60)
		if err != nil {
			return err
		}

		r.workers[name] = slices.DeleteFunc(r.workers[name], func(user string) bool { return user == bad })
		var took []time.Duration

		err = s.await(ctx, confirmedWithin, "the others to be confirmed", func() (bool, error) {
			var missing error
			took, missing = r.took(ctx, []string{name})
			return missing == nil, pause.For(ctx, 100*time.Millisecond)
		})
		if err != nil {
			return err
		}

		b.add(Figure{Section: section, Where: string(s.topology), What: "drop to answered, the others", Value: took[0].Seconds(), Unit: "s"},
			atMost(wantOthers, "at most 30 s"))

		return nil
	})
}

// mappings measures how long the first mapping takes, by number of users.
func (b *bench) mappings(ctx context.Context) error {
	const section = "The first mapping, from its last part in the broker until it is in force"
	for _, users := range b.Mappings {
		b.note("a mapping of %s users", separated(int64(users)))
		own := *b
		own.Workers = users
		err := own.with(ctx, allInOne, map[string]string{"ATHOC_RATE_LIMIT": freeRate, "BATCH_SIZE": "5000"}, func(s *stack) error {
			took, err := s.takenOver()
			if err != nil {
				return err
			}

			b.add(Figure{Section: section, Where: string(s.topology), What: fmt.Sprintf("%s users", separated(int64(users))), Value: took.Seconds(), Unit: "s"},
				atMost(max(1, 15e-6*float64(users)), "linear: 15 s for 1,000,000"))

			return nil
		})
		b.stacks = own.stacks

		if err != nil {
			return err
		}
	}

	return nil
}

// takenOver finds out from the log how long after the janitor had published the first mapping the resolver used it.
func (s *stack) takenOver() (time.Duration, error) {
	data, err := os.ReadFile(s.path("logs", "bobosync.log"))
	if err != nil {
		return 0, err
	}

	at := func(what string) (time.Time, error) {
		for line := range bytes.Lines(data) {
			var record struct {
				Time time.Time
				Msg  string
			}
			if json.Unmarshal(line, &record) == nil && record.Msg == "mapping of employee ids to AtHoc users "+what {
				return record.Time, nil
			}
		}

		return time.Time{}, fmt.Errorf("no mapping was %s, by the log", what)
	}

	published, err := at("refreshed")
	if err != nil {
		return 0, err
	}

	used, err := at("taken over")
	if err != nil {
		return 0, err
	}

	return max(0, used.Sub(published)), nil
}
