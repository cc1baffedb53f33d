package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Kinds of faults that affect a whole call.
const (
	FaultStatus     = "status"      // answer with Status, and with RetryAfter and Body if given
	FaultReset      = "reset"       // reset the connection, no answer
	FaultHang       = "hang"        // do not answer until the client gives up or Hold has passed, then reset the connection
	FaultBrokenJSON = "broken_json" // work on the call, then answer with a body that is not JSON
	FaultTruncated  = "truncated"   // work on the call, then break off in the middle of the body
	FaultSlowBody   = "slow_body"   // work on the call, then send the body in small pieces over Hold
	FaultLostAnswer = "lost_answer" // work on the call, then reset the connection
	FaultLateApply  = "late_apply"  // as hang, but work on the call once Delay has passed after the client gave up
	FaultBomb       = "bomb"        // work on the call, then send an answer that is meant to fill the client's memory; Form chooses it
	FaultDrip       = "drip"        // work on the call, then send letter after letter for as long as the client waits; Form chooses it
	FaultLies       = "lies"        // work on the call, then add to the answer what was not asked: other users, duplicates, malformed entries
	FaultRefuse     = "refuse"      // close the port and all connections for the time For; acts at once, on every end point
)

// Kinds of faults that affect single users.
const (
	FaultOmitUser  = "omit_user"  // the user is left out of the answer to an update or a search
	FaultPartial   = "partial"    // the outcome is Partial
	FaultUserError = "user_error" // the outcome is an Error that may not last
	FaultDenyUser  = "deny_user"  // the outcome is an Error: permission denied
)

var (
	callFaults = []string{
		FaultStatus, FaultReset, FaultHang, FaultBrokenJSON, FaultTruncated, FaultSlowBody, FaultLostAnswer, FaultLateApply, FaultBomb, FaultDrip, FaultLies,
	}
	userFaults = []string{FaultOmitUser, FaultPartial, FaultUserError, FaultDenyUser}
)

// Fault is something that goes wrong on purpose. It lasts until For has passed, until it has been played on Calls
// calls, or until it is cleared, whichever comes first.
type Fault struct {
	ID   int    `json:"id"` // assigned by the simulator
	Kind string `json:"kind"`
	// Scope lists the end points affected: token, search, update. Empty means all; for the faults of single users,
	// update.
	Scope []string `json:"scope,omitempty"`
	// For is how long the fault lasts; 0 is until it is cleared. A refusal needs it.
	For Duration `json:"for"`
	// Calls is how many calls the fault is played on; 0 means any number.
	Calls int `json:"calls,omitempty"`
	// Probability is the chance that a call, or a user, is affected (0 to 1); 0 means always.
	Probability float64 `json:"probability,omitempty"`
	// Seed makes the draws repeatable; 0 draws a seed from the simulator's.
	Seed uint64 `json:"seed,omitempty"`

	// Status, RetryAfter and Body make up the answer of a status fault. RetryAfter is sent as it is, except that
	// "date+7s" becomes the HTTP date in 7 seconds.
	Status     int    `json:"status,omitempty"`
	RetryAfter string `json:"retry_after,omitempty"`
	Body       string `json:"body,omitempty"`
	// Form chooses the kind of bomb (gzip, endless, deep, attributes, headers) or of drip (head, body).
	Form string `json:"form,omitempty"`
	// Hold is the longest that a hanging call is held (0: until the client gives up), or how long a slow body takes.
	Hold Duration `json:"hold,omitzero"`
	// Delay is how long after the client gave up a late_apply call is worked on.
	Delay Duration `json:"delay,omitzero"`
	// Apply works on the call, unseen by the client, before a status, reset or hang fault is played; for omit_user,
	// partial and user_error it writes the values all the same.
	Apply bool `json:"apply,omitempty"`

	// Users are the usernames affected; empty means all. A fault of whole calls affects the updates that carry one of
	// them.
	Users []string `json:"users,omitempty"`
	// Detail replaces the :SyncDetails text.
	Detail string `json:"detail,omitempty"`

	// Hits is how many calls the fault has been played on; Until is when it ends (UnixNano; 0: open).
	Hits  int   `json:"hits"`
	Until int64 `json:"until,omitempty"`
}

type activeFault struct {
	Fault
	rng   *rand.Rand
	users map[string]bool
}

// faultSet holds the faults that are on, in the order in which they were switched on.
type faultSet struct {
	mu     sync.Mutex
	nextID int
	active []*activeFault
	seed   *rand.Rand
}

func newFaultSet(seed uint64) *faultSet {
	return &faultSet{seed: rand.New(rand.NewPCG(seed, 0x6661756c74))}
}

func (f *Fault) validate() error {
	var errs []error

	user := slices.Contains(userFaults, f.Kind)
	if !user && f.Kind != FaultRefuse && !slices.Contains(callFaults, f.Kind) {
		return fmt.Errorf("fault kind %q: use one of %s, %s, %s", f.Kind, strings.Join(callFaults, ", "), FaultRefuse, strings.Join(userFaults, ", "))
	}

	for _, s := range f.Scope {
		if s != EndpointToken && s != EndpointSearch && s != EndpointUpdate {
			errs = append(errs, fmt.Errorf("fault scope %q: use token, search or update", s))
		}

		if user && s != EndpointUpdate && (f.Kind != FaultOmitUser || s != EndpointSearch) {
			errs = append(errs, fmt.Errorf("fault %s cannot befall %s calls", f.Kind, s))
		}
	}

	if f.Kind == FaultStatus && (f.Status < 200 || f.Status > 599) {
		errs = append(errs, fmt.Errorf("fault status %d: use 200 to 599", f.Status))
	}

	if !(f.Probability >= 0 && f.Probability <= 1) {
		errs = append(errs, fmt.Errorf("fault probability %v: use 0 to 1", f.Probability))
	}

	if f.For < 0 || f.Hold < 0 || f.Delay < 0 || f.Calls < 0 {
		errs = append(errs, errors.New("for, hold, delay and calls of a fault must not be negative"))
	}

	if _, err := f.retryAfterHeader(); err != nil {
		errs = append(errs, err)
	}

	if has := forms[f.Kind]; !slices.Contains(has, f.Form) && (has != nil || f.Form != "") {
		errs = append(errs, fmt.Errorf("fault form %q: use one of %q for %s", f.Form, has, f.Kind))
	}

	if f.Kind == FaultRefuse && f.For == 0 {
		errs = append(errs, errors.New("a refuse fault needs \"for\": how long the port is closed"))
	}

	if f.Kind == FaultSlowBody && f.Hold == 0 {
		errs = append(errs, errors.New("a slow_body fault needs \"hold\": how long the body takes"))
	}

	return errors.Join(errs...)
}

// add switches on a fault that has been validated.
func (s *faultSet) add(f Fault) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.nextID++

	f.ID, f.Hits, f.Until = s.nextID, 0, 0
	if f.For > 0 {
		f.Until = time.Now().Add(time.Duration(f.For)).UnixNano()
	}

	if len(f.Scope) == 0 && slices.Contains(userFaults, f.Kind) {
		f.Scope = []string{EndpointUpdate}
	}

	if f.Seed == 0 {
		f.Seed = s.seed.Uint64()
	}

	a := &activeFault{Fault: f, rng: rand.New(rand.NewPCG(f.Seed, 0))}
	if len(f.Users) > 0 {
		a.users = map[string]bool{}
		for _, u := range f.Users {
			a.users[loginKey(u)] = true
		}
	}

	s.active = append(s.active, a)

	return f
}

// prune drops the faults that have ended; the caller holds the lock.
func (s *faultSet) prune() {
	now := time.Now().UnixNano()
	s.active = slices.DeleteFunc(s.active, func(a *activeFault) bool {
		return a.Until != 0 && now >= a.Until || a.Calls != 0 && a.Hits >= a.Calls
	})
}

func (s *faultSet) list() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.prune()

	out := make([]Fault, len(s.active))
	for i, a := range s.active {
		out[i] = a.Fault
	}

	return out
}

func (s *faultSet) clear(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	before := len(s.active)
	s.active = slices.DeleteFunc(s.active, func(a *activeFault) bool { return id == 0 || a.ID == id })

	return len(s.active) < before
}

func (a *activeFault) covers(endpoint string) bool {
	return len(a.Scope) == 0 || slices.Contains(a.Scope, endpoint)
}

// befalls reports whether the fault is meant for one of these users, or for no user in particular.
func (a *activeFault) befalls(users []UserCall) bool {
	return a.users == nil || slices.ContainsFunc(users, func(u UserCall) bool { return a.users[loginKey(u.LoginID)] })
}

func (a *activeFault) draw() bool {
	return a.Probability == 0 || a.rng.Float64() < a.Probability
}

// forCall returns the fault to play on a call, and counts the hit: the first that covers the call and is drawn, nil
// if there is none.
func (s *faultSet) forCall(endpoint string, users []UserCall) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.prune()

	for _, a := range s.active {
		if slices.Contains(callFaults, a.Kind) && a.covers(endpoint) && a.befalls(users) && a.draw() {
			a.Hits++
			f := a.Fault
			return &f
		}
	}

	return nil
}

// anyForUsers reports, cheaply, whether forUsers could choose anybody.
func (s *faultSet) anyForUsers(endpoint string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.prune()

	return slices.ContainsFunc(s.active, func(a *activeFault) bool {
		return slices.Contains(userFaults, a.Kind) && a.covers(endpoint)
	})
}

// forUsers chooses which users of a call are affected. It returns nil if there are none, and otherwise a fault or nil
// for each key.
func (s *faultSet) forUsers(endpoint string, keys []string) []*Fault {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.prune()

	var chosen []*Fault
	for _, a := range s.active {
		if !slices.Contains(userFaults, a.Kind) || !a.covers(endpoint) {
			continue
		}

		hit := false
		for i, key := range keys {
			if a.users != nil && !a.users[key] || chosen != nil && chosen[i] != nil || !a.draw() {
				continue
			}

			if chosen == nil {
				chosen = make([]*Fault, len(keys))
			}

			f := a.Fault
			chosen[i], hit = &f, true
		}

		if hit {
			a.Hits++
		}
	}

	return chosen
}

// retryAfterHeader returns the Retry-After header of a status fault.
func (f *Fault) retryAfterHeader() (string, error) {
	text, ok := strings.CutPrefix(f.RetryAfter, "date+")
	if !ok {
		return f.RetryAfter, nil
	}

	d, err := time.ParseDuration(text)
	if err != nil {
		return "", fmt.Errorf("retry_after %q: write date+7s", f.RetryAfter)
	}

	return httpDate(time.Now().Add(d)), nil
}

// httpDate rounds up: an HTTP date has whole seconds, and a client must not get too early a time.
func httpDate(t time.Time) string {
	return t.Add(time.Second - time.Nanosecond).UTC().Truncate(time.Second).Format(http.TimeFormat)
}
