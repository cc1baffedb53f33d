package verdict

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/text"
)

const (
	// contentAge is for how long after its end a file's content is a finding: until somebody has had a day to see it.
	contentAge = 24 * time.Hour
	// fewRows are so few that their share says nothing.
	fewRows = 5
	// rejectedShare is the part of a file's rows whose rejection is unusual by itself, unusualTimes how many times the share of the
	// other files is unusual.
	rejectedShare, unusualTimes = 0.5, 5
	// leastUnusual is the share below which nothing is unusual.
	leastUnusual = 0.1
	// unusualShare is the part of a file's rows that may be of workers whom nobody in AtHoc is, or of users whom it does not take.
	unusualShare = 0.5
	// mostFiles is how many files are named one by one.
	mostFiles = 3
)

// contentFindings are about what stands in the latest files: that they were read and left says nothing of whether anything of them
// was of use. A file that came again under its name, and better, takes the finding away.
func contentFindings(f Facts) (all []Finding) {
	var useless, rejected, unmapped, refused []control.FileState
	total := share{}
	for _, file := range f.Files {
		total.add(file)
	}
	last := map[string]int{}
	for i, file := range f.Files {
		last[file.Name] = i
	}
	for i, file := range f.Files {
		switch end := cmp.Or(file.Finished, file.Published, file.FirstSeen); {
		case f.At.Sub(end) > contentAge, last[file.Name] != i, file.Rows == 0:
		case file.Rejected == file.Rows:
			useless = append(useless, file)
		case manyRejected(file, total):
			rejected = append(rejected, file)
		case manyUnmapped(file):
			unmapped = append(unmapped, file)
		case mostly(file, refusals(file)):
			refused = append(refused, file)
		}
	}
	const look = "bobosync files show %s names each line and why; ask who runs BOBO whether the export has changed"
	all = append(all, contentFinding(useless, CauseNoGoodRow, "has no row that can be used", rejections, look)...)
	all = append(all, contentFinding(rejected, CauseManyRejected, "has unusually many rows that cannot be used", rejections, look)...)
	all = append(all, contentFinding(refused, CauseManyRefused, "is mostly of users whom AtHoc does not take", func(file control.FileState) string {
		return fmt.Sprintf("%d of %s: %d %s, %d %s", refusals(file), text.Count(file.Rows, "row"), file.Outcomes[event.ForbiddenUser.String()], event.ForbiddenUser,
			file.Outcomes[event.UnknownUser.String()], event.UnknownUser)
	}, "bobosync files show %s names the lines; have an AtHoc administrator look whether this account may write these users, then bobosync mapping refresh")...)
	return append(all, contentFinding(unmapped, CauseManyUnmapped, "is mostly of workers whom no AtHoc user is", func(file control.FileState) string {
		return fmt.Sprintf("%d of %s", file.Outcomes[event.Unmapped.String()], text.Count(file.Rows, "row"))
	}, "bobosync files show %s names the lines; bobosync mapping show tells how old the mapping is and which employee ids are ambiguous; check COLLAR_ID_FIELD")...)
}

// share counts rows over several files.
type share struct{ rows, rejected int }

func (s *share) add(file control.FileState) {
	s.rows += file.Rows
	s.rejected += file.Rejected
}

// manyRejected reports whether the share of rejected rows is large, by itself or beside that of the other files.
func manyRejected(file control.FileState, total share) bool {
	if file.Rejected < fewRows {
		return false
	}
	part := float64(file.Rejected) / float64(file.Rows)
	if part >= rejectedShare {
		return true
	}
	others := share{total.rows - file.Rows, total.rejected - file.Rejected}
	return part >= leastUnusual && others.rows > 0 && part >= unusualTimes*float64(others.rejected)/float64(others.rows)
}

// manyUnmapped reports whether most of the workers of a file are not in the mapping, which covers those whose id is ambiguous.
func manyUnmapped(file control.FileState) bool {
	return mostly(file, file.Outcomes[event.Unmapped.String()])
}

// refusals counts the rows of users whom AtHoc does not have, or does not let be written.
func refusals(file control.FileState) int {
	return file.Outcomes[event.ForbiddenUser.String()] + file.Outcomes[event.UnknownUser.String()]
}

// mostly reports whether so many of a file's rows are most of them, and not just a few.
func mostly(file control.FileState, rows int) bool {
	return rows >= fewRows && float64(rows) >= unusualShare*float64(file.Rows)
}

// rejections names how many rows of a file were rejected, and for which reasons, the most frequent first.
func rejections(file control.FileState) string {
	settled := map[string]bool{event.Pending.String(): true}
	for _, o := range event.Outcomes() {
		settled[o.String()] = true
	}
	reasons := slices.DeleteFunc(slices.Sorted(maps.Keys(file.Outcomes)), func(name string) bool { return settled[name] || file.Outcomes[name] == 0 })
	slices.SortStableFunc(reasons, func(a, b string) int { return cmp.Compare(file.Outcomes[b], file.Outcomes[a]) })
	words := fmt.Sprintf("%d of %s", file.Rejected, text.Count(file.Rows, "row"))
	if len(reasons) == 0 {
		return words
	}
	for i, name := range reasons {
		reasons[i] = fmt.Sprintf("%d %s", file.Outcomes[name], name)
	}
	return words + ": " + strings.Join(reasons, ", ")
}

// contentFinding names the latest of some files that have the same thing wrong.
func contentFinding(files []control.FileState, cause, what string, detail func(control.FileState) string, do string) []Finding {
	if len(files) == 0 {
		return nil
	}
	slices.Reverse(files)
	var named []string
	for _, file := range files[:min(len(files), mostFiles)] {
		named = append(named, fmt.Sprintf("%s %s (%s)", text.Clean(file.Name), what, detail(file)))
	}
	words := strings.Join(named, "; ")
	if more := len(files) - mostFiles; more > 0 {
		words += fmt.Sprintf("; and so it is with %s more", text.Count(more, "file"))
	}
	return []Finding{{Warning, cause, "File " + words, fmt.Sprintf(do, text.Short(files[0].ID))}}
}
