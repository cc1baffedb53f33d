//go:build unix

package harness

// The evidence for the auditor.

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/audit"
	"bobosync/e2e/workload"
)

// Messages returns the payloads and headers of all messages of all streams of the broker.
func (s *Stack) Messages() ([]byte, error) {
	conn, err := nats.Connect("nats://" + address(s.ports.broker))
	if err != nil {
		return nil, err
	}
	defer conn.Close()

	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}

	var all []byte
	names := js.StreamNames(s.ctx)
	for name := range names.Name() {
		stream, err := js.Stream(s.ctx, name)
		if err != nil {
			return nil, err
		}

		state := stream.CachedInfo().State
		for seq := max(1, state.FirstSeq); seq <= state.LastSeq && state.Msgs > 0; seq++ {
			m, err := stream.GetMsg(s.ctx, seq)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}

			if err != nil {
				return nil, err
			}

			all = fmt.Appendf(all, "%s %v %s\n", m.Subject, m.Header, m.Data)
		}
	}

	return all, names.Err()
}

// users returns AtHoc's users at the start, for the auditor.
func (s *Stack) users() []audit.User {
	if s.cfg.Past != nil {
		return s.cfg.Past.Users
	}

	zone := s.rules().AtHocZone
	var users []audit.User
	for i, w := range s.cfg.Plan.Workers {
		if w.Login == "" {
			continue
		}

		u := audit.User{
			Login: w.Login, Collar: w.Employee, Forbidden: w.Role == workload.Forbidden, Removed: w.Role == workload.Removed,
			Attributes: map[string]string{collarAttribute: w.Employee, otherAttribute: fmt.Sprintf("+44 %07d", i)},
		}
		if !w.Duty.IsZero() {
			u.Attributes[dutyAttribute] = w.Duty.In(zone).Format(sim.DateLayout)
		}

		users = append(users, u)
	}

	return users
}

func (s *Stack) rules() audit.Rules {
	bobo, err1 := time.LoadLocation(BoboZone)
	athoc, err2 := time.LoadLocation(AtHocZone)
	if err := errors.Join(err1, err2); err != nil {
		panic(fmt.Sprintf("the machine has no time zones: %v", err))
	}

	hours, err := strconv.Atoi(s.env["AUTO_CLEANUP_HOURS"])
	if err != nil {
		panic(fmt.Sprintf("AUTO_CLEANUP_HOURS: %v", err))
	}

	guard := audit.Guard{}
	if s.cfg.Guard {
		guard = audit.Guard{Window: guardWindow, MinUsers: guardUsers, Percent: guardPercent}
	}

	start := serviceStart
	if s.cfg.Hostile {
		start = 0
	}

	return audit.Rules{
		Guard:    guard,
		BoboZone: bobo, AtHocZone: athoc, Lifetime: time.Duration(hours) * time.Hour, Cleans: hours > 0, MaxSkew: 15 * time.Minute, Duty: dutyAttribute,
		Rate: rateLimit, Burst: 1, Jitter: jitter, CallTimeout: callTimeout, Batch: batchSize, Settle: settleTime, Start: start,
	}
}

// Evidence gathers what the auditor needs. The pipeline should be idle.
func (s *Stack) Evidence() (audit.Input, error) {
	files, departures, slow := s.In.Record()
	left, err1 := s.In.Names()
	final, err2 := s.Sim.Users(s.ctx)
	calls, err3 := sim.ReadCallLog(s.Path(callLog))
	done, err4 := kept(s.Path(doneDir), false)
	failed, err5 := kept(s.Path(failedDir), true)
	s.mu.Lock()
	defer s.mu.Unlock()

	in := audit.Input{
		Rules: s.rules(), Users: s.users(), Files: files, Departures: departures, Kept: append(done, failed...), Left: left,
		Calls: calls, Final: final, Started: s.started, Ended: time.Now(), MappingLost: slices.Clone(s.lost),
		Loose: s.In.looseIDs(), Frozen: slices.Clone(s.frozen), Halted: slices.Clone(s.halted), Calm: s.calm, Forgotten: slices.Clone(s.forgotten),
	}
	s.orders.evidence(&in)

	return in, errors.Join(slow, err1, err2, err3, err4, err5)
}
