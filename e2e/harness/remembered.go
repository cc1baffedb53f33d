//go:build unix

package harness

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"bobosync/e2e/audit"
	"bobosync/shared/pause"
)

// How many moments of a run are asked about: for one worker each, and for everybody who was on duty.
const (
	askedWorkers = 100
	askedDuty    = 5
	// askedListed is how many of those on duty are asked about one by one as well, because the list contains no
	// calls.
	askedListed = 40
)

// past is the part of the resolver's answer about a worker that is judged.
type past struct {
	State string    `json:"state"`
	At    time.Time `json:"at"`
	Held  *struct {
		Booked time.Time `json:"booked"`
	} `json:"held"`
	Next *struct {
		Sent     time.Time `json:"sent"`
		Answered time.Time `json:"answered"`
	} `json:"next"`
	Doubts []struct {
		Sent time.Time `json:"sent"`
	} `json:"doubts"`
	Gaps         []any     `json:"gaps"`
	CompleteFrom time.Time `json:"complete_from"`
}

// onDuty is the resolver's answer about everybody who was on duty.
type onDuty struct {
	At      time.Time `json:"at"`
	Workers []struct {
		User     string    `json:"user"`
		Employee string    `json:"employee"`
		State    string    `json:"state"`
		Since    time.Time `json:"since"`
	} `json:"workers"`
	More         bool      `json:"more"`
	Gaps         []any     `json:"gaps"`
	CompleteFrom time.Time `json:"complete_from"`
}

// remembered asks what AtHoc held for random workers at random moments of the run.
func (s *Stack) remembered(in audit.Input) ([]audit.Past, error) {
	conn, err := s.connection()
	if err != nil {
		return nil, err
	}

	var workers []string
	known := map[string]string{} // employee ids by username
	for _, u := range in.Users {
		if u.Collar != "" && !u.Removed {
			workers = append(workers, u.Collar)
			known[strings.ToLower(u.Login)] = u.Collar
		}
	}

	rng := rand.New(rand.NewPCG(uint64(len(in.Calls)), uint64(len(in.Files))))
	moment := func() time.Time { return in.Started.Add(time.Duration(rng.Int64N(int64(in.Ended.Sub(in.Started))))) }
	var all []audit.Past
	for range cmp.Or(s.cfg.Asked, min(askedWorkers, 10*len(workers))) {
		worker := workers[rng.IntN(len(workers))]

		said, err := s.askWorker(conn, worker, moment())
		if err != nil {
			return nil, err
		}

		all = append(all, said)
	}

	for range askedDuty {
		d, err := s.askDuty(conn, moment())
		if err != nil {
			return nil, err
		}

		listed := map[string]bool{}
		for i, w := range d.Workers { // no employee id is given for a user whose stale duty was cleared while the user's worker was unknown
			d.Workers[i].Employee = cmp.Or(w.Employee, known[strings.ToLower(w.User)])
			listed[d.Workers[i].Employee] = true
		}

		for _, i := range rng.Perm(len(d.Workers))[:min(askedListed, len(d.Workers))] {
			w := d.Workers[i]
			if w.Employee == "" {
				continue // the auditor knows no such worker
			}

			said, err := s.askWorker(conn, w.Employee, d.At)
			if err != nil {
				return nil, err
			}

			said.State, said.Since, said.Lost = w.State, w.Since, len(d.Gaps) > 0
			all = append(all, said)
		}

		for _, worker := range workers {
			if !listed[worker] {
				all = append(all, audit.Past{Worker: worker, At: d.At, State: "absent", CompleteFrom: d.CompleteFrom})
			}
		}
	}

	return all, nil
}

// askDuty asks who was on duty, and collects all pages.
func (s *Stack) askDuty(conn *nats.Conn, at time.Time) (whole onDuty, err error) {
	after := ""
	for {
		page, err := askPast[onDuty](s.ctx, conn, "on-duty", map[string]any{"at": at, "after": after, "by": "the auditor"})
		if err != nil {
			return whole, err
		}

		page.Workers = append(whole.Workers, page.Workers...)
		whole = page
		if !page.More || len(page.Workers) == 0 {
			return whole, nil
		}

		after = page.Workers[len(page.Workers)-1].User
	}
}

// askWorker asks what AtHoc held for one worker.
func (s *Stack) askWorker(conn *nats.Conn, worker string, at time.Time) (audit.Past, error) {
	p, err := askPast[past](s.ctx, conn, "worker-past", map[string]any{"text": worker, "at": at, "by": "the auditor"})
	said := audit.Past{Worker: worker, At: p.At, State: p.State, Lost: len(p.Gaps) > 0, CompleteFrom: p.CompleteFrom}
	if p.Held != nil {
		said.Since = p.Held.Booked
	}

	if p.Next != nil {
		said.NextSent, said.NextAnswered = p.Next.Sent, p.Next.Answered
	}

	for _, d := range p.Doubts {
		said.Doubts = append(said.Doubts, d.Sent)
	}

	return said, err
}

// askPast asks the resolver, and waits for it if it has only just been started.
func askPast[T any](ctx context.Context, conn *nats.Conn, endpoint string, req any) (answer T, err error) {
	data, err := json.Marshal(req)
	if err != nil {
		return answer, err
	}

	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()

	for {
		m, err := conn.RequestWithContext(ctx, "bobo.control.resolver."+endpoint, data)
		switch {
		case errors.Is(err, nats.ErrNoResponders) && ctx.Err() == nil:
			_ = pause.For(ctx, 100*time.Millisecond)
			continue
		case err != nil:
			return answer, fmt.Errorf("ask for %s: %w", endpoint, err)
		case m.Header.Get("Nats-Service-Error") != "":
			return answer, fmt.Errorf("ask for %s: %s", endpoint, m.Header.Get("Nats-Service-Error"))
		}

		return answer, json.Unmarshal(m.Data, &answer)
	}
}
