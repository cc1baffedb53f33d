// Package files works in directories that strangers may write to: it opens only what is a regular file, follows no link, and
// moves files without ever overwriting one.
package files

import (
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// Stat distinguishes states of a file: it differs as soon as the file was written to or replaced, as far as the
// file system lets one see. Compare what was stored with Same, what was just seen with ==.
type Stat struct {
	// Size in bytes.
	Size int64 `json:"size"`
	// Modified is the modification time in Unix nanoseconds. Anybody who may write to the file can set it.
	Modified int64 `json:"modified"`
	// Changed is when the file was last changed in any way, a rename included, in Unix nanoseconds: nobody can set it. It is 0
	// where the file system keeps no such time, and in a Stat that was stored by a version without it.
	Changed int64 `json:"changed,omitempty"`
	// Key is the file's number on its file system, where there is one. A rename keeps it, a replacement changes it.
	Key string `json:"key,omitempty"`
}

// StatOf makes a Stat of what the operating system says.
func StatOf(info fs.FileInfo) Stat {
	s := Stat{Size: info.Size(), Modified: info.ModTime().UnixNano(), Key: keyOf(info)}
	if changed := changeTime(info); !changed.IsZero() {
		s.Changed = changed.UnixNano()
	}

	return s
}

// Time returns the modification time.
func (s Stat) Time() time.Time { return time.Unix(0, s.Modified) }

// Same reports whether both stand for the same state of a file, as far as both know.
func (s Stat) Same(other Stat) bool {
	if s.Changed == 0 || other.Changed == 0 {
		return s.sameButForRename(other)
	}
	return s == other
}

// sameButForRename leaves out what a rename changes.
func (s Stat) sameButForRename(other Stat) bool {
	s.Changed, other.Changed = 0, 0
	return s == other
}

// Arrival is when the file came to be where it is, as far as is known: the later of its modification and, on Linux, of
// its last change of any kind, which a rename is.
func Arrival(info fs.FileInfo) time.Time {
	if changed := changeTime(info); changed.After(info.ModTime()) {
		return changed
	}
	return info.ModTime()
}

// IsCSV reports whether a name is one of an input file: all that can be relied on is the .csv ending, in any letter case. A
// leading dot makes no difference. Some copy tools use one for a file that they still write; should such a file hold still
// for long enough to be taken, it is read like any other, and the finished file is a new one.
func IsCSV(name string) bool { return strings.EqualFold(filepath.Ext(name), ".csv") }
