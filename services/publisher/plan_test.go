package publisher

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/event"
)

// TestWhatFollowsFromAFailure is the table of what follows from a call that failed as a whole.
func TestWhatFollowsFromAFailure(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		f    failure
		want step
	}{
		"too large":                             {failure{kind: athoc.TooLarge, users: 100}, step{shrink, smaller}},
		"one user is too large":                 {failure{kind: athoc.TooLarge, users: 1}, step{returnToQueue, 0}},
		"bad request":                           {failure{kind: athoc.BadRequest, users: 2}, step{halve, 0}},
		"bad request for one":                   {failure{kind: athoc.BadRequest, users: 1}, step{refuse, 0}},
		"throttled":                             {failure{kind: athoc.Throttled, users: 9}, step{returnToQueue, 0}},
		"no longer wanted":                      {failure{kind: athoc.Canceled, users: 9}, step{returnToQueue, 0}},
		"forbidden, who knows why":              {failure{kind: athoc.Forbidden, update: true, users: 9, inARow: 1}, step{trySingle, 0}},
		"forbidden, the single one too":         {failure{kind: athoc.Forbidden, update: true, users: 1, inARow: 2}, step{later, 0}},
		"forbidden, another one as well":        {failure{kind: athoc.Forbidden, update: true, users: 1, inARow: 3}, step{returnToQueue, 0}},
		"forbidden, there is but one":           {failure{kind: athoc.Forbidden, update: true, users: 1, inARow: 1}, step{returnToQueue, 0}},
		"forbidden for so many":                 {failure{kind: athoc.Forbidden, update: true, users: 100, inARow: 3, there: true, answered: true}, step{shrink, gentler}},
		"forbidden, but not the single one":     {failure{kind: athoc.Forbidden, update: true, users: 8, inARow: 1, there: true, answered: true}, step{halveLater, 0}},
		"forbidden for one alone":               {failure{kind: athoc.Forbidden, update: true, users: 1, inARow: 1, alone: 1, there: true, answered: true}, step{putOff, 0}},
		"forbidden, and searches are answered":  {failure{kind: athoc.Forbidden, update: true, users: 1, inARow: 1, alone: 1, there: true}, step{returnToQueue, 0}},
		"not found, who knows why":              {failure{kind: athoc.NotFound, update: true, users: 9, inARow: 1}, step{trySingle, 0}},
		"not found, the single one too":         {failure{kind: athoc.NotFound, update: true, users: 1, inARow: 2}, step{later, 0}},
		"not found, another one as well":        {failure{kind: athoc.NotFound, update: true, users: 1, inARow: 3}, step{returnToQueue, 0}},
		"not found, but not the single one":     {failure{kind: athoc.NotFound, update: true, users: 8, inARow: 1, there: true, answered: true}, step{halveLater, 0}},
		"unauthorized for one alone":            {failure{kind: athoc.Unauthorized, update: true, users: 1, inARow: 1, alone: 1, there: true, answered: true}, step{putOff, 0}},
		"the login is refused":                  {failure{kind: athoc.Unauthorized, users: 9, inARow: 1}, step{returnToQueue, 0}},
		"one alone is too large":                {failure{kind: athoc.TooLarge, update: true, users: 1, inARow: 1, alone: 1, there: true, answered: true}, step{putOff, 0}},
		"one after the other is too large":      {failure{kind: athoc.TooLarge, update: true, users: 1, inARow: 3, alone: 3, there: true, answered: true}, step{returnToQueue, 0}},
		"an outage begins":                      {failure{kind: athoc.Outage, status: 503, users: 500, inARow: 1}, step{returnToQueue, 0}},
		"no answer in time to many":             {failure{kind: athoc.Outage, inDoubt: true, users: 500, inARow: 1}, step{returnToQueue, gentler}},
		"no answer in time to a few":            {failure{kind: athoc.Outage, inDoubt: true, users: 20, inARow: 1}, step{returnToQueue, 0}},
		"an answer that is cut":                 {failure{kind: athoc.Outage, status: http.StatusOK, users: 500, inARow: 1}, step{returnToQueue, gentler}},
		"searches are answered":                 {failure{kind: athoc.Outage, status: 500, users: 500, inARow: 1, there: true}, step{halveLater, 0}},
		"its first half too":                    {failure{kind: athoc.Outage, status: 500, users: 250, inARow: 2, there: true}, step{halveLater, 0}},
		"both halves":                           {failure{kind: athoc.Outage, status: 500, users: 250, inARow: 3, there: true}, step{returnToQueue, gentler}},
		"searches are answered, and no update":  {failure{kind: athoc.Outage, status: 500, users: 1, probe: true, there: true}, step{returnToQueue, 0}},
		"the culprit":                           {failure{kind: athoc.Outage, status: 500, users: 1, inARow: 2, alone: 1, there: true}, step{putOff, 0}},
		"the culprit, who makes it hang":        {failure{kind: athoc.Outage, inDoubt: true, users: 1, inARow: 2, alone: 1, there: true}, step{putOff, 0}},
		"one after the other is a culprit":      {failure{kind: athoc.Outage, status: 500, users: 1, inARow: 3, alone: 3, there: true}, step{returnToQueue, 0}},
		"no answer in time, which is suspicous": {failure{kind: athoc.Outage, inDoubt: true, users: 20, inARow: 1, there: true}, step{returnToQueue, gentler}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, next(c.f))
		})
	}
}

func TestTheOrderOfCalls(t *testing.T) {
	t.Parallel()

	now := time.Now()

	var jobs []job
	for _, user := range []string{"a", "b", "c", "d", "later", "due"} {
		jobs = append(jobs, job{update: event.Update{User: user}})
	}

	state := breaker.State{PutOff: breaker.PutOffs{{User: "later", Until: now.Add(time.Second)}, {User: "due", Until: now}}}
	names := func(parts [][]job) (out [][]string) {
		for _, part := range parts {
			var users []string
			for _, j := range part {
				users = append(users, j.update.User)
			}

			out = append(out, users)
		}

		return out
	}
	order := scheduled(jobs, 3, false, 2, state, now)
	require.Equal(t, [][]string{{"a", "b", "c"}, {"d"}, {"due"}}, names(order.calls))
	require.Equal(t, [][]string{{"later"}}, names([][]job{order.later}))
	order = scheduled(jobs, 3, true, 2, state, now)
	require.Equal(t, [][]string{{"c"}, {"b", "a", "d"}, {"due"}}, names(order.calls), "a probe is of one user, another one each time")
	require.Empty(t, scheduled(nil, 3, true, 2, state, now).calls)
}

func TestAUserIsGivenUpAfterALongTimeOnly(t *testing.T) {
	t.Parallel()

	now := time.Now()
	require.False(t, isHopeless(breaker.PutOff{Failures: 1000, Since: now.Add(-time.Hour)}, now))
	require.False(t, isHopeless(breaker.PutOff{Failures: 3, Since: now.Add(-48 * time.Hour)}, now))
	require.True(t, isHopeless(breaker.PutOff{Failures: 100, Since: now.Add(-48 * time.Hour)}, now))
}
