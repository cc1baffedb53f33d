package program

// Memory limits: how much memory there is, and how much is used.

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// SetMemoryLimits sets GOGC to 50, because a large file would otherwise need half as much memory again. It also sets a
// soft memory limit: the larger of soft and 1.5 × live heap (with a great many workers garbage collection would
// otherwise never stop), but at most 4/5 of MemoryLimit. The variables GOGC and GOMEMLIMIT override.
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

// bound returns the soft limit in bytes; most is 0 if there is no upper bound.
func bound(soft, kept, most int64) int64 {
	soft = max(soft, kept/2*3)
	if most > 0 {
		return min(soft, most)
	}

	return soft
}

// kept returns the live heap after the last garbage collection, in bytes.
func kept() int64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return int64(live[0].Value.Uint64()) //nolint:gosec // no machine has that much
}

// atEachCollection calls f after each garbage collection, until the program ends.
func atEachCollection(f func()) {
	runtime.AddCleanup(new([64]byte), func(struct{}) {
		f()
		atEachCollection(f)
	}, struct{}{})
}

// MemoryLimit returns how many bytes this program's container or unit may use, or 0 if no limit is visible.
func MemoryLimit() int64 {
	limit, err := memlimit.FromCgroup()
	if err != nil || limit > math.MaxInt64 { // no limit, or a system without cgroups
		return 0
	}

	return int64(limit)
}
