package users

// How much memory a reading may take: an impostor that answers in AtHoc's place might never stop.

import (
	"errors"
	"strings"

	"bobosync/shared/program"
)

// errTooMany means that AtHoc returns more users than this program has memory for.
var errTooMany = errors.New("AtHoc returns more users than there is memory for: if it has so many, raise the janitor's memory limit")

const (
	// perPerson is about how many bytes a user takes in memory in addition to name and value.
	perPerson = 160
	// roomShare limits readings to 1/roomShare of the memory.
	roomShare = 3
)

// Room returns how many bytes readings may take together: a share of program.MemoryLimit, or 0 if there is no limit.
func Room() int64 { return program.MemoryLimit() / roomShare }

// clipped returns a text that is short enough for an employee id or a username unchanged. It cuts a longer text, but
// leaves it too long, so that it is still recognised as neither.
func clipped(text string) string {
	if len(text) <= MaxText {
		return text
	}
	return strings.Clone(text[:MaxText+1])
}

// size returns about how many bytes p takes in memory.
func (p Person) size() int64 { return perPerson + int64(len(p.Username)+len(p.Value)) }
