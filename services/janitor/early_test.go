package janitor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/control"
)

func TestEarly(t *testing.T) {
	t.Parallel()
	refreshed := time.Date(2024, 6, 17, 20, 0, 0, 0, time.UTC)
	later := refreshed.Add(2 * time.Hour)
	since := func(workers int) unmappedNote { return unmappedNote{Refreshed: refreshed, Workers: workers} }
	for _, c := range []struct {
		name   string
		now    time.Time
		before unmappedNote
		c      census
		next   unmappedNote
		due    bool
	}{
		{"the first count after a refresh", later, unmappedNote{}, census{refreshed: refreshed, unmapped: 500, mapped: 100}, since(500), false},
		{"nobody came", later, since(5), census{refreshed: refreshed, unmapped: 5, mapped: 100}, since(5), false},
		{"nine came", later, since(5), census{refreshed: refreshed, unmapped: 14, mapped: 100}, since(5), false},
		{"ten came", later, since(5), census{refreshed: refreshed, unmapped: 15, mapped: 100}, since(5), true},
		{"less than one percent came", later, since(0), census{refreshed: refreshed, unmapped: 249, mapped: 25_000}, since(0), false},
		{"one percent came", later, since(0), census{refreshed: refreshed, unmapped: 250, mapped: 25_000}, since(0), true},
		{"a little more than one percent is needed", later, since(0), census{refreshed: refreshed, unmapped: 250, mapped: 25_001}, since(0), false},
		{"some are gone", later, since(50), census{refreshed: refreshed, unmapped: 40, mapped: 100}, since(40), false},
		{"just refreshed", refreshed.Add(59 * time.Minute), since(0), census{refreshed: refreshed, unmapped: 100, mapped: 100}, since(0), false},
		{"an hour ago", refreshed.Add(time.Hour), since(0), census{refreshed: refreshed, unmapped: 100, mapped: 100}, since(0), true},
		{"tried and failed", later, since(0), census{refreshed: refreshed, attempted: later.Add(-time.Minute), unmapped: 100, mapped: 100}, since(0), false},
		{"refreshed again", later, since(0), census{refreshed: later, unmapped: 100, mapped: 100}, unmappedNote{later, 100}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, due := early(c.now, c.before, c.c)
			assert.Equal(t, c.next, next)
			assert.Equal(t, c.due, due)
		})
	}
}

func TestManyUnmappedWorkersBringTheRefreshForward(t *testing.T) {
	t.Parallel()
	users := sim.GenerateUsers(100, sim.DefaultCollar)
	w := newWorld(t, sim.Options{Users: users})
	resolver := w.resolver(&fakeResolver{})
	cfg := w.config()
	cfg.Sync.Hour = (w.now().Hour() + 12) % 24
	w.run(cfg)
	w.refreshed(100)
	set := func(unmapped int) {
		resolver.mu.Lock()
		defer resolver.mu.Unlock()
		resolver.state = control.ResolverState{Recovered: true, Snapshot: w.record().Snapshot, Mapped: 100, Unmapped: unmapped}
	}
	counted := func(workers int) func() bool {
		return func() bool {
			n := w.notes().Unmapped
			return n.Workers == workers && n.Refreshed.Equal(w.record().Refreshed)
		}
	}
	set(3)
	w.eventually("a first count", counted(3))
	set(40)
	searched := w.searches()
	require.NoError(t, w.athoc.PutUsers(sim.User{LoginID: "new@example.org", Attributes: map[string]string{sim.DefaultCollar: "new"}}))
	w.pass(61 * time.Minute)
	w.refreshed(101)
	assert.Equal(t, searched+1, w.searches())
	w.eventually("the journal", func() bool { return len(w.ended(control.DutyMapping)) == 2 })
	assert.Contains(t, w.ended(control.DutyMapping)[0].Text, "without an AtHoc user")
	set(39)
	w.eventually("another count", counted(39))
	assert.Equal(t, searched+1, w.searches(), "once")
}
