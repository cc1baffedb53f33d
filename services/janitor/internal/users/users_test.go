package users

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/bustest"
)

// list is an AtHoc whose users change between two pages.
type list struct {
	users []string
	// size is the number of users in a page, whatever the query says; 0 means that the query decides.
	size  int
	calls int
	// before is called before each page, with the number of calls so far.
	before func(calls int) error
	// hidden is the number of users that are counted in the total but never returned.
	hidden   int
	fields   []string
	criteria string
}

func (l *list) SearchUsers(_ context.Context, q athoc.Query) iter.Seq2[athoc.Page, error] {
	l.fields, l.criteria = q.Fields, q.Criteria
	size := q.PageSize
	if l.size > 0 {
		size = l.size
	}

	return func(yield func(athoc.Page, error) bool) {
		for fetched, number := 0, 0; ; number++ {
			if l.before != nil {
				if err := l.before(l.calls); err != nil {
					yield(athoc.Page{}, err)
					return
				}
			}

			l.calls++
			page := athoc.Page{Number: number, Total: len(l.users) + l.hidden}
			for _, u := range l.users[min(number*size, len(l.users)):min((number+1)*size, len(l.users))] {
				page.Users = append(page.Users, athoc.User{"LOGIN_ID": u, "Collar-Number": "c-" + u})
			}

			fetched += len(page.Users)
			nobody := len(page.Users) == 0
			if nobody && (number > 0 || page.Total == 0) || !yield(page, nil) || nobody || len(page.Users) < size && fetched >= page.Total {
				return
			}
		}
	}
}

// fakeBreaker lets all calls through and counts their results.
type fakeBreaker struct{ waits, settled, failed int }

func (g *fakeBreaker) Wait(ctx context.Context) (breaker.Permit, error) {
	g.waits++
	return breaker.Permit{}, ctx.Err()
}

func (g *fakeBreaker) Pace(context.Context) error { return nil }

func (g *fakeBreaker) Settle(_ context.Context, _ breaker.Permit, err error) error {
	g.settled++
	if err != nil {
		g.failed++
	}

	return nil
}

var collars = Query{Attribute: "Collar-Number", Setting: "COLLAR_ID_FIELD"}

func reader(l *list) (*Reader, *fakeBreaker) {
	g := &fakeBreaker{}
	r := NewReader(l, time.Now, bustest.Logger())
	r.Breaker = g
	return r, g
}

func names(people []Person) []string {
	var out []string
	for _, p := range people {
		out = append(out, p.Username)
	}

	slices.Sort(out)

	return slices.Compact(out)
}

func numbered(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("u%05d", i))
	}

	return out
}

func TestFetchReadsEachPageOnce(t *testing.T) {
	t.Parallel()

	for users, calls := range map[int]int{0: 1, 1: 1, 9: 1, 10: 1, 11: 2, 100: 10} {
		t.Run(fmt.Sprint(users), func(t *testing.T) {
			l := &list{users: numbered(users), size: 10}
			f, g := reader(l)
			got, err := f.All(t.Context(), collars)
			require.NoError(t, err)
			assert.Len(t, got, users)
			assert.Equal(t, calls, l.calls)
			assert.Equal(t, g.waits, g.settled, "each permit is settled")
			assert.Equal(t, calls, g.settled, "each call has its permit")
		})
	}
}

func TestFetchMissesNobodyWhenUsersAreRemovedBetweenPages(t *testing.T) {
	t.Parallel()

	l := &list{users: numbered(100), size: 10}
	l.before = func(calls int) error {
		if calls == 3 {
			l.users = slices.Delete(l.users, 2, 7) // moves five users onto a page that has been read
		}
		return nil
	}
	f, _ := reader(l)
	got, err := f.All(t.Context(), collars)
	require.NoError(t, err)
	assert.Equal(t, l.users, names(got))
	assert.Equal(t, 20, l.calls, "two passes, the second of which held still")
}

func TestFetchSeesAUserWhoComesTwice(t *testing.T) {
	t.Parallel()

	l := &list{users: numbered(40), size: 10}
	l.before = func(calls int) error {
		if calls == 2 { // one user leaves at the end and one joins at the start: the total stays the same
			l.users = slices.Insert(l.users[:39], 0, "u00000a")
		}
		return nil
	}
	f, _ := reader(l)
	got, err := f.All(t.Context(), collars)
	require.NoError(t, err)

	want := slices.Sorted(slices.Values(l.users))
	assert.Equal(t, want, names(got))
	assert.Equal(t, 8, l.calls)
}

func TestFetchOfADirectoryThatNeverHoldsStill(t *testing.T) {
	t.Parallel()

	staying := numbered(9500)
	l := &list{users: slices.Clone(staying)}
	l.before = func(calls int) error { // guests come and go at the start of the list, so that all users keep shifting
		if calls%2 == 0 {
			l.users = slices.Insert(l.users, 0, fmt.Sprintf("guest%d", calls))
		} else {
			l.users = l.users[1:]
		}

		return nil
	}
	f, _ := reader(l)
	got, err := f.All(t.Context(), collars)
	require.NoError(t, err)

	found := names(got)
	for _, u := range staying {
		_, ok := slices.BinarySearch(found, u)
		assert.True(t, ok, u)
	}

	assert.LessOrEqual(t, l.calls, passes*13, "the number of passes is bounded")
}

func TestFetchOfFewerUsersThanThereAreIsNotTakenForAll(t *testing.T) {
	t.Parallel()

	l := &list{users: numbered(2500), hidden: 3}
	f, _ := reader(l)
	got, err := f.All(t.Context(), collars)
	short := new(Short)
	require.ErrorAs(t, err, &short)
	assert.Equal(t, Short{Found: 2500, Total: 2503}, *short)
	assert.Equal(t, l.users, names(got), "what it returned comes with it")

	l.users, l.hidden = nil, 500
	got, err = f.All(t.Context(), collars)
	require.ErrorAs(t, err, &short)
	assert.Equal(t, Short{Found: 0, Total: 500}, *short)
	assert.Empty(t, got)
}

func TestFetchFailsAsAWhole(t *testing.T) {
	t.Parallel()

	outage := &athoc.CallError{Kind: athoc.Outage, Op: athoc.OpSearch, Status: 503}
	l := &list{users: numbered(100), size: 10, before: func(calls int) error {
		if calls == 4 {
			return outage
		}
		return nil
	}}
	f, g := reader(l)
	got, err := f.All(t.Context(), collars)
	require.ErrorIs(t, err, outage)
	assert.Empty(t, got)
	assert.Equal(t, 1, g.failed)
	assert.Equal(t, g.waits, g.settled)
}

func TestFetchDoesWithoutAttributesThatAreGone(t *testing.T) {
	t.Parallel()

	l := &list{users: numbered(5), size: 10}
	f, _ := reader(l)
	query := collars
	query.Extras = []string{"GONE"}
	l.before = func(int) error {
		if slices.Contains(l.fields, "GONE") {
			return &athoc.CallError{Kind: athoc.BadRequest, Op: athoc.OpSearch, Detail: "GONE is unknown"}
		}
		return nil
	}
	_, err := f.All(t.Context(), query)
	require.Error(t, err)
	got, err := f.All(t.Context(), query)
	require.NoError(t, err)
	assert.Len(t, got, 5)
	assert.Equal(t, []string{"Collar-Number"}, l.fields)
}

func TestFetchNamesTheSettingOfAnUnknownCollarField(t *testing.T) {
	t.Parallel()

	l := &list{size: 10, before: func(int) error { return &athoc.CallError{Kind: athoc.BadRequest, Op: athoc.OpSearch} }}
	f, _ := reader(l)
	_, err := f.All(t.Context(), collars)
	require.ErrorContains(t, err, "COLLAR_ID_FIELD")
}

func TestFetchSlowsDownUntilAThrottledReadingGetsThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 3 * time.Second // the time in which AtHoc accepts one more call; it accepts three at once
		tokens, filled := 3.0, time.Now()
		l := &list{users: numbered(100), size: 10, before: func(int) error {
			now := time.Now()

			tokens, filled = min(3, tokens+now.Sub(filled).Seconds()/limit.Seconds()), now
			if tokens < 1 {
				return &athoc.CallError{Kind: athoc.Throttled, Op: athoc.OpSearch}
			}

			tokens--

			return nil
		}}

		f, _ := reader(l)
		tries := 0
		for {
			tries++
			require.Less(t, tries, 10)

			got, err := f.All(t.Context(), collars)
			if err == nil {
				assert.Len(t, got, 100)
				break
			}

			time.Sleep(30 * time.Second)
		}

		assert.Greater(t, tries, 1)
		assert.Zero(t, f.pace, "the next reading is not slowed down")
	})
}

func TestFetchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	l := &list{users: numbered(100), size: 10, before: func(calls int) error {
		if calls == 2 {
			cancel()
		}
		return nil
	}}
	f, _ := reader(l)
	_, err := f.All(ctx, collars)
	require.ErrorIs(t, err, context.Canceled)
	assert.Less(t, l.calls, 5)
}

func TestHavingReadsOnePass(t *testing.T) {
	t.Parallel()

	l := &list{users: numbered(2500)}
	clock := time.Date(2024, 6, 17, 10, 0, 0, 0, time.UTC)
	f, _ := reader(l)
	f.Now = func() time.Time { return clock }
	l.before = func(int) error {
		clock = clock.Add(time.Second)
		return nil
	}
	began := clock
	got, err := f.Having(t.Context(), Query{Attribute: "Collar-Number"})
	require.NoError(t, err)
	assert.Equal(t, "Collar-Number pr", l.criteria)
	assert.Equal(t, 3, l.calls)
	require.Len(t, got, 2500)
	assert.Equal(t, Person{Username: "u00000", Value: "c-u00000", Asked: began}, got[0])
	assert.Equal(t, began.Add(2*time.Second), got[2499].Asked, "each page has the moment before its own call")

	l.before = func(int) error { return &athoc.CallError{Kind: athoc.BadRequest, Op: athoc.OpSearch} }
	_, err = f.Having(t.Context(), Query{Attribute: "On-Duty-DTG", Setting: "DUTY_STATUS_FIELD"})
	require.ErrorContains(t, err, "DUTY_STATUS_FIELD")
}

func TestHavingOfNobodyThoughThereAreSomeFails(t *testing.T) {
	t.Parallel()

	f, _ := reader(&list{hidden: 5})
	_, err := f.Having(t.Context(), collars)
	require.ErrorContains(t, err, "5 have a value of Collar-Number")

	f, _ = reader(&list{})
	got, err := f.Having(t.Context(), collars)
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestOneReadingAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		busy := 0
		l := &list{users: numbered(30), size: 10, before: func(int) error {
			busy++
			assert.Equal(t, 1, busy)
			time.Sleep(time.Second)

			busy--

			return nil
		}}

		f, _ := reader(l)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				got, err := f.All(t.Context(), collars)
				assert.NoError(t, err)
				assert.Len(t, got, 30)
			})
		}

		time.Sleep(time.Millisecond)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()

		_, err := f.Having(ctx, collars)
		require.ErrorIs(t, err, context.DeadlineExceeded, "waiting for one's turn ends with the context")
		wg.Wait()
	})
}

func TestExtras(t *testing.T) {
	t.Parallel()
	assert.Equal(t, []string{"FIRSTNAME", "Unit"},
		Extras([]string{" FIRSTNAME", "collar-number", "", "firstname", "Unit"}, "Collar-Number"))
	assert.Empty(t, Extras(nil, "Collar-Number"))
}
