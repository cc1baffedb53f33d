package janitor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/control"
)

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
	w.eventually("the journal", func() bool { return len(w.ended(control.JobMapping)) == 2 })
	assert.Contains(t, w.ended(control.JobMapping)[0].Text, "without an AtHoc user")
	set(39)
	w.eventually("another count", counted(39))
	assert.Equal(t, searched+1, w.searches(), "once")
}
