package program

// How much memory there is.

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

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
