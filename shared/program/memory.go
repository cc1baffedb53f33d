package program

// How much memory there is, and how much of it is used.

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
)

// SpareMemory lets garbage be collected twice as often as usual, since a large file would need half as much memory again, and ever more
// often when so many bytes are in use, or half as much again as is kept, which counts with a great many workers: collecting would not
// end otherwise. It stays below four fifths of MemoryLimit. GOGC and GOMEMLIMIT set other bounds.
func SpareMemory(soft int64) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		most := MemoryLimit() / 5 * 4
		debug.SetMemoryLimit(bound(soft, 0, most))
		atEachCollection(func() { debug.SetMemoryLimit(bound(soft, kept(), most)) })
	}
}

// bound is how much memory is used before garbage is collected ever more often; most is 0 where there is no limit.
func bound(soft, kept, most int64) int64 {
	soft = max(soft, kept/2*3)
	if most > 0 {
		return min(soft, most)
	}
	return soft
}

// kept is how many bytes the last collection left.
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

// MemoryLimit returns how many bytes the container or unit may use that this program runs in, or 0, without limit, where none can be
// seen: https://docs.kernel.org/admin-guide/cgroup-v2.html, memory.max.
func MemoryLimit() int64 { return memoryLimit("/proc/self/cgroup", "/sys/fs/cgroup") }

func memoryLimit(membership, root string) int64 {
	own, _ := os.ReadFile(membership) // where there is none, there is no limit
	_, path, _ := strings.Cut(strings.TrimSpace(string(own)), "0::")
	for _, dir := range []string{filepath.Join(root, path), root} {
		text, err := os.ReadFile(filepath.Join(dir, "memory.max"))
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && limit > 0 {
			return limit
		}
	}
	return 0
}
