// Package users reads AtHoc's users, page by page, through the circuit breaker that all callers of AtHoc share.
package users

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/pause"
	"bobosync/shared/topology"
)

// passes bounds how often the users are read in a row while the directory changes meanwhile.
const passes = 5

// pageStep is by how much the pages of a pass are smaller than those of the one before, so that users who move from page
// to page do so at other places.
const pageStep = 37

// The pauses between two pages after AtHoc has throttled a reading, beside what the circuit breaker does: a reading starts over when
// one of its calls fails, so it has to be slow enough to get through in one piece.
const (
	paceFirst = time.Second
	maxPace   = 30 * time.Second
)

// Searcher is where users are searched; [athoc.Client] is one.
type Searcher interface {
	SearchUsers(ctx context.Context, q athoc.Query) iter.Seq2[athoc.Page, error]
}

// Breaker lets calls to AtHoc through; [breaker.Breaker] is one.
type Breaker interface {
	Wait(ctx context.Context) (breaker.Permit, error)
	Pace(ctx context.Context) error
	Settle(ctx context.Context, p breaker.Permit, err error) error
}

// Person is an AtHoc user.
type Person struct {
	// Username is the LOGIN_ID, spelt as AtHoc spells it.
	Username string
	// Value is that of the attribute that was asked for, as it stands there; empty if there is none.
	Value string
	// Asked is a moment just before AtHoc was asked for the page that the user came with.
	Asked time.Time
}

// Query says what to read.
type Query struct {
	// Attribute is what is wanted of each user, Extras are attributes that are fetched beside it and not needed.
	Attribute string
	Extras    []string
	// Setting is the variable that names the attribute, for the error when AtHoc does not know it.
	Setting string
}

// Reader reads users from AtHoc. One reading goes on at a time: a second one waits until the first has ended.
type Reader struct {
	// Users is asked through Breaker, which may be another one each time nothing is being read.
	Users   Searcher
	Breaker Breaker
	Log     *slog.Logger
	// Now is the clock of Person.Asked.
	Now func() time.Time
	// Room is how many bytes a reading may take; 0 is without limit.
	Room int64

	turn chan struct{}
	pace time.Duration
	// refused are extras that AtHoc does not return any more.
	refused bool
}

// NewReader returns a reader without a breaker.
func NewReader(users Searcher, now func() time.Time, log *slog.Logger) *Reader {
	return &Reader{Users: users, Now: now, Log: log, Room: Room(), turn: make(chan struct{}, 1)}
}

// take waits until nothing else is being read; the returned function ends the reading.
func (r *Reader) take(ctx context.Context) (end func(), err error) {
	select {
	case r.turn <- struct{}{}:
		return func() { <-r.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Short is the error of a reading in which AtHoc returned fewer users than it says that it has, as often as it was asked. What it returned
// comes with it.
type Short struct {
	// Found are those that it returned, Total is how many it says that it has.
	Found, Total int
}

// Error implements error.
func (s *Short) Error() string {
	return fmt.Sprintf("AtHoc says that it has %d users, and returned %d of them in %d readings", s.Total, s.Found, passes)
}

// All returns all users, or a *Short with those that AtHoc returned. A user who was added or removed meanwhile may or may not be among them;
// every other one is. A user may come twice; what comes last counts.
//
// AtHoc cuts its list into pages again at each call, so that a user who is removed while the list is read shifts another
// one from a page that comes to one that was read already. A pass through the pages is good if the total stayed the same,
// nobody came twice and as many came as the total says. If the directory does not hold still for as much as one pass, the
// last two passes are put together. Their pages are of different sizes, so nobody is likely to slip through both.
func (r *Reader) All(ctx context.Context, q Query) ([]Person, error) {
	end, err := r.take(ctx)
	if err != nil {
		return nil, err
	}
	defer end()

	if r.refused {
		q.Extras = nil
	}

	var before reading
	for pass := 1; ; pass++ {
		got, err := r.pass(ctx, q, "", athoc.MaxPageSize-(pass-1)*pageStep, before.people)
		if err != nil {
			return nil, r.failed(q, err)
		}

		r.Log.Debug("users read", "pass", pass, "users", len(got.people), "pages", got.pages, "steady", got.steady)

		if got.steady {
			r.pace = 0
			return got.people, nil
		}

		if pass == passes {
			r.pace = 0
			return r.together(before, got)
		}

		before = got
	}
}

// together puts the last two readings together.
func (r *Reader) together(before, last reading) ([]Person, error) {
	people := append(before.people, last.people...)
	short := &Short{Found: different(before.people, last.people), Total: min(before.total, last.total)}
	if short.Found < short.Total {
		r.Log.Warn("AtHoc returns fewer users than it says that it has: ask whoever runs it why", "readings", passes,
			"users", short.Found, "total_users", short.Total)
		return people, short
	}

	r.Log.Warn("AtHoc's users kept changing while they were read; what the last two readings found is put together",
		"readings", passes, "users_before", len(before.people), "users_last", len(last.people), "total_users", last.total)

	return people, nil
}

// different counts the users of two readings, each once. Those without a name cannot be told from each other: they count as in the last one.
func different(before, last []Person) int {
	names, nameless := map[string]bool{}, 0
	for _, p := range before {
		names[topology.NormalUsername(p.Username)] = true
	}

	for _, p := range last {
		if name := topology.NormalUsername(p.Username); name != "" {
			names[name] = true
		} else {
			nameless++
		}
	}

	delete(names, "")

	return len(names) + nameless
}

// Having returns the users for whom the attribute has a value, in one pass: a user who changes meanwhile, or is shifted from
// page to page by one who does, may be missing or come twice.
func (r *Reader) Having(ctx context.Context, q Query) ([]Person, error) {
	end, err := r.take(ctx)
	if err != nil {
		return nil, err
	}
	defer end()

	got, err := r.pass(ctx, q, q.Attribute+" pr", athoc.MaxPageSize, nil)
	if err != nil {
		return nil, r.failed(q, err)
	}

	r.pace = 0

	if len(got.people) == 0 && got.total > 0 {
		return nil, fmt.Errorf("read the users from AtHoc: it says that %d have a value of %s, and returns none of them", got.total, q.Attribute)
	}

	return got.people, nil
}

// failed prepares the next reading for what went wrong in this one.
func (r *Reader) failed(q Query, err error) error {
	call, ok := errors.AsType[*athoc.CallError](err)
	switch {
	case !ok:
	case call.Kind == athoc.Throttled:
		r.pace = min(max(2*r.pace, paceFirst), maxPace)
	case call.Kind == athoc.BadRequest && len(q.Extras) > 0:
		// Old settings may name attributes that are gone; they are not needed.
		r.Log.Warn("AtHoc refuses to return the attributes asked for; from now on only the one with the employee id is asked for: "+
			"remove USER_ATTRIBUTES from the settings", "error", err)
		r.refused = true
	case call.Kind == athoc.BadRequest:
		return fmt.Errorf("read the users from AtHoc (is %s, of %s, an attribute of the organisation?): %w", q.Attribute, q.Setting, err)
	}

	return fmt.Errorf("read the users from AtHoc: %w", err)
}

// reading is what one pass through the pages found.
type reading struct {
	people []Person
	pages  int
	size   int64 // of the people, about, in bytes
	// total is how many users there are by AtHoc's last answer.
	total int
	// steady: the directory did not change, as far as can be seen.
	steady bool
}

// pass reads all pages of the given size once. Each page call goes through the breaker. Before is what is kept of an earlier pass.
func (r *Reader) pass(ctx context.Context, q Query, criteria string, size int, before []Person) (reading, error) {
	got := reading{steady: true}
	for _, p := range before {
		got.size += p.size()
	}

	seen := map[string]bool{}

	permit, err := r.Breaker.Wait(ctx)
	if err != nil {
		return got, err
	}

	asked := r.Now()
	query := athoc.Query{
		Fields: append([]string{q.Attribute}, q.Extras...), Criteria: criteria, PageSize: size, Repeat: r.Breaker.Pace,
	}
	for page, err := range r.Users.SearchUsers(ctx, query) {
		if settled := r.Breaker.Settle(ctx, permit, err); err != nil || settled != nil {
			return got, errors.Join(err, settled)
		}

		got.add(page, q.Attribute, asked, seen)

		if r.Room > 0 && got.size > r.Room {
			return got, errTooMany
		}

		if page.Total > 0 && len(got.people) >= page.Total {
			got.steady = got.steady && len(got.people) == page.Total
			return got, nil
		}

		_ = pause.For(ctx, r.pace) // the breaker says that ctx has ended
		if permit, err = r.Breaker.Wait(ctx); err != nil {
			return got, err
		}

		asked = r.Now()
	}

	// The last call found nobody, or the search ended of itself.
	got.steady = got.steady && len(got.people) == got.total

	return got, r.Breaker.Settle(ctx, permit, nil)
}

// add adds a page, and notes signs of a change.
func (got *reading) add(page athoc.Page, attribute string, asked time.Time, seen map[string]bool) {
	if got.pages > 0 && page.Total != got.total {
		got.steady = false
	}

	got.pages, got.total = got.pages+1, page.Total
	for _, u := range page.Users {
		p := Person{Username: clipped(strings.TrimSpace(u.Username())), Value: clipped(u.Attribute(attribute)), Asked: asked}

		name := topology.NormalUsername(p.Username)
		if seen[name] && name != "" {
			got.steady = false
		}

		seen[name] = true
		got.size += p.size()
		got.people = append(got.people, p)
	}
}

// Extras are those of the attributes that are fetched beside the one that is needed.
func Extras(attributes []string, needed string) []string {
	var extras []string
	for _, a := range attributes {
		a = strings.TrimSpace(a)
		known := strings.EqualFold(a, needed) || slices.ContainsFunc(extras, func(e string) bool { return strings.EqualFold(e, a) })
		if a != "" && !known {
			extras = append(extras, a)
		}
	}

	return extras
}

// MaxText is the most bytes of an employee id or a username that can be one. What is longer would not fit into a message with
// others.
const MaxText = 1024

// JSONSize is how many bytes a text takes in JSON.
func JSONSize(text string) int {
	quoted, _ := json.Marshal(text) // there is no string that it cannot write
	return len(quoted)
}
