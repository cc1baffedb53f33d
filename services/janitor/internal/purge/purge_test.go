package purge

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/services/janitor/internal/metrics"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
)

func TestLimitsOfAPurge(t *testing.T) {
	t.Parallel()
	zone := london(t)
	now := time.Date(2024, 4, 1, 3, 0, 0, 0, zone) // the clocks changed the day before
	assert.Equal(t, time.Date(2024, 3, 29, 3, 0, 0, 0, zone), limit(now, 3, zone))
	assert.Equal(t, time.Date(2024, 1, 2, 3, 0, 0, 0, zone), limit(now, 90, zone))
	assert.True(t, limit(now, 0, zone).IsZero())
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
		{"nothing moves", []control.PurgeAnswer{one, {More: true}}, nil, nil, "deletes nothing", 100},
		{"files cannot be deleted", []control.PurgeAnswer{one, {Failed: 3, Error: "permission denied"}}, nil, nil, "permission denied", 100},
		{"the journal cannot be pruned", []control.PurgeAnswer{last}, nil, away, "away", 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			p := &Purger{
				FileDays: 30, JournalDays: 90, Zone: time.UTC, Metrics: metrics.New(nil), Log: bustest.Logger(),
				Now: func() time.Time { return now },
				Prune: func(_ context.Context, before time.Time) (int, error) {
					assert.Equal(t, now.AddDate(0, 0, -90), before)
					return 2, c.pruned
				},
				Ask: func(_ context.Context, req control.PurgeRequest) (control.PurgeAnswer, error) {
					assert.Equal(t, now.AddDate(0, 0, -30), req.FilesBefore)
					assert.Equal(t, now.AddDate(0, 0, -90), req.RecordsBefore)

					if asked++; asked > len(c.answers) {
						return control.PurgeAnswer{}, c.failure
					}

					return c.answers[asked-1], nil
				},
			}

			res, err := p.Purge(t.Context(), nil)
			if c.want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, c.want)
			}

			assert.Equal(t, c.files, res.Counts["files"])
			assert.Equal(t, 2, res.Counts["journal_entries"])
		})
	}
}

func london(t testing.TB) *time.Location {
	t.Helper()

	zone, err := time.LoadLocation("Europe/London")
	require.NoError(t, err)

	return zone
}
