package mapping

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"bobosync/services/janitor/internal/state"
)

func TestEarly(t *testing.T) {
	t.Parallel()

	refreshed := time.Date(2024, 6, 17, 20, 0, 0, 0, time.UTC)
	later := refreshed.Add(2 * time.Hour)
	since := func(workers int) state.Unmapped { return state.Unmapped{Refreshed: refreshed, Workers: workers} }
	for _, c := range []struct {
		name   string
		now    time.Time
		before state.Unmapped
		c      stats
		next   state.Unmapped
		due    bool
	}{
		{"the first count after a refresh", later, state.Unmapped{}, stats{refreshed: refreshed, unmapped: 500, mapped: 100}, since(500), false},
		{"nobody came", later, since(5), stats{refreshed: refreshed, unmapped: 5, mapped: 100}, since(5), false},
		{"nine came", later, since(5), stats{refreshed: refreshed, unmapped: 14, mapped: 100}, since(5), false},
		{"ten came", later, since(5), stats{refreshed: refreshed, unmapped: 15, mapped: 100}, since(5), true},
		{"less than one percent came", later, since(0), stats{refreshed: refreshed, unmapped: 249, mapped: 25_000}, since(0), false},
		{"one percent came", later, since(0), stats{refreshed: refreshed, unmapped: 250, mapped: 25_000}, since(0), true},
		{"a little more than one percent is needed", later, since(0), stats{refreshed: refreshed, unmapped: 250, mapped: 25_001}, since(0), false},
		{"some are gone", later, since(50), stats{refreshed: refreshed, unmapped: 40, mapped: 100}, since(40), false},
		{"just refreshed", refreshed.Add(59 * time.Minute), since(0), stats{refreshed: refreshed, unmapped: 100, mapped: 100}, since(0), false},
		{"an hour ago", refreshed.Add(time.Hour), since(0), stats{refreshed: refreshed, unmapped: 100, mapped: 100}, since(0), true},
		{"tried and failed", later, since(0), stats{refreshed: refreshed, attempted: later.Add(-time.Minute), unmapped: 100, mapped: 100}, since(0), false},
		{"refreshed again", later, since(0), stats{refreshed: later, unmapped: 100, mapped: 100}, state.Unmapped{Refreshed: later, Workers: 100}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, due := early(c.now, c.before, c.c)
			assert.Equal(t, c.next, next)
			assert.Equal(t, c.due, due)
		})
	}
}
