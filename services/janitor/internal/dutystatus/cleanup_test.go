package dutystatus

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/janitor/internal/metrics"
	"bobosync/services/janitor/internal/periodic"
	"bobosync/services/janitor/internal/users"
	"bobosync/shared/athoc"
	"bobosync/shared/control"
)

// TestNoDatesAtAll checks that statuses that are no dates are left alone. If most are none, nobody can tell what is
// stale, so the run fails; but the statuses that are dates are still cleared.
func TestNoDatesAtAll(t *testing.T) {
	t.Parallel()

	noon := time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		odd, dates int
		fails      bool
	}{
		"all are dates": {0, 5, false}, "a few are none": {4, 1, false}, "as many": {5, 5, true}, "fewer than half": {5, 6, false}, "none is a date": {40, 0, true},
	} {
		var people []users.Person
		for i := range c.odd + c.dates {
			p := users.Person{Username: fmt.Sprint(i), Value: "6/17/2024 11:00 AM", Asked: noon}
			if i >= c.odd {
				p.Value = athoc.FormatTime(noon.Add(-25*time.Hour), time.UTC)
			}

			people = append(people, p)
		}

		asked, odd := 0, 0
		cleaner := &Cleaner{
			Fetch: func(context.Context) ([]users.Person, error) { return people, nil },
			Observe: func(_ context.Context, req control.ObserveRequest) (control.ObserveAnswer, error) {
				asked += len(req.Users)
				return control.ObserveAnswer{Published: len(req.Users)}, nil
			},
			Silent: func(context.Context) []string { return nil }, Lifetime: 24 * time.Hour, Zone: time.UTC,
			Metrics: metrics.New(nil), Now: func() time.Time { return noon }, Log: slog.New(slog.DiscardHandler), Odd: &odd,
		}
		_, err := cleaner.Clean(t.Context(), &periodic.Run{})
		require.Equal(t, c.fails, err != nil, "%s: %v", name, err)
		require.Equal(t, c.dates, asked, name)
	}
}
