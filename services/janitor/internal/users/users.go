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

// passes is how often the users are read in a row if the directory changes during each pass.
const passes = 5

// pageStep is by how much the pages of each pass are smaller than those of the previous one, so that page boundaries,
// at which users can be missed, fall in other places.
const pageStep = 37

// The pauses between two pages after AtHoc has throttled a reading, in addition to those of the circuit breaker. A
// reading starts over when one of its calls fails, so it must be slow enough to get through in one piece.
const (
	paceFirst = time.Second
	maxPace   = 30 * time.Second
)

// Searcher searches users; [athoc.Client] implements it.
type Searcher interface {
	SearchUsers(ctx context.Context, q athoc.Query) iter.Seq2[athoc.Page, error]
}

// Breaker lets calls to AtHoc through; [breaker.Breaker] implements it.
type Breaker interface {
	Wait(ctx context.Context) (breaker.Permit, error)
	Pace(ctx context.Context) error
	Settle(ctx context.Context, p breaker.Permit, err error) error
}

// Person is an AtHoc user.
type Person struct {
	// Username is the LOGIN_ID, spelt as AtHoc spells it.
	Username string
	// Value is the attribute that was asked for, verbatim; empty if the user has none.
	Value string
	// Asked is a moment just before AtHoc was asked for the page that has the user.
	Asked time.Time
}

// Query says what to read.
type Query struct {
	// Attribute is the attribute that is read of each user. Extras are attributes that are fetched with it although
	// they are not needed.
	Attribute string
	Extras    []string
	// Setting is the variable that names the attribute; the error says so when AtHoc does not know the attribute.
	Setting string
}

// Reader reads users from AtHoc. Only one reading is under way at a time: a second one waits until the first has
// ended.
type Reader struct {
	// Users is asked through Breaker, which may be replaced whenever no reading is under way.
	Users   Searcher
	Breaker Breaker
	Log     *slog.Logger
	// Now is the clock for Person.Asked.
	Now func() time.Time
	// Room is how many bytes a reading may take; 0 means without limit.
	Room int64

	turn chan struct{}
	pace time.Duration
	// refused reports that AtHoc no longer returns the extras.
	refused bool
}

// NewReader returns a reader that has no breaker yet.
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

// Short is the error of a reading in which AtHoc kept returning fewer users than it says it has. The users that it did
// return are returned with the error.
type Short struct {
	// Found is the number of users that AtHoc returned, Total the number that it says it has.
	Found, Total int
}

// Error implements error.
func (s *Short) Error() string {
	return fmt.Sprintf("AtHoc says that it has %d users, and returned %d of them in %d readings", s.Total, s.Found, passes)
}

// All returns all users, or a *Short with those that AtHoc returned. A user who was added or removed during the
// reading may or may not be among them; every other user is. If a user occurs twice, the last occurrence counts.
//
// AtHoc divides its list into pages again at each call. A user who is removed while the list is read therefore shifts
// another user from a page that is still to be read to one that has been read. A pass through the pages is good if the
// total stayed the same, no user occurred twice, and as many users were returned as the total says. If the directory
// keeps changing during every pass, All combines the last two. Their pages are of different sizes, so it is unlikely
// that both missed the same user.
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

// together combines the last two passes.
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

// different counts the users of two passes, each once. Users without a name cannot be distinguished, so only those of
// the last pass count.
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

// Having returns the users for whom the attribute has a value, in one pass. A user who changes during the pass, or who
// is shifted to another page by one who changes, may be missing or occur twice.
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

// failed changes what the reader does in the next reading, as far as the error calls for it, and returns the error to
// report.
func (r *Reader) failed(q Query, err error) error {
	call, ok := errors.AsType[*athoc.CallError](err)
	switch {
	case !ok:
	case call.Kind == athoc.Throttled:
		r.pace = min(max(2*r.pace, paceFirst), maxPace)
	case call.Kind == athoc.BadRequest && len(q.Extras) > 0:
		// Old settings may name attributes that no longer exist; they are not needed.
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
	size   int64 // about how many bytes the people take
	// total is how many users there are according to AtHoc's last answer.
	total int
	// steady: there was no sign of a change to the directory.
	steady bool
}

// pass reads all pages of the given size once. Each call for a page goes through the breaker. Before is what an
// earlier pass found; it counts towards Room.
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

		_ = pause.For(ctx, r.pace) // if ctx has ended, the breaker returns the error
		if permit, err = r.Breaker.Wait(ctx); err != nil {
			return got, err
		}

		asked = r.Now()
	}

	// The last call returned no users, or the search ended by itself.
	got.steady = got.steady && len(got.people) == got.total

	return got, r.Breaker.Settle(ctx, permit, nil)
}

// add adds a page, and checks it for signs of a change.
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

// Extras returns the attributes that are fetched in addition to the needed one, each once.
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

// MaxText is the most bytes that an employee id or a username can have. A longer one would not fit into a message
// together with others.
const MaxText = 1024

// JSONSize returns how many bytes a text takes in JSON.
func JSONSize(text string) int {
	quoted, _ := json.Marshal(text) // a string can always be marshalled
	return len(quoted)
}
