package ingest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLostOutcomesAreMissed checks that lost outcomes are noticed after a minute in which nothing is under way, and
// ever more rarely if that does not help. Where something always is under way, they are noticed every hour, but no
// file is given up then.
func TestLostOutcomesAreMissed(t *testing.T) {
	t.Parallel()

	begin := time.Date(2024, 6, 17, 8, 0, 0, 0, time.UTC)
	day := func(busy func(check int) bool, settled func(check int) uint64) (found map[stall]int) {
		found = map[stall]int{}
		d := newStallDetector(begin, 0, time.Minute)
		for check := range 24 * 60 * 4 {
			now := begin.Add(time.Duration(check) * 15 * time.Second)
			if s, stalled := d.detect(now, settled(check), busy(check), time.Minute); stalled {
				found[s]++
			}
		}

		return found
	}
	never, always := func(int) bool { return false }, func(int) bool { return true }
	nothing, each := func(int) uint64 { return 0 }, func(check int) uint64 { return uint64(check) }
	hourly, idle := stall{waited: time.Hour}, stall{waited: time.Minute, idle: true}

	require.Equal(t, map[stall]int{hourly: 23}, day(always, nothing), "AtHoc is away, or people have to decide")
	require.Equal(t, map[stall]int{hourly: 23}, day(never, each), "other files are settled all the time")
	found := day(never, nothing)
	require.Equal(t, 23, found[hourly])
	require.InDelta(t, 29, found[idle], 1, "after 1, 2, 4, 8, 16 and 32 minutes, and then every hour")
}
