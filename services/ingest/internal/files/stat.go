// Package files works in directories that strangers may write to: it opens only regular files, follows no links, and
// moves files without ever overwriting one.
package files

import (
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

// Stat identifies a state of a file: it differs as soon as the file was written to or replaced, provided that the file
// system shows this. Compare a stored Stat with Same, and two fresh ones with ==.
type Stat struct {
	// Size in bytes.
	Size int64 `json:"size"`
	// Modified is the modification time in Unix nanoseconds. Anybody who may write to the file can set it.
	Modified int64 `json:"modified"`
	// Changed is when the file was last changed in any way, a rename included, in Unix nanoseconds; nobody can set it.
	// It is 0 where the file system keeps no such time, and in a Stat that was stored by a version without this field.
	Changed int64 `json:"changed,omitempty"`
	// Key is the file's number on its file system, if it has one. A rename keeps it, a replacement changes it.
	Key string `json:"key,omitempty"`
}

// StatOf returns the Stat of a file that the operating system describes with info.
func StatOf(info fs.FileInfo) Stat {
	s := Stat{Size: info.Size(), Modified: info.ModTime().UnixNano(), Key: keyOf(info)}
	if changed := changeTime(info); !changed.IsZero() {
		s.Changed = changed.UnixNano()
	}

	return s
}

// Time returns the modification time.
func (s Stat) Time() time.Time { return time.Unix(0, s.Modified) }

// Same reports whether both are the same state of a file. Changed is left out unless both have it.
func (s Stat) Same(other Stat) bool {
	if s.Changed == 0 || other.Changed == 0 {
		return s.sameButForRename(other)
	}
	return s == other
}

// sameButForRename compares everything except what a rename changes.
func (s Stat) sameButForRename(other Stat) bool {
	s.Changed, other.Changed = 0, 0
	return s == other
}

// Arrival returns when the file arrived where it is, as well as this can be known: its modification time or, if that is
// later, the time of its last change of any kind, a rename included. Only Linux provides the latter.
func Arrival(info fs.FileInfo) time.Time {
	if changed := changeTime(info); changed.After(info.ModTime()) {
		return changed
	}
	return info.ModTime()
}

// IsCSV reports whether a name is that of an input file. All that can be relied on is the .csv ending, in any letter
// case. A leading dot makes no difference: some copy tools use one for a file that they are still writing. Should such
// a file stay unchanged for long enough to be taken, it is read like any other, and the finished file is a new one.
func IsCSV(name string) bool { return strings.EqualFold(filepath.Ext(name), ".csv") }
