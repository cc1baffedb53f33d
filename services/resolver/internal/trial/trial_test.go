package trial

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/resolver/internal/latest"
	"bobosync/shared/event"
)

var (
	noon  = time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)
	rules = latest.Rules{Lifetime: 24 * time.Hour}
)

func booked(hoursAgo int, on bool) event.Entry {
	return event.Entry{Row: 2, Employee: "1", On: on, At: noon.Add(-time.Duration(hoursAgo) * time.Hour).Unix()}
}

// holds returns a worker for whom AtHoc has confirmed a booking.
func holds(hoursAgo int, on bool) latest.Worker {
	e := booked(hoursAgo, on)
	v := e.Version(1)
	sent := latest.Sent{User: "jo", File: "before", Version: v, On: on, At: e.At}

	return latest.Worker{
		Latest: latest.Event{Version: v, File: "before", On: on, At: e.At}, Sent: &sent,
		Confirmed: &latest.Confirmed{Sent: sent, Outcome: event.Applied},
	}
}

func TestWhatABookingWouldDo(t *testing.T) {
	for name, c := range map[string]struct {
		worker latest.Worker
		entry  event.Entry
		user   string
		want   consequence
	}{
		"never seen, on":          {latest.Worker{}, booked(1, true), "jo", on},
		"never seen, off":         {latest.Worker{}, booked(1, false), "jo", off},
		"no user":                 {latest.Worker{}, booked(1, true), "", unmapped},
		"booked off":              {holds(8, true), booked(1, false), "jo", off},
		"off already":             {holds(8, false), booked(1, false), "jo", unchanged},
		"on since another moment": {holds(8, true), booked(1, true), "jo", on},
		"a newer one is known":    {holds(1, true), booked(8, false), "jo", beaten},
		"too old":                 {latest.Worker{}, booked(30, true), "jo", expired},
		"too old, but shown":      {holds(40, true), booked(30, true), "jo", off},
	} {
		require.Equal(t, c.want, decide(c.worker, c.entry, "now", c.user, noon, rules).consequence, name)
	}
}

// TestTheSameContentOnceMore checks that rows that are known already change nothing.
func TestTheSameContentOnceMore(t *testing.T) {
	w := holds(1, true)
	require.Equal(t, unchanged, decide(w, booked(1, true), "before", "jo", noon, rules).consequence)
	require.Equal(t, holds(1, true), w, "and nothing is remembered")
}
