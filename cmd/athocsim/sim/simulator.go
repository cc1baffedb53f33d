// Package sim is a simulator of the part of the AtHoc web API (v2) that a duty-status synchronisation uses: the
// access token, the user search and SyncByCommonNames. It is strict: what the documentation does not promise is
// refused, and what it leaves open (the order of answers, the form of empty values) varies. Faults are switched on
// while it runs, and every call is recorded, so that others can judge what a client did.
//
// AtHoc is proprietary; the behaviour follows BlackBerry's public documentation of releases 7.9 to 7.19. README.md
// lists where the documentation is silent and what was decided.
package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrClosed is returned by Start after Close.
var ErrClosed = errors.New("the simulator is closed")

// Simulator is one simulated AtHoc organisation. Its methods are safe for concurrent use.
type Simulator struct {
	opts    Options
	initial []User
	logger  *slog.Logger
	users   *userStore
	faults  *faultSet
	calls   *callLog
	tokens  *tokenStore
	api     http.Handler
	admin   http.Handler
	tls     *certificates

	mu       sync.Mutex // guards what follows
	settings Settings
	rng      *rand.Rand
	buckets  map[string]*bucket
	server   *server // nil until Start
	closed   bool

	ctx     context.Context // ends with Close; calls that hang wait for it
	stop    context.CancelFunc
	working sync.WaitGroup // calls in progress; added to under mu while not closed
	closing sync.Once
	err     error // the result of Close
}

// New makes a simulator from o, with defaults for unset options. It serves nothing before Start, but Handler can be
// used at once. The caller must call Close in the end.
func New(o Options) (*Simulator, error) {
	o.setDefaults()

	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("simulator options: %w", err)
	}

	dir, err := newUserStore(o.attributes(), o.History)
	if err != nil {
		return nil, fmt.Errorf("simulator options: %w", err)
	}

	s := &Simulator{opts: o, initial: slices.Clone(o.Users), logger: o.Logger, users: dir, faults: newFaultSet(o.Seed),
		tokens: newTokenStore(), settings: o.Settings, rng: rand.New(rand.NewPCG(o.Seed, 0x73696d)), buckets: map[string]*bucket{}}
	s.opts.Users = nil
	s.ctx, s.stop = context.WithCancel(context.Background())
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}

	s.api, s.admin = s.apiHandler(), s.adminHandler()

	return s, nil
}

// open opens the state and the other files that the options name.
func (s *Simulator) open() error {
	found := false
	if s.opts.StateFile != "" {
		var err error
		if found, err = openJournal(s.opts.StateFile, s.users); err != nil {
			return err
		}
	}

	if !found {
		if err := s.users.replace(s.initial); err != nil {
			return fmt.Errorf("users at the start: %w", err)
		}
	}

	var err error
	if s.calls, err = newCallLog(&s.opts); err != nil {
		return err
	}

	if s.opts.TLS || s.opts.CertFile != "" {
		if s.tls, err = openCertificates(&s.opts); err != nil {
			return err
		}
	}

	return nil
}

// Handler returns a handler of the API, and of the /sim/ pages unless Options.AdminAddr gives them an address of
// their own. Connection faults need a real HTTP/1.1 connection; on any other, the handler is aborted instead.
func (s *Simulator) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.opts.AdminAddr == "" && (r.URL.Path == "/sim" || strings.HasPrefix(r.URL.Path, "/sim/")) {
			s.admin.ServeHTTP(w, r)
			return
		}

		s.api.ServeHTTP(w, r)
	})
}

// AdminHandler returns a handler of the /sim/ pages alone.
func (s *Simulator) AdminHandler() http.Handler { return s.admin }

// Close stops serving, ends the calls that hang, waits for all calls and saves the state. It may be called more than
// once.
func (s *Simulator) Close() error {
	s.closing.Do(func() {
		s.mu.Lock()
		s.closed = true
		srv := s.server
		s.mu.Unlock()
		s.stop()

		var errs []error
		if srv != nil {
			errs = append(errs, srv.close())
		}

		s.working.Wait()

		if s.calls != nil {
			errs = append(errs, s.calls.close())
		}

		errs = append(errs, s.users.close())
		if s.tls != nil {
			errs = append(errs, s.tls.close())
		}

		s.err = errors.Join(errs...)
	})

	return s.err
}

// enter registers work that Close waits for. It returns false once the simulator is closed.
func (s *Simulator) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.closed {
		return false
	}

	s.working.Add(1)

	return true
}

// Settings returns the current settings.
func (s *Simulator) Settings() Settings {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.settings
}

// SetSettings replaces the settings, with defaults for unset fields. Tokens already issued keep their lifetime.
func (s *Simulator) SetSettings(next Settings) error {
	next.setDefaults()

	if err := next.validate(); err != nil {
		return fmt.Errorf("settings: %w", err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if next.Throttle != s.settings.Throttle {
		s.buckets = map[string]*bucket{}
	}

	s.settings = next
	s.logger.Info("settings changed")

	return nil
}

// Attributes returns the organisation's attributes, LOGIN_ID first.
func (s *Simulator) Attributes() []Attribute { return s.users.attributes() }

// DefineAttributes adds attributes. An attribute that is defined already must have the same type.
func (s *Simulator) DefineAttributes(defs ...Attribute) error { return s.users.define(defs) }

// User returns a user; letter case does not count.
func (s *Simulator) User(login string) (User, bool) {
	u, _, ok := s.users.user(login)
	return u, ok
}

// History returns the latest changes of a user's attributes, oldest first. It is empty when the process starts.
func (s *Simulator) History(login string) []Change {
	_, changes, _ := s.users.user(login)
	return changes
}

// Users returns all users by USER_ID.
func (s *Simulator) Users() []User {
	users, _ := s.users.users(0, 0)
	return users
}

// PutUsers creates users, or changes those that exist. An attribute that is not named keeps its value; "" clears it.
// On an error no user is changed.
func (s *Simulator) PutUsers(users ...User) error { return s.users.put(users) }

// RemoveUsers removes users and returns how many of them existed.
func (s *Simulator) RemoveUsers(logins ...string) (int, error) { return s.users.remove(logins) }

// ClearAttribute empties an attribute of the users named, or of all users if none are, and returns how many had a
// value.
func (s *Simulator) ClearAttribute(attribute string, logins ...string) (int, error) {
	return s.users.clear(attribute, logins)
}

// State returns an attribute's values by username, for the users that have a value.
func (s *Simulator) State(attribute string) (map[string]string, error) {
	return s.users.state(attribute)
}

// DutyState returns State of the duty attribute: who is on duty, and since when.
func (s *Simulator) DutyState() map[string]string {
	state, err := s.users.state(s.opts.DutyAttribute)
	if err != nil { // New defined it, and definitions are never removed
		panic(err)
	}

	return state
}

// AddFault switches a fault on and returns it with its ID.
func (s *Simulator) AddFault(f Fault) (Fault, error) { return s.addFault(f, nil) }

// Faults returns the faults that are on.
func (s *Simulator) Faults() []Fault { return s.faults.list() }

// ClearFault switches a fault off, and opens a closed port again. It returns false if there is no fault with that ID.
func (s *Simulator) ClearFault(id int) bool {
	ok := id > 0 && s.faults.clear(id)
	s.reopenIfCleared()
	return ok
}

// ClearFaults switches all faults off.
func (s *Simulator) ClearFaults() {
	s.faults.clear(0)
	s.reopenIfCleared()
}

// Calls returns the finished calls that are still held, by Seq. They share no memory with the simulator that could
// change.
func (s *Simulator) Calls(f CallFilter) []Call { return s.calls.find(f) }

// Stats returns the counts since the last reset.
func (s *Simulator) Stats() Stats {
	st := s.calls.stats()
	st.Users = s.users.size()
	return st
}

// ResetCalls forgets the calls held and the counts. Sequence numbers continue, and the call log file is left alone.
func (s *Simulator) ResetCalls() { s.calls.reset() }

// ResetUsers replaces all users with those given to New, with new ids and no history.
func (s *Simulator) ResetUsers() error { return s.users.replace(s.initial) }

// RevokeTokens revokes every token that has been issued, and returns how many were good.
func (s *Simulator) RevokeTokens() int { return s.tokens.revoke() }

// shuffle permutes n elements, unless the settings keep the order.
func (s *Simulator) shuffle(n int, swap func(i, j int)) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if !s.settings.KeepOrder {
		s.rng.Shuffle(n, swap)
	}
}

func (s *Simulator) latency(users int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()

	l := s.settings.Latency
	d := time.Duration(l.Fixed) + time.Duration(users)*time.Duration(l.PerUser)
	if l.Jitter > 0 {
		d += time.Duration(s.rng.Int64N(int64(l.Jitter)))
	}

	return d
}
