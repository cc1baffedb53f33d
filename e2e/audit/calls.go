package audit

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"bobosync/cmd/athocsim/sim"
)

// send is one user in one update.
type send struct {
	call    *sim.Call
	value   string
	arrived int64 // UnixNano
	ended   int64 // the end of the time in which a client could have been waiting for the answer
	applied bool
	// appliedAt is when it was applied.
	appliedAt int64
	// confirmed means that an answer went out which said that it was applied; denied, that it never will be.
	confirmed, denied bool
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

func nano(n int64) string { return clock(time.Unix(0, n)) }

func name(c *sim.Call) string { return fmt.Sprintf("call %d of %s", c.Seq, nano(c.Arrived)) }

func (a *auditor) describe(e event) string {
	what := "off"
	if e.on {
		what = "on"
	}

	return fmt.Sprintf("%s at %s, %s line %d", what, e.at.In(a.in.Rules.AtHocZone).Format(sim.DateLayout), a.in.Files[e.file].Name, e.line)
}

// readCalls groups what was sent by user.
func (a *auditor) readCalls() {
	slices.SortStableFunc(a.in.Calls, func(x, y sim.Call) int { return cmp.Compare(x.Arrived, y.Arrived) })

	for i := range a.in.Calls {
		c := &a.in.Calls[i]
		if c.Endpoint != sim.EndpointUpdate {
			continue
		}

		a.report.Updates++
		a.report.Sent += len(c.Users)
		for _, u := range c.Users {
			p := a.users[strings.ToLower(u.LoginID)]
			value, sent := u.Fields.Get(a.in.Rules.Duty)
			if p == nil || !sent {
				continue // checkCalls reports these
			}

			answered := c.Status == 200 && delivered(c) && !u.LeftOut
			p.sends = append(p.sends, send{
				call: c, value: value, arrived: c.Arrived, ended: a.end(c), applied: u.Applied, appliedAt: u.AppliedAt,
				confirmed: answered && u.Applied && u.Outcome == sim.OutcomeUpdated,
				denied:    answered && (u.Outcome == sim.OutcomeDenied || u.Outcome == sim.OutcomeUnknownUser),
			})
		}
	}
}

// delivered reports whether the whole answer went out, as far as the simulator can tell.
func delivered(c *sim.Call) bool {
	switch c.Fault {
	case "", sim.FaultSlowBody, sim.FaultLies:
		return !c.ClientGone && !c.Unfinished
	}

	return false
}

// end returns when a call can no longer be in flight: when it was answered, the client gave up, or the simulator was
// killed.
func (a *auditor) end(c *sim.Call) int64 {
	end := c.Arrived + int64(a.in.Rules.CallTimeout)
	if c.Unfinished {
		for _, next := range a.in.Calls {
			if next.Run > c.Run {
				end = min(end, next.Run)
			}
		}

		return end
	}

	return min(end, c.Finished)
}

// checkCalls checks that calls name known users only, write nothing but the duty attribute, and carry the parameters
// that they must carry.
func (a *auditor) checkCalls() {
	for i := range a.in.Calls {
		c := &a.in.Calls[i]
		if c.Endpoint == sim.EndpointOther {
			a.find(Finding{Kind: BadCall}, "%s: there is nothing at %s", name(c), c.Path)
		}

		if c.Endpoint != sim.EndpointUpdate {
			continue
		}

		a.checkParameters(c)

		for _, u := range c.Users {
			a.checkUser(c, u)
		}
	}
}

// checkParameters checks an update's parameters. It compares names without regard to case, as AtHoc does.
func (a *auditor) checkParameters(c *sim.Call) {
	for wantName, want := range map[string]string{"syncExistingUsersOnly": "true", "AllowPartialUpdate": "false"} {
		i := slices.IndexFunc(c.Parameters, func(f sim.Field) bool { return strings.EqualFold(f.Name, wantName) })
		if i < 0 || !strings.EqualFold(c.Parameters[i].Value, want) {
			a.find(Finding{Kind: BadCall}, "%s: %s is not %s", name(c), wantName, want)
		}
	}
}

func (a *auditor) checkUser(c *sim.Call, u sim.UserCall) {
	about := Finding{Kind: Touched, User: u.LoginID}
	p := a.users[strings.ToLower(u.LoginID)]
	switch {
	case p == nil:
		a.find(about, "%s: AtHoc never had this user", name(c))
	case len(u.Fields) != 1 || u.Fields[0].Name != a.in.Rules.Duty:
		a.find(about, "%s: the attributes sent are not just the duty status, but %d", name(c), len(u.Fields))
	}

	if u.Outcome == sim.OutcomeCreated {
		a.find(about, "%s created the user", name(c))
	}
}

// checkRate checks that over any stretch of time no more calls arrive than the rate, the burst and the jitter allow.
// Calls that arrive when AtHoc wakes up after being frozen may have been sent at any moment of that time.
func (a *auditor) checkRate() {
	r := a.in.Rules
	if r.Rate <= 0 {
		return
	}

	interval := float64(time.Second) / r.Rate
	slack := float64(r.Jitter) + interval*float64(max(r.Burst, 1)-1)
	due := math.Inf(-1) // the earliest moment for the next call, without any slack
	for i := range a.in.Calls {
		c := &a.in.Calls[i]
		if c.Endpoint != sim.EndpointUpdate && c.Endpoint != sim.EndpointSearch {
			continue
		}

		at := float64(c.Arrived)
		for _, f := range a.in.Frozen {
			if c.Arrived >= f.From.UnixNano() && c.Arrived <= f.To.Add(r.Jitter).UnixNano() {
				at = min(at, max(due, float64(f.From.UnixNano())))
			}
		}

		if at < due-slack {
			a.find(Finding{Kind: Rate}, "%s came %s before the limit of %g a second allows it", name(c),
				time.Duration(due-at).Round(time.Millisecond), r.Rate)
			due = at // report a burst once, and not for each of its calls
		}

		due = max(due, at) + interval
	}
}

// checkOverlaps checks that no user is in two calls at once.
func (a *auditor) checkOverlaps() {
	for _, login := range slices.Sorted(maps.Keys(a.users)) {
		p := a.users[login]
		var last *send // of the sends so far, the one that ended last
		for i := range p.sends {
			s := &p.sends[i]
			if last != nil && s.call != last.call && s.arrived < last.ended {
				a.find(Finding{Kind: Overlap, User: p.Login}, "%s arrived %s before %s ended", name(s.call),
					time.Duration(last.ended-s.arrived), name(last.call))
			}

			if last == nil || s.ended > last.ended {
				last = s
			}
		}
	}
}

// checkOrder checks that what is sent for a worker never goes back to an older event. A value does not say which
// event it comes from, so each is taken for the oldest possible event that is not older than the previous one. If
// there is any reading of the log in which nothing went back, this finds it.
func (a *auditor) checkOrder() {
	for _, login := range slices.Sorted(maps.Keys(a.users)) {
		p := a.users[login]
		floor := -1 // index of the event sent last; -1 is what AtHoc had at the start
		for n, s := range p.sends {
			i, any, held := a.origin(p, s, floor)
			if i > math.MinInt {
				floor = i
				if i >= 0 && n > 0 && p.sends[n-1].value != "" && a.goesOff(p.worker.events[i:], s) {
					a.flips++
				}

				continue
			}

			about := Finding{Kind: Unexplained, User: p.Login}
			text := fmt.Sprintf("%s sends %q", name(s.call), s.value)
			switch {
			case held != nil:
				about.Kind = Held
				a.find(about, "%s, which was held (%s) and which nobody had let go by then", text, a.describe(*held))
			case any:
				about.Kind = WentBack
				a.find(about, "%s, which is older than what was sent before (%s)", text, a.describe(p.worker.events[floor]))
			default:
				a.find(about, "%s, which is no event of the worker's that was known then", text)
			}
		}
	}
}

// origin returns the index of the oldest event, from floor on, that a value can come from. If there is none, index is
// MinInt, any reports whether an event before floor would match, and held is the event that would match if it had not
// been waiting for a person.
func (a *auditor) origin(p *person, s send, floor int) (index int, any bool, held *event) {
	at := time.Unix(0, s.arrived)
	if s.value == "" && a.staleValue(a.initial(p), at) { // the initial status was stale and has been cleared
		any = true

		if floor == -1 {
			return -1, true, nil
		}
	}

	if p.worker == nil {
		return math.MinInt, any, nil
	}

	for i, e := range p.worker.events {
		if a.in.Files[e.file].Appeared.After(at) {
			continue
		}

		if s.value != a.value(e) && (s.value != "" || !a.staleEvent(e, at)) {
			continue
		}

		switch {
		case i >= floor && a.fate(e).heldAt(at):
			held = &e
		case i >= floor:
			return i, true, nil
		default:
			any = true
		}
	}

	return math.MinInt, any, held
}
