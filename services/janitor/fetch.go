package janitor

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

	"bobosync/shared/athoc"
	"bobosync/shared/brake"
	"bobosync/shared/topology"
)

// ErrNobody means that AtHoc returned no user, or none with an employee id. Such a mapping is never published: it would
// unmap everybody, and is far more likely a mistake than the truth.
var ErrNobody = errors.New("no AtHoc user with an employee id was found")

// passes bounds how often the users are read in a row while the directory changes under the reader's hands.
const passes = 5

// pageStep is by how much the pages of a pass are smaller than those of the one before, so that users who move from page
// to page do so at other places.
const pageStep = 37

// The pauses between two pages after AtHoc has throttled a reading, beside what the brake does: a reading begins anew when
// one of its calls fails, so it has to be slow enough to get through in one piece.
const (
	paceFirst = time.Second
	paceMost  = 30 * time.Second
)

// directory is where users are searched; [athoc.Client] is one.
type directory interface {
	SearchUsers(ctx context.Context, q athoc.Query) iter.Seq2[athoc.Page, error]
}

// gate lets calls to AtHoc through; [brake.Brake] is one.
type gate interface {
	Wait(ctx context.Context) (brake.Permit, error)
	Pace(ctx context.Context) error
	Settle(ctx context.Context, p brake.Permit, err error) error
}

// fetcher reads all users from AtHoc.
type fetcher struct {
	users directory
	gate  gate
	// collar is the attribute with the employee id, extras are attributes that are fetched beside it.
	collar string
	extras []string
	log    *slog.Logger

	pace time.Duration
}

// fetch returns all users. A user who was added or removed meanwhile may or may not be among them; every other one is.
//
// AtHoc cuts its list into pages anew for each call, so that a user who is removed while the list is read shifts another
// one from a page that comes to one that was read already. A pass through the pages is good if the total stayed the same,
// nobody came twice and as many came as the total says. If the directory does not hold still for as much as one pass, the
// last two passes are put together. Their pages are of different sizes, so nobody is likely to slip through both.
func (f *fetcher) fetch(ctx context.Context) ([]person, error) {
	var before []person
	for pass := 1; ; pass++ {
		r, err := f.pass(ctx, athoc.MaxPageSize-(pass-1)*pageStep)
		if err != nil {
			return nil, f.failed(err)
		}
		f.log.Debug("users read", "pass", pass, "users", len(r.people), "pages", r.pages, "steady", r.steady)
		if r.steady {
			f.pace = 0
			return r.people, nil
		}
		if pass == passes {
			f.pace = 0
			f.log.Warn("AtHoc's users kept changing while they were read; what the last two readings found is put together",
				"readings", passes, "users_before", len(before), "users_last", len(r.people), "total_users", r.total)
			return append(before, r.people...), nil
		}
		before = r.people
	}
}

// failed prepares the next reading for what went wrong in this one.
func (f *fetcher) failed(err error) error {
	call, ok := errors.AsType[*athoc.CallError](err)
	switch {
	case !ok:
	case call.Kind == athoc.Throttled:
		f.pace = min(max(2*f.pace, paceFirst), paceMost)
	case call.Kind == athoc.BadRequest && len(f.extras) > 0:
		// Old settings may name attributes that are gone; they are not needed.
		f.log.Warn("AtHoc refuses to return the attributes asked for; from now on only the one with the employee id is asked for: "+
			"remove USER_ATTRIBUTES from the settings", "error", err)
		f.extras = nil
	case call.Kind == athoc.BadRequest:
		return fmt.Errorf("read the users from AtHoc (is %s, of COLLAR_ID_FIELD, an attribute of the organisation?): %w", f.collar, err)
	}
	return fmt.Errorf("read the users from AtHoc: %w", err)
}

// reading is what one pass through the pages found.
type reading struct {
	people []person
	pages  int
	// total is how many users there are by AtHoc's last word.
	total int
	// steady says that the directory did not change, as far as can be told.
	steady bool
}

// pass reads all pages of the given size once. Each page call goes through the gate.
func (f *fetcher) pass(ctx context.Context, size int) (reading, error) {
	r := reading{steady: true}
	seen := map[string]bool{}
	permit, err := f.gate.Wait(ctx)
	if err != nil {
		return r, err
	}
	query := athoc.Query{Fields: append([]string{f.collar}, f.extras...), PageSize: size, Repeat: f.gate.Pace}
	for page, err := range f.users.SearchUsers(ctx, query) {
		if settled := f.gate.Settle(ctx, permit, err); err != nil || settled != nil {
			return r, errors.Join(err, settled)
		}
		f.add(&r, page, seen)
		if page.Total > 0 && len(r.people) >= page.Total {
			r.steady = r.steady && len(r.people) == page.Total
			return r, nil
		}
		sleep(ctx, f.pace)
		if permit, err = f.gate.Wait(ctx); err != nil {
			return r, err
		}
	}
	// The last call found nobody, or the search ended of itself.
	r.steady = r.steady && len(r.people) == r.total
	return r, f.gate.Settle(ctx, permit, nil)
}

// add takes in a page, and notes signs of a change.
func (f *fetcher) add(r *reading, page athoc.Page, seen map[string]bool) {
	if r.pages > 0 && page.Total != r.total {
		r.steady = false
	}
	r.pages, r.total = r.pages+1, page.Total
	for _, u := range page.Users {
		name := topology.NormalUsername(u.Username())
		if seen[name] && name != "" {
			r.steady = false
		}
		seen[name] = true
		r.people = append(r.people, person{username: strings.TrimSpace(u.Username()), collar: u.Attribute(f.collar)})
	}
}

// extraAttributes are those of USER_ATTRIBUTES that are fetched beside the collar id.
func extraAttributes(attributes []string, collar string) []string {
	var extras []string
	for _, a := range attributes {
		a = strings.TrimSpace(a)
		known := strings.EqualFold(a, collar) || slices.ContainsFunc(extras, func(e string) bool { return strings.EqualFold(e, a) })
		if a != "" && !known {
			extras = append(extras, a)
		}
	}
	return extras
}
