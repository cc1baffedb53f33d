package files

import (
	"strings"

	"bobosync/shared/control"
)

// DefaultFeed is the name of CSV_DIRECTORY's feed.
const DefaultFeed = control.DefaultFeed

// Input is an input directory and the name of its feed.
type Input struct{ Feed, Dir string }

// Prefix returns what the names of the feed's files begin with. Ingest knows a file as feed/name unless its feed is the
// default one, so that two feeds may have files of the same name.
func (i Input) Prefix() string {
	if i.Feed == DefaultFeed {
		return ""
	}
	return i.Feed + "/"
}

// Inputs are the input directories.
type Inputs []Input

// FeedOf returns the feed that a file belongs to, going by its name.
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

// Dir returns the directory of a file, going by its name. It returns false if the file's feed is no longer configured.
func (all Inputs) Dir(name string) (dir string, known bool) {
	for _, i := range all {
		if i.Feed == FeedOf(name) {
			return i.Dir, true
		}
	}

	return "", false
}
