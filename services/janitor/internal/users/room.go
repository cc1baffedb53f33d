package users

// How many users a reading takes: an impostor that answers in AtHoc's place may go on for ever.

import (
	"errors"
	"strings"

	"bobosync/shared/program"
)

// errTooMany means that AtHoc returns more than this program has memory for.
var errTooMany = errors.New("AtHoc returns more users than there is memory for: if it has so many, raise the janitor's memory limit")

const (
	// perPerson is about what a user takes in memory, beside name and value.
	perPerson = 160
	// roomShare is the part of the memory that readings may take.
	roomShare = 3
)

// Room returns how many bytes readings may take together: a part of program.MemoryLimit, or 0, without limit.
func Room() int64 { return program.MemoryLimit() / roomShare }

// clipped returns a text that can be an employee id or a username as it is, and of a longer one what shows that it is not one.
func clipped(text string) string {
	if len(text) <= MaxText {
		return text
	}
	return strings.Clone(text[:MaxText+1])
}

// size is about how much memory the person takes.
func (p Person) size() int64 { return perPerson + int64(len(p.Username)+len(p.Value)) }
