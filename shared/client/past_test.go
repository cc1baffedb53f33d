package client

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/text"
)

// TestTheHourThatAutumnRepeats: a time in that hour is refused without an offset, with both ways to write it, and
// accepted with one. Wherever either is shown, it can be told apart from the other, in the same way.
func TestTheHourThatAutumnRepeats(t *testing.T) {
	t.Parallel()

	for zone, c := range map[string]struct{ words, first, second, before string }{
		"Europe/London":       {"2026-10-25 01:30", "2026-10-25T01:30:00+01:00", "2026-10-25T01:30:00Z", "2026-10-25 00:59"},
		"Europe/Berlin":       {"2026-10-25 02:30:15", "2026-10-25T02:30:15+02:00", "2026-10-25T02:30:15+01:00", "2026-10-25 01:59"},
		"America/New_York":    {"2026-11-01T01:00", "2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01 00:59"},
		"Australia/Lord_Howe": {"2026-04-05 01:45", "2026-04-05T01:45:00+11:00", "2026-04-05T01:45:00+10:30", "2026-04-05 01:29"},
	} {
		loc, err := time.LoadLocation(zone)
		require.NoError(t, err)

		now := time.Date(2026, 12, 1, 0, 0, 0, 0, loc)
		_, err = PastMoment(c.words, now)
		require.ErrorContains(t, err, "comes twice that day", zone)
		require.ErrorContains(t, err, "say "+c.first+" for the first time, or "+c.second+" for the second", zone)
		first, err := PastMoment(c.first, now)
		require.NoError(t, err)
		second, err := PastMoment(c.second, now)
		require.NoError(t, err)
		require.True(t, first.Before(second))
		require.NotEqual(t, text.Moment(first, loc), text.Moment(second, loc))

		_, err = PastMoment(c.before, now)
		require.NoError(t, err, zone)
	}

	_, err := PastMoment("90m", time.Now())
	require.NoError(t, err, "so long ago is always the same moment")
}
