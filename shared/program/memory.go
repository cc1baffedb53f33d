package program

// How much memory there is, and how much of it is used.

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// SetMemoryLimits sets GOGC to 50, since a large file would need half as much memory again otherwise, and a soft limit: the larger of soft
// and 1.5 × live heap (with a great many workers garbage collection would not end otherwise), at most 4/5 of MemoryLimit. GOGC and
// GOMEMLIMIT override.
func SetMemoryLimits(soft int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}

	if os.Getenv("GOMEMLIMIT") == "" {
		most := MemoryLimit() / 5 * 4
		debug.SetMemoryLimit(bound(soft, 0, most))
		atEachCollection(func() { debug.SetMemoryLimit(bound(soft, kept(), most)) })
	}
}

// bound is the soft limit; most is 0 where there is none.
func bound(soft, kept, most int64) int64 {
	soft = max(soft, kept/2*3)
	if most > 0 {
		return min(soft, most)
	}

	return soft
}

// kept is the live heap after the last collection, in bytes.
func kept() int64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return int64(live[0].Value.Uint64()) //nolint:gosec // no machine has that much
}

// atEachCollection calls f after each collection of garbage, as long as the program runs.
func atEachCollection(f func()) {
	runtime.AddCleanup(new([64]byte), func(struct{}) {
		f()
		atEachCollection(f)
	}, struct{}{})
}

// MemoryLimit returns how many bytes the container or unit that this program runs in may use, or 0 if there is no limit to be seen.
func MemoryLimit() int64 {
	limit, err := memlimit.FromCgroup()
	if err != nil || limit > math.MaxInt64 { // there is none, or this system has no such limits
		return 0
	}

	return int64(limit)
}
