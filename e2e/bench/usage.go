//go:build unix

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc: Linux shows all programs hundredths of a second, whatever its own clock does.
const tick = 10 * time.Millisecond

// usage is what a process has used, according to /proc (see proc(5)).
type usage struct {
	cpu  time.Duration // user and system, all threads
	peak int64         // bytes of memory, the most so far
	now  int64         // bytes of memory
	own  int64         // bytes of memory, without pages of files
}

var errNoProc = errors.New("this system has no /proc")

func usageOf(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, errors.Join(errNoProc, err)
	}

	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, errors.Join(errNoProc, err)
	}

	return parseUsage(stat, status)
}

func parseUsage(stat, status []byte) (u usage, err error) {
	// The second field is the program's name in parentheses and may contain anything, so fields are counted from its
	// end.
	end := bytes.LastIndexByte(stat, ')')

	fields := bytes.Fields(stat[end+1:])
	const utime, stime = 14 - 3, 15 - 3
	if len(fields) <= stime {
		return u, errors.New("/proc/PID/stat has too few fields")
	}

	for _, i := range []int{utime, stime} {
		n, err := strconv.ParseInt(string(fields[i]), 10, 64)
		if err != nil {
			return u, fmt.Errorf("/proc/PID/stat: %w", err)
		}

		u.cpu += time.Duration(n) * tick
	}

	for line := range strings.Lines(string(status)) {
		key, rest, _ := strings.Cut(line, ":")
		var into *int64
		switch key {
		case "VmHWM":
			into = &u.peak
		case "VmRSS":
			into = &u.now
		case "RssAnon":
			into = &u.own
		default:
			continue
		}

		kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		if err != nil {
			return u, fmt.Errorf("/proc/PID/status: %w", err)
		}

		*into = kib << 10
	}

	if u.peak == 0 || u.now == 0 {
		return u, errors.New("/proc/PID/status says nothing of memory")
	}

	return u, nil
}
