package janitor

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/telemetry"
	"bobosync/shared/topology"
)

func TestLimitsOfAPurge(t *testing.T) {
	t.Parallel()
	zone := london(t)
	now := time.Date(2024, 4, 1, 3, 0, 0, 0, zone) // the clocks were changed the day before
	files, records := limits(now, Retention{Files: 3, Journal: 90}, zone)
	assert.Equal(t, time.Date(2024, 3, 29, 3, 0, 0, 0, zone), files)
	assert.Equal(t, time.Date(2024, 1, 2, 3, 0, 0, 0, zone), records)
	files, records = limits(now, Retention{}, zone)
	assert.True(t, files.IsZero())
	assert.True(t, records.IsZero())
}

func TestPurgeGoesOnWhileThereIsMore(t *testing.T) {
	t.Parallel()
	now := time.Date(2024, 6, 17, 3, 0, 0, 0, time.UTC)
	away := errors.New("away")
	one := control.PurgeAnswer{Files: 100, Bytes: 1000, Records: 10, More: true}
	last := control.PurgeAnswer{Files: 5, Compacted: 7}
	for _, c := range []struct {
		name    string
		answers []control.PurgeAnswer
		failure error
		pruned  error
		want    string
		files   int
	}{
		{"in one part", []control.PurgeAnswer{last}, nil, nil, "", 5},
		{"in three parts", []control.PurgeAnswer{one, one, last}, nil, nil, "", 205},
		{"nothing", []control.PurgeAnswer{{}}, nil, nil, "", 0},
		{"ingest goes away", []control.PurgeAnswer{one}, away, nil, "away", 100},
		{"nothing moves", []control.PurgeAnswer{one, {More: true}}, nil, nil, "forgets nothing", 100},
		{"files cannot be deleted", []control.PurgeAnswer{one, {Failed: 3, Error: "permission denied"}}, nil, nil, "permission denied", 100},
		{"the journal cannot be pruned", []control.PurgeAnswer{last}, nil, away, "away", 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			p := &purger{
				days: Retention{Files: 30, Journal: 90}, zone: time.UTC, metrics: telemetry.NewJanitor(nil), log: bustest.Logger(),
				now: func() time.Time { return now },
				prune: func(before time.Time) (int, error) {
					assert.Equal(t, now.AddDate(0, 0, -90), before)
					return 2, c.pruned
				},
				ask: func(_ context.Context, req control.PurgeRequest) (control.PurgeAnswer, error) {
					assert.Equal(t, now.AddDate(0, 0, -30), req.FilesBefore)
					assert.Equal(t, now.AddDate(0, 0, -90), req.RecordsBefore)
					if asked++; asked > len(c.answers) {
						return control.PurgeAnswer{}, c.failure
					}
					return c.answers[asked-1], nil
				},
			}
			res, err := p.purge(t.Context(), nil)
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
			}
			assert.Equal(t, c.files, res.counts["files"])
			assert.Equal(t, 2, res.counts["journal_entries"])
		})
	}
}

func TestPurgeWaitsForIngest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sim.Options{})
	cfg := w.config()
	cfg.Sync.Mappings = false
	cfg.Retention = Retention{Files: 30, Journal: 90}
	w.run(cfg)
	w.atWork()
	w.pass(24 * time.Hour)
	w.eventually("a failure", func() bool { return w.atWork().Duties[3].Failures > 0 })
	var asked atomic.Int64
	stop, err := control.Serve(t.Context(), w.broker.Connect(t).NC, topology.Ingest, "test",
		control.On(control.Purge, func(_ context.Context, req control.PurgeRequest) (control.PurgeAnswer, error) {
			assert.WithinDuration(t, w.now().AddDate(0, 0, -30), req.FilesBefore, time.Minute)
			return control.PurgeAnswer{Files: 1, More: asked.Add(1) < 3}, nil
		}))
	require.NoError(t, err)
	defer stop()
	w.pass(time.Minute)
	w.eventually("a success", func() bool { return w.atWork().Duties[3].Failures == 0 })
	assert.EqualValues(t, 3, asked.Load())
	entries := w.ended(control.DutyPurge)
	require.NotEmpty(t, entries)
	assert.Equal(t, control.OutcomeOK, entries[0].Outcome)
	assert.Equal(t, 3, entries[0].Counts["files"])
	assert.True(t, w.logs.has("INFO", `"files":3`))
}
