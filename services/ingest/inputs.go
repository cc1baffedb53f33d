package ingest

// The input directories: that of CSV_DIRECTORY, or those of FEEDS.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"bobosync/services/ingest/internal/files"
	"bobosync/shared/config"
	"bobosync/shared/control"
)

// Feeds are named input directories, read from text such as north=/srv/north,south=/srv/south.
type Feeds []files.Input

// feedName matches the names that a feed may have: the name becomes part of keys, and the prefix of its files' names.
var feedName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// EnvDecode reads the setting FEEDS.
func (f *Feeds) EnvDecode(_ context.Context, text string) error {
	*f = nil
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}

		name, dir, ok := strings.Cut(part, "=")
		if name, dir = strings.TrimSpace(name), strings.TrimSpace(dir); !ok || dir == "" {
			return fmt.Errorf("must be like north=/srv/north,south=/srv/south, and %q is not", part)
		}

		dir, err := config.Path(dir)
		if err != nil {
			return fmt.Errorf("the directory of %s %w", name, err)
		}

		*f = append(*f, files.Input{Feed: name, Dir: dir})
	}

	return nil
}

// Inputs returns the input directories.
func (c Config) Inputs() files.Inputs {
	if len(c.Feeds) == 0 {
		return files.Inputs{{Feed: files.DefaultFeed, Dir: c.CSVDirectory}}
	}
	return files.Inputs(c.Feeds)
}

// InputDirectories returns the input directories with the names that messages use for them.
func (c Config) InputDirectories() (all []struct{ Name, Dir string }) {
	for _, in := range c.Inputs() {
		all = append(all, struct{ Name, Dir string }{control.InputDirectory(in.Feed), in.Dir})
	}
	return all
}

// validateInputs reports input directories that are missing or contradict each other. It does not access the disk.
func (c *Config) validateInputs() error {
	if len(c.Feeds) == 0 {
		if c.CSVDirectory == "" {
			return errors.New("CSV_DIRECTORY: not set, and there is no default (FEEDS names several)")
		}
		return nil
	}

	var errs []error
	seen, beside := map[string]bool{}, c.CSVDirectory == ""
	for i, a := range c.Feeds {
		switch {
		case a.Feed == files.DefaultFeed:
			errs = append(errs, errors.New("FEEDS: no feed can be called default, as that of CSV_DIRECTORY is"))
		case !feedName.MatchString(a.Feed):
			errs = append(errs, fmt.Errorf("FEEDS: %q is no name for a feed: take up to 32 of a-z, 0-9, - and _", a.Feed))
		case seen[a.Feed]:
			errs = append(errs, fmt.Errorf("FEEDS: %s is there twice", a.Feed))
		}

		seen[a.Feed] = true
		beside = beside || within(c.CSVDirectory, a.Dir) && within(a.Dir, c.CSVDirectory)
		for _, b := range c.Feeds[i+1:] {
			errs = append(errs, apart(a, b, within))
		}
	}

	if !beside {
		errs = append(errs, fmt.Errorf("CSV_DIRECTORY: %s is of none of the FEEDS, so its files would never be read: leave it out, or add it to FEEDS", c.CSVDirectory))
	}

	return errors.Join(errs...)
}

// apart returns an error if one of the two directories is the other or lies within it.
func apart(a, b files.Input, within func(inner, outer string) bool) error {
	switch inner, outer := within(a.Dir, b.Dir), within(b.Dir, a.Dir); {
	case inner && outer:
		return fmt.Errorf("FEEDS: %s and %s have the same directory, %s: give each its own", a.Feed, b.Feed, a.Dir)
	case inner:
		return fmt.Errorf("FEEDS: the directory of %s, %s, lies within that of %s: put them beside each other", a.Feed, a.Dir, b.Feed)
	case outer:
		return fmt.Errorf("FEEDS: the directory of %s, %s, lies within that of %s: put them beside each other", b.Feed, b.Dir, a.Feed)
	}

	return nil
}

// within reports whether inner is outer or lies within it, judged by the paths as they are written.
func within(inner, outer string) bool {
	a, err1 := filepath.Abs(inner)
	b, err2 := filepath.Abs(outer)
	if err1 != nil || err2 != nil {
		return false
	}

	path, err := filepath.Rel(b, a)

	return err == nil && path != ".." && !strings.HasPrefix(path, ".."+string(filepath.Separator))
}

// apartOnDisk checks as validateInputs does that the feeds have separate directories, but with symbolic links
// resolved.
func (c Config) apartOnDisk() error {
	var errs []error
	for i, a := range c.Feeds {
		for _, b := range c.Feeds[i+1:] {
			errs = append(errs, apart(a, b, func(inner, outer string) bool {
				inner, err1 := filepath.EvalSymlinks(inner)
				outer, err2 := filepath.EvalSymlinks(outer)
				return err1 == nil && err2 == nil && (within(inner, outer) || sameDirectory(inner, outer))
			}))
		}
	}

	return errors.Join(errs...)
}

func sameDirectory(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}
