package files

import (
	"crypto/rand"
	"fmt"
	"iter"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// maxName is the length in bytes of the longest name that most file systems allow.
const maxName = 255

// numberedNames is the highest number that freeNames appends to a name, randomNames how many random names of a kind it
// tries.
const (
	numberedNames = 20
	randomNames   = 10
)

// freeNames yields the names to try for a file, best first: its own, "x (2).csv" up to "x (20).csv", "x (<tag>).csv",
// then names with a random end, so that a free one is always found. Names without the file's own come last, for file
// systems that refuse it. The tag must be fit for a file name.
func freeNames(name, tag string) iter.Seq[string] {
	ext := filepath.Ext(name)
	stem := strings.TrimSuffix(name, ext)

	return func(yield func(string) bool) {
		if !yield(name) {
			return
		}

		for i := 2; i <= numberedNames; i++ {
			if !yield(withEnd(stem, fmt.Sprintf(" (%d)", i), ext)) {
				return
			}
		}

		if !yield(withEnd(stem, " ("+tag+")", ext)) {
			return
		}

		for range randomNames {
			if !yield(withEnd(stem, " ("+tag+"-"+rand.Text()[:8]+")", ext)) {
				return
			}
		}

		if !yield("bobo-" + tag + ".csv") {
			return
		}

		for range randomNames {
			if !yield("bobo-" + tag + "-" + rand.Text()[:8] + ".csv") {
				return
			}
		}
	}
}

// withEnd joins the parts of a name, and shortens the stem if the name would be too long.
func withEnd(stem, end, ext string) string {
	room := maxName - len(end) - len(ext)
	if len(stem) > room {
		text := utf8.ValidString(stem)
		stem = stem[:max(room, 0)]
		for text && !utf8.ValidString(stem) {
			stem = stem[:len(stem)-1] // a character was cut
		}
	}

	return stem + end + ext
}
