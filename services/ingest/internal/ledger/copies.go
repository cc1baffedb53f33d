package ledger

// Where the copies of a file are.

import (
	"slices"
	"time"

	"bobosync/services/ingest/internal/files"
)

// Copy is a copy of a file that was found in the input directory.
type Copy struct {
	Name string     `json:"name"`
	Stat files.Stat `json:"stat"`
	// MovedTo is the path that it was moved to; empty if it was not moved.
	MovedTo string `json:"moved_to,omitempty"`
	// Gone reports that other content, or nothing, is there now: in the input directory, or at MovedTo if it was moved.
	Gone bool `json:"gone,omitempty"`
	// Found and Moved are when it was found in the input directory and when it was moved out of it.
	Found time.Time `json:"found,omitzero"`
	Moved time.Time `json:"moved,omitzero"`
	// Deleting reports that it is about to be deleted from MovedTo because of its age. If the copy is gone after a
	// crash, that is why.
	Deleting bool `json:"deleting,omitempty"`
}

// AtDest reports whether the copy lies at MovedTo, going by the record.
func (p Copy) AtDest() bool { return p.MovedTo != "" && !p.Gone }

// InInput reports whether the copy still is in the input directory, going by the record.
func (p Copy) InInput() bool { return p.MovedTo == "" && !p.Gone }

// ExtraCopy is a moved copy of a file for which there was no room in the record.
type ExtraCopy struct {
	Copy
	key []byte
}

// Copies are the copies of a file in its record.
type Copies []Copy

// maxCopies bounds the copies in the record of a file that turns up again and again, such as an empty one. Copies
// that are gone are dropped first. The next to give way are moved copies, which are kept in a bucket of their own,
// see Tx.Attach.
const maxCopies = 100

// attach adds a copy, or updates the copy of that name that is in the input directory. It returns the moved copy that
// had to give way, if any.
func (all *Copies) attach(p Copy) (dropped *Copy) {
	*all = slices.DeleteFunc(*all, func(old Copy) bool {
		same := old.Name == p.Name && old.InInput()
		if same && old.Stat == p.Stat && !old.Found.IsZero() {
			p.Found = old.Found // the same copy is only read again
		}

		return same
	})
	*all = append(*all, p)
	if len(*all) <= maxCopies {
		return nil
	}

	i := slices.IndexFunc(*all, func(p Copy) bool { return p.Gone })
	if i < 0 {
		if i = slices.IndexFunc(*all, Copy.AtDest); i >= 0 {
			found := (*all)[i]
			dropped = &found
		}
	}

	if i >= 0 {
		*all = slices.Delete(*all, i, i+1)
	}

	return dropped
}

// InInput returns the copies that still are in the input directory, going by the record.
func (all Copies) InInput() []Copy {
	return slices.DeleteFunc(slices.Clone(all), func(p Copy) bool { return !p.InInput() })
}

// LeftPath reports whether a copy was moved to path and no copy is known to be there now.
func (all Copies) LeftPath(path string) bool {
	left := false
	for _, p := range all {
		if p.MovedTo == path {
			if !p.Gone {
				return false
			}

			left = true
		}
	}

	return left
}

// MarkRemoved notes that the copies that were moved to path are not there any more.
func (all Copies) MarkRemoved(path string) {
	for i := range all {
		if p := &all[i]; p.AtDest() && p.MovedTo == path {
			p.Gone = true
		}
	}
}
