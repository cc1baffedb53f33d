package roster

import (
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/resolver/internal/guard"
	"bobosync/services/resolver/internal/hold"
	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/event"
	"bobosync/shared/mapping"
)

// This file sends weeks of shifts through the resolver's decisions, without a store or a broker.

const (
	teams    = 5
	teamSize = 84
	dayStaff = 80
	files    = 5 * time.Minute // the time between two exports
)

// site is a resolver's roster with made-up shifts. There are five teams, who work late, early (after a short night) and
// night shifts and then have two days off, and there is day staff. At weekends and on the bank holiday half of the
// teams' members work, and no day staff.
type site struct {
	*Roster
	rnd      *rand.Rand
	clock    time.Time
	zone     *time.Location
	holiday  time.Time
	workers  map[string]latest.Worker
	bookings map[int64][]event.Entry // what the export of each moment contains
	order    int64
	off      int // how many went off since it was set to 0
	last     []event.Entry
	duty     map[string]int64 // since when AtHoc shows each worker on duty
}

func newSite(t *testing.T, seed uint64, begin, holiday time.Time) *site {
	log := slog.New(slog.DiscardHandler)
	s := &site{rnd: rand.New(rand.NewPCG(seed, 1)), clock: begin, zone: begin.Location(), holiday: holiday, workers: map[string]latest.Worker{}, bookings: map[int64][]event.Entry{}, duty: map[string]int64{}}
	rules := guard.Rules{Mode: guard.Auto, Window: 15 * time.Minute, MinUsers: 20, OffPercent: 30, Factor: 2, Zone: s.zone}
	require.NoError(t, rules.Validate())
	s.Roster = &Roster{
		Rules: latest.Rules{Lifetime: 24 * time.Hour}, Log: log, Now: func() time.Time { return s.clock }, Holds: hold.New(rules, log),
	}

	users := map[string]string{}
	for i := range teams*teamSize + dayStaff {
		users[fmt.Sprint(i)] = fmt.Sprint("u", i)
	}

	s.mapping.Store(mapping.NewIndex("m", users))
	s.Stats.Begin(s.Mapping(), true)

	return s
}

// copy returns an independent site that goes on from here.
func (s *site) copy(t *testing.T, seed uint64) *site {
	c := newSite(t, seed, s.clock, s.holiday)
	c.workers, c.bookings, c.duty, c.order, c.last = maps.Clone(s.workers), maps.Clone(s.bookings), maps.Clone(s.duty), s.order, slices.Clone(s.last)
	h := s.Holds.Guard.History()
	h.Hours = maps.Clone(h.Hours)
	c.Holds.Load(h, nil)

	for employee, w := range c.workers {
		c.Stats.Note(employee, w)
	}

	return c
}

// plan notes the bookings of the shifts that begin on a day.
func (s *site) plan(day time.Time) {
	few := day.Weekday() == time.Saturday || day.Weekday() == time.Sunday || day.Equal(s.holiday)
	at := func(hour, from, to int) time.Time {
		return time.Date(day.Year(), day.Month(), day.Day(), hour, from+s.rnd.IntN(to-from), s.rnd.IntN(60), 0, s.zone)
	}

	shift := func(worker, begin, end int) {
		if few && s.rnd.IntN(2) == 0 || s.rnd.IntN(20) == 0 { // fewer people work, or somebody is ill
			return
		}

		s.book(worker, at(begin, -15, 3), true)

		if s.rnd.IntN(200) > 0 { // otherwise the worker forgets it
			s.book(worker, at(end, 0, 14), false)
		}
	}
	days := int(day.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, s.zone)).Hours()/24 + .5)
	for team := range teams {
		hours := [teams][2]int{{14, 22}, {6, 14}, {22, 30}}[(days+team)%teams]
		for i := range teamSize {
			if hours[1] > 0 {
				shift(team*teamSize+i, hours[0], hours[1])
			}
		}
	}

	for i := range dayStaff {
		if !few {
			shift(teams*teamSize+i, 8, 17)
		}
	}
}

func (s *site) book(worker int, at time.Time, on bool) {
	export := at.Truncate(files).Add(files).Unix()
	s.bookings[export] = append(s.bookings[export], event.Entry{Employee: fmt.Sprint(worker), At: at.Unix(), On: on})
}

// pass lets time pass until a moment, with an export every five minutes if the feed is alive, and the janitor looking
// for stale duty.
func (s *site) pass(until time.Time, feed bool) {
	for ; s.clock.Before(until); s.clock = s.clock.Add(files) {
		if local := s.clock.In(s.zone); local.Hour() == 0 && local.Minute() == 0 {
			s.plan(local)
		}

		if entries := s.bookings[s.clock.Unix()]; feed {
			s.export(entries...)
			s.last = append(s.last, entries...)
		}

		delete(s.bookings, s.clock.Unix())
		s.clean()
	}
}

// export reads a file.
func (s *site) export(entries ...event.Entry) {
	s.order++
	c := NewChangeset()

	taken := map[string]latest.Worker{}
	for i, e := range entries {
		e.Row = i + 2
		w, known := taken[e.Employee]
		if !known {
			w = s.workers[e.Employee]
		}

		w.Take(latest.Event{Version: e.Version(s.order), File: fmt.Sprint("f", s.order), On: e.On, At: e.At}, false)
		taken[e.Employee] = w
	}

	for employee, w := range taken {
		if w.Unresolved && w.Hold == nil {
			s.Resolve(&c, employee, w, true)
		} else {
			c.Change.Workers[employee] = w
		}
	}

	s.commit(&c)
}

// clean does what the janitor's search for stale duty leads to.
func (s *site) clean() {
	c := NewChangeset()
	for employee, at := range s.duty {
		if s.clock.Unix()-at <= 24*3600 {
			continue
		}

		w := s.workers[employee]
		if w.Hold != nil {
			continue
		}

		seen := latest.Observed{On: true, At: w.Sent.At, Seen: s.clock.Add(time.Hour)}
		if j := w.Expire(seen, s.Mapping().User(employee), s.clock, s.Rules); j.Send {
			before := w
			u, settled := w.Correct(employee, s.Mapping().User(employee), event.ReasonExpiry, s.clock, s.Rules)
			c.Send(*u, before, w, settled)
		}
	}

	s.commit(&c)
}

// commit is Commit, with AtHoc confirming at once.
func (s *site) commit(c *Changeset) {
	answer := s.hold(c)
	if answer != nil {
		s.Holds.Apply(answer.Save)
	}

	maps.Copy(c.intents, c.Change.Workers)

	for employee, w := range c.intents {
		if w.Sent != nil {
			before := s.workers[employee]
			if before.SentOn() && !w.Sent.On {
				s.off++
			}

			if delete(s.duty, employee); w.Sent.On {
				s.duty[employee] = w.Sent.At
			}

			w.Confirmed = &latest.Confirmed{Sent: *w.Sent, Outcome: event.Applied}
		}

		s.workers[employee] = w
		s.Stats.Note(employee, w)
		s.Holds.Note(employee, w)
	}

	s.Holds.Noted()
}

func (s *site) held() (users int) { return s.Holds.Facts(s.clock).Users() }

// TestWeeksOfShiftsTripNothing: two weeks of history are followed by eight in which the guard holds, with both changes
// of the clocks and a bank holiday.
func TestWeeksOfShiftsTripNothing(t *testing.T) {
	t.Parallel()

	zone, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)

	for name, begin := range map[string]time.Time{
		"spring and Easter Monday": time.Date(2026, 2, 16, 0, 0, 0, 0, zone), "autumn": time.Date(2026, 8, 24, 0, 0, 0, 0, zone),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			for seed := range uint64(2) {
				holiday := time.Date(2026, 4, 6, 0, 0, 0, 0, zone)
				if begin.Month() == time.August {
					holiday = time.Date(2026, 9, 28, 0, 0, 0, 0, zone)
				}

				s := newSite(t, seed, begin, holiday)
				s.pass(begin.AddDate(0, 0, 70), true)
				require.True(t, s.Holds.Facts(s.clock).Holding)
				require.Empty(t, s.Holds.Groups.All(), "seed %d", seed)
				require.Greater(t, s.off, 10_000, "shifts have ended")
			}
		})
	}
}

// TestMistakesAreHeld: each of five mistakes, with 50 seeds, is held before more users went off than may.
func TestMistakesAreHeld(t *testing.T) {
	t.Parallel()

	zone, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)

	mistakes := map[string]func(*site){
		"a truncated export, whose maker books off who is not in it": func(s *site) {
			var rows []event.Entry
			for _, employee := range s.onDuty() {
				if s.rnd.IntN(10) < 8 {
					rows = append(rows, event.Entry{Employee: employee, At: s.clock.Unix() - 60})
				}
			}

			s.export(rows...)
		},
		"a day's export with twelve hours too much, without what then lies in the future": func(s *site) {
			var rows []event.Entry
			for _, e := range s.since(24 * time.Hour) {
				if e.At += 12 * 3600; e.At <= s.clock.Unix()+900 {
					rows = append(rows, e)
				}
			}

			s.export(rows...)
		},
		"an old file dropped again, with the time of now": func(s *site) {
			var rows []event.Entry
			for _, e := range s.since(14 * time.Hour) {
				if at := time.Unix(e.At, 0).In(zone); at.Hour() == 22 || at.Hour() == 21 {
					e.At = s.clock.Unix() - 60
					rows = append(rows, e)
				}
			}

			s.export(rows...)
		},
		"a day's export of nothing but BOF": func(s *site) {
			rows := s.since(24 * time.Hour)
			for i := range rows {
				rows[i].On = false
			}

			s.export(rows...)
		},
		"a day of silence, and then stale clearing": func(s *site) { s.pass(s.clock.Add(26*time.Hour), false) },
	}
	for seed := range uint64(50) {
		begin := time.Date(2026, 5, 9, 0, 0, 0, 0, zone)
		played := newSite(t, seed, begin, time.Time{})
		played.Holds.Load(guard.History{Since: begin.AddDate(0, 0, -5)}, nil) // the guard begins to hold after nine days
		day := begin.AddDate(0, 0, 10+played.rnd.IntN(4))                     // a working day after another, between changes of shift
		played.pass(time.Date(day.Year(), day.Month(), day.Day(), 11, played.rnd.IntN(12)*5, 0, 0, zone), true)
		require.Zero(t, played.held(), "seed %d", seed)

		for name, mistake := range mistakes {
			s := played.copy(t, seed)
			onDuty := s.Stats.SentOn()
			mistake(s)
			require.Positive(t, s.held(), "%s, seed %d: of %d on duty %d went off", name, seed, onDuty, s.off)
			require.LessOrEqual(t, s.off, 20+onDuty*30/100, "%s, seed %d", name, seed)
		}
	}

	t.Run("an old file dropped again as it is takes nobody off", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, 1, time.Date(2026, 5, 4, 0, 0, 0, 0, zone), time.Time{})
		s.pass(s.clock.AddDate(0, 0, 2), true)
		s.off = 0
		s.export(s.since(24 * time.Hour)...)
		require.Zero(t, s.off)
	})
}

// onDuty lists the workers whom AtHoc was last sent as on duty.
func (s *site) onDuty() []string {
	return slices.Sorted(maps.Keys(s.duty))
}

// since lists the entries of the last hours that were exported.
func (s *site) since(ago time.Duration) (entries []event.Entry) {
	for _, e := range s.last {
		if e.At >= s.clock.Add(-ago).Unix() {
			entries = append(entries, e)
		}
	}

	return entries
}
