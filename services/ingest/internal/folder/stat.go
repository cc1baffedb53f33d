// Package folder watches the input directory for files that have stopped growing, and moves files out of it without ever
// overwriting one.
package folder

import (
	"io/fs"
	"time"
)

// Stat tells one state of a file from another: it differs as soon as the file was written to or replaced, as far as the
// file system lets one see. Stats are compared with ==.
type Stat struct {
	// Size in bytes.
	Size int64 `json:"size"`
	// Modified is the modification time in Unix nanoseconds.
	Modified int64 `json:"modified"`
	// Key is the file's number on its file system, where there is one. A rename keeps it, a replacement changes it.
	Key string `json:"key,omitempty"`
}

// StatOf makes a Stat of what the operating system says.
func StatOf(info fs.FileInfo) Stat {
	return Stat{Size: info.Size(), Modified: info.ModTime().UnixNano(), Key: keyOf(info)}
}

// Time returns the modification time.
func (s Stat) Time() time.Time { return time.Unix(0, s.Modified) }

// Arrival is when the file came to be where it is, as well as can be told: the later of its modification and, on Linux, of
// its last change of any kind, which a rename is.
func Arrival(info fs.FileInfo) time.Time {
	if changed := changeTime(info); changed.After(info.ModTime()) {
		return changed
	}
	return info.ModTime()
}
