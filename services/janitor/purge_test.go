package janitor

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

func TestPurgeWaitsForIngest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sim.Options{})
	cfg := w.config()
	cfg.Sync.Mappings = false
	cfg.Retention = Retention{Files: 30, Journal: 90}
	w.run(cfg)
	w.leading()
	w.pass(24 * time.Hour)
	w.eventually("a failure", func() bool { return w.leading().Jobs[3].Failures > 0 })
	var asked atomic.Int64
	stop, err := control.Serve(t.Context(), w.broker.Connect(t).NC, topology.Ingest, "test",
		control.On(control.Purge, func(_ context.Context, req control.PurgeRequest) (control.PurgeAnswer, error) {
			assert.WithinDuration(t, w.now().AddDate(0, 0, -30), req.FilesBefore, time.Minute)
			return control.PurgeAnswer{Files: 1, More: asked.Add(1) < 3}, nil
		}))
	require.NoError(t, err)

	defer stop()

	w.pass(time.Minute)
	w.eventually("a success", func() bool { return w.leading().Jobs[3].Failures == 0 })
	assert.EqualValues(t, 3, asked.Load())

	entries := w.ended(control.JobPurge)
	require.NotEmpty(t, entries)
	assert.Equal(t, control.OutcomeOK, entries[0].Outcome)
	assert.Equal(t, 3, entries[0].Counts["files"])
	assert.True(t, w.logs.Has("INFO", `"files":3`))
}
