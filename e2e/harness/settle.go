//go:build unix

package harness

// Waiting: until a stack works, until something shows, until nothing is under way any longer.

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/audit"
	"bobosync/e2e/workload"
	"bobosync/shared/boborow"
)

// AwaitBacklog waits until there are updates that wait for AtHoc.
func (s *Stack) AwaitBacklog(within time.Duration) error {
	return s.eventually(within, "updates wait for AtHoc", func() (bool, error) {
		pending, err := s.pending()
		return strings.Contains(pending, publisherPrefix), err
	})
}

// eventually waits until a condition holds.
func (s *Stack) eventually(within time.Duration, what string, holds func() (bool, error)) error {
	deadline := time.NewTimer(within)

	defer deadline.Stop()

	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()

	for {
		ok, err := holds()
		if ok {
			return nil
		}

		select {
		case <-s.ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, s.ctx.Err())
		case <-deadline.C:
			err = errors.Join(err, s.Died())
			if err == nil {
				return fmt.Errorf("not within %s: %s", within, what)
			}

			return fmt.Errorf("not within %s: %s: %w", within, what, err)
		case <-tick.C:
		}
	}
}

// Ready waits until the pipeline works from end to end: until a booking that is dropped now shows in AtHoc. Until
// then, the mapping of workers may be unknown.
func (s *Stack) Ready(within time.Duration) error {
	s.mu.Lock()
	i := len(s.lost)
	s.lost = append(s.lost, audit.Window{From: time.Now()})
	s.mu.Unlock()

	shown, err := s.Book()
	if err != nil {
		return err
	}

	err = s.eventually(within, "a booking shows in AtHoc", shown)
	s.mu.Lock()
	s.lost[i].To = time.Now()
	s.mu.Unlock()

	return err
}

// Book drops a booking for the probe, the worker with whom the harness checks that the pipeline works. It returns a
// function that reports whether AtHoc shows the booking.
func (s *Stack) Book() (shown func() (bool, error), err error) {
	s.mu.Lock()
	s.probes++
	n := s.probes
	s.mu.Unlock()

	at := s.lives.Add(-time.Hour + time.Duration(n)*time.Second)
	row := boborow.New(true, probe.Employee, at.In(s.rules().BoboZone)).String()
	if err := s.In.Drop(workload.File{Name: fmt.Sprintf("probe %d.csv", n), Content: []byte(row)}); err != nil {
		return nil, err
	}

	return func() (bool, error) {
		value, err := s.Sim.Value(s.ctx, probe.Login, dutyAttribute)
		if err != nil {
			return false, err
		}

		since, err := time.ParseInLocation(sim.DateLayout, value, s.rules().AtHocZone)

		return err == nil && !since.Before(at.Truncate(time.Second)), nil // it may already show a later one
	}, nil
}

// quiet is how long nothing may happen before the pipeline counts as idle.
const quiet = time.Second

// Idle waits until nothing is left to do: the input directory is empty, the broker has no unacknowledged messages,
// and AtHoc has not been called for a while.
func (s *Stack) Idle(within time.Duration) error {
	s.In.writers.Wait()
	var since time.Time
	calls, run := -1, int64(0)

	return s.eventually(within, "the input directory is empty and all is quiet", func() (bool, error) {
		busy := func(format string, args ...any) (bool, error) {
			since = time.Time{}
			return false, fmt.Errorf(format, args...)
		}
		names, err := s.In.Names()
		if err != nil || len(names) > 0 {
			return busy("%d files in the input directory, such as %s (%v)", len(names), strings.Join(names[:min(3, len(names))], ", "), err)
		}

		st, err := s.Sim.Stats(s.ctx)
		if err != nil {
			return busy("%w", err)
		}

		// Only updates count: the janitor searches all the time.
		updates := st.Endpoints[sim.EndpointUpdate]
		if n := updates.Calls; n != calls || st.Run != run || updates.InFlight > 0 {
			calls, run = n, st.Run
			return busy("AtHoc is being called")
		}

		if pending, err := s.pending(); err != nil || pending != "" {
			return busy("consumers wait: %s (%v)", pending, err)
		}

		if since.IsZero() {
			if stale, err := s.stale(); err != nil || stale > 0 {
				return busy("%d users have a stale duty status (%v)", stale, err)
			}

			since = time.Now()
		}

		return time.Since(since) >= quiet, nil
	})
}

// stale counts the users whose stale duty status the janitor has yet to clear. A user whom AtHoc refused to change
// does not count: the janitor does not try again within a day.
func (s *Stack) stale() (int, error) {
	rules := s.rules()
	if !rules.Cleans {
		return 0, nil
	}

	final, err := s.Sim.Users(s.ctx)
	if err != nil {
		return 0, err
	}

	stale := map[string]bool{}
	for login, attributes := range final {
		since, err := time.ParseInLocation(sim.DateLayout, attributes[rules.Duty], rules.AtHocZone)
		if err == nil && time.Since(since) > rules.Lifetime {
			stale[strings.ToLower(login)] = true
		}
	}

	if len(stale) == 0 {
		return 0, nil
	}

	calls, err := sim.ReadCallLog(s.Path(callLog))
	for _, c := range calls {
		for _, u := range c.Users {
			if u.Outcome == sim.OutcomeDenied {
				delete(stale, strings.ToLower(u.LoginID))
			}
		}
	}

	return len(stale), err
}

// connection returns a connection to the broker that everybody shares. It connects again if the broker was out of
// reach.
func (s *Stack) connection() (*nats.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.conn != nil && s.conn.IsConnected() {
		return s.conn, nil
	}

	if s.conn != nil {
		s.conn.Close()
	}

	var err error
	s.conn, err = nats.Connect(s.BrokerURL(), nats.Timeout(time.Second), nats.NoReconnect())

	return s.conn, err
}

// pending names the broker's consumers that have something left to do. The broker inside the all-in-one program
// cannot be asked.
func (s *Stack) pending() (string, error) {
	if s.cfg.AllInOne {
		return "", nil
	}

	conn, err := s.connection()
	if err != nil {
		return "", err
	}

	js, err := jetstream.New(conn)
	if err != nil {
		return "", err
	}

	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()

	var waiting []string
	names := js.StreamNames(ctx)
	for stream := range names.Name() {
		st, err := js.Stream(ctx, stream)
		if err != nil {
			return "", err
		}

		consumers := st.ListConsumers(ctx)
		for c := range consumers.Info() {
			if c.Config.Durable != "" && (c.NumPending > 0 || c.NumAckPending > 0) {
				waiting = append(waiting, fmt.Sprintf("%s (%d to deliver, %d to acknowledge)", c.Name, c.NumPending, c.NumAckPending))
			}
		}

		if err := consumers.Err(); err != nil {
			return "", err
		}
	}

	return strings.Join(waiting, ", "), names.Err()
}
