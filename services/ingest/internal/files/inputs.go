package files

import (
	"strings"

	"bobosync/shared/control"
)

// DefaultFeed is what the feed of CSV_DIRECTORY is called.
const DefaultFeed = control.DefaultFeed

// Input is an input directory: a feed.
type Input struct{ Feed, Dir string }

// Prefix begins the names of the feed's files: where there are several feeds, ingest knows a file as feed/name, so that two of them
// may have files of one name.
func (i Input) Prefix() string {
	if i.Feed == DefaultFeed {
		return ""
	}
	return i.Feed + "/"
}

// Inputs are the input directories.
type Inputs []Input

// FeedOf returns the feed that a file belongs to by its name.
func FeedOf(name string) string {
	if feed, _, several := strings.Cut(name, "/"); several {
		return feed
	}
	return DefaultFeed
}

// Base returns the name that a file has in its directory.
func Base(name string) string {
	if _, base, several := strings.Cut(name, "/"); several {
		return base
	}
	return name
}

// Dir returns the directory of a file by its name; false if it is of a feed that is not configured any more.
func (all Inputs) Dir(name string) (dir string, known bool) {
	for _, i := range all {
		if i.Feed == FeedOf(name) {
			return i.Dir, true
		}
	}

	return "", false
}
