package users

// How many users a reading takes: whoever answers in AtHoc's place may go on for ever.

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// errTooMany means that AtHoc returns more than this program has memory for.
var errTooMany = errors.New("AtHoc returns more users than there is memory for: if it has so many, raise the janitor's memory limit, and GOMEMLIMIT with it")

const (
	// perPerson is about what a user takes in memory, beside name and value.
	perPerson = 160
	// roomShare is the part of the memory that readings may take.
	roomShare = 3
)

// Room returns how many bytes readings may take together: a part of the memory limit of the container or unit that this program runs
// in, or 0, without limit, where none can be seen.
func Room() int64 { return roomBelow("/proc/self/cgroup", "/sys/fs/cgroup") }

func roomBelow(membership, root string) int64 {
	own, _ := os.ReadFile(membership) // where there is none, there is no limit
	_, path, _ := strings.Cut(strings.TrimSpace(string(own)), "0::")
	for _, dir := range []string{filepath.Join(root, path), root} {
		text, err := os.ReadFile(filepath.Join(dir, "memory.max"))
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && limit > 0 {
			return limit / roomShare
		}
	}
	return 0
}

// clipped returns a text that can be an employee id or a username as it is, and of a longer one what shows that it is none.
func clipped(text string) string {
	if len(text) <= MaxText {
		return text
	}
	return strings.Clone(text[:MaxText+1])
}

// size is about how much memory the person takes.
func (p Person) size() int64 { return perPerson + int64(len(p.Username)+len(p.Value)) }
