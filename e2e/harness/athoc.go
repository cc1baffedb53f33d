//go:build unix

package harness

// A stack's AtHoc: its simulator and its users.

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"time"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/workload"
	"bobosync/shared/pause"
)

func (s *Stack) startSimulator() error {
	data, err := json.Marshal(s.initialUsers())
	if err != nil {
		return err
	}

	if err := os.WriteFile(s.Path("users.json"), data, 0o600); err != nil {
		return fmt.Errorf("write the users: %w", err)
	}

	env := map[string]string{
		"ATHOCSIM_CLIENT_ID": s.env["CLIENT_ID"], "ATHOCSIM_CLIENT_SECRET": s.env["CLIENT_SECRET"],
		"ATHOCSIM_USERNAME": s.env["APIUSER"], "ATHOCSIM_PASSWORD": s.env["PASSWORD"], "ATHOCSIM_ORG": s.env["ORG_CODE"],
	}
	admin := address(s.ports.admin)
	if s.front, err = NewProxy(address(s.ports.sim)); err != nil {
		return err
	}

	s.front.tap = s.cfg.Tap
	s.front.Refuse(true)
	s.Sim = newSimulator(admin)

	_, err = s.add(AtHoc, "athocsim", env, "-listen", address(s.ports.sim), "-admin", admin, "-state", s.Path("athoc.state"),
		"-call-log", s.Path(callLog), "-users-file", s.Path("users.json"), "-log-level", "DEBUG", "-echo-case", "random",
		"-latency", "20ms", "-latency-jitter", "60ms")
	if err != nil {
		return err
	}

	return s.introduce()
}

// initialUsers returns the attributes of the users that AtHoc has when the simulator is started for the first time.
func (s *Stack) initialUsers() []map[string]string {
	users := []map[string]string{}
	add := func(login string, attributes map[string]string) {
		attributes = maps.Clone(attributes)
		attributes[sim.LoginID] = login
		users = append(users, attributes)
	}
	if s.cfg.Past != nil {
		for login, attributes := range s.cfg.Past.Final {
			add(login, attributes)
		}
		return users
	}

	for _, u := range s.users() {
		add(u.Login, u.Attributes)
	}

	return users
}

// introduce makes a newly started simulator refuse the users that it must refuse, and then opens the way to it.
func (s *Stack) introduce() error {
	err := s.eventually(20*time.Second, "the simulator answers", func() (bool, error) {
		_, err := s.Sim.Stats(s.ctx)
		return err == nil, nil
	})
	if err != nil {
		return err
	}

	s.mu.Lock()
	s.lasting = nil
	s.mu.Unlock()

	var forbidden []string
	for _, u := range s.users() {
		if u.Forbidden {
			forbidden = append(forbidden, u.Login)
		}
	}

	if len(forbidden) > 0 {
		id, err := s.Sim.Fault(s.ctx, sim.Fault{Kind: sim.FaultDenyUser, Users: forbidden})
		if err != nil {
			return err
		}

		s.mu.Lock()
		s.lasting = append(s.lasting, id)
		s.mu.Unlock()
	}

	s.front.Refuse(false)

	return nil
}

// RestartSimulator kills the simulator and, after the given time, starts it again with the state that it had. It
// loses its faults and settings.
func (s *Stack) RestartSimulator(ctx context.Context, after time.Duration) error {
	s.front.Refuse(true)

	p := s.Process(AtHoc)
	if err := p.Kill(); err != nil {
		return err
	}

	s.front.Cut()

	_ = pause.For(ctx, after)

	if err := p.Start(); err != nil {
		return err
	}

	return s.introduce()
}

// RefuseAtHoc makes AtHoc unreachable, or reachable again.
func (s *Stack) RefuseAtHoc(on bool) {
	s.front.Refuse(on)

	if on {
		s.front.Cut()
	}
}

// RemoveUsers removes from AtHoc the users whom the plan wants removed, once the mapping is known.
func (s *Stack) RemoveUsers() error {
	var logins []string
	for _, w := range s.cfg.Plan.Workers {
		if w.Role == workload.Removed {
			logins = append(logins, w.Login)
		}
	}

	if len(logins) == 0 {
		return nil
	}

	return s.Sim.Remove(s.ctx, logins...)
}
