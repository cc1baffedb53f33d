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
	// contentAge is how long after its end a file's content is a finding: somebody has had a day to see it then.
	contentAge = 24 * time.Hour
	// fewRows is the number of rows below which shares say nothing.
	fewRows = 5
	// rejectedShare is the share of rejected rows that is unusual by itself; unusualTimes is how many times the other
	// files' share is unusual.
	rejectedShare, unusualTimes = 0.5, 5
	// minUnusual is the share below which nothing is unusual.
	minUnusual = 0.1
	// unusualShare is the share of a file's rows from which on it is unusual that their workers have no AtHoc user, or
	// that AtHoc does not accept their users.
	unusualShare = 0.5
	// vanished is ingest's name for rows of a file that was removed or changed before they had an outcome.
	vanished = "vanished"
	// maxFiles is how many files a finding names.
	maxFiles = 3
)

// contentFindings are about the content of the latest files: that a file was read and moved does not mean that any of
// its rows was of use. If a better file arrives under the same name, the finding goes away.
func contentFindings(f Facts) (all []Finding) {
	var gone, useless, rejected, unmapped, refused []control.FileState

	total := share{}
	for _, file := range f.Files {
		total.add(file)
	}

	last := map[string]int{}
	for i, file := range f.Files {
		last[file.Name] = i
	}

	var small []control.FileState
	for i, file := range f.Files {
		switch end := cmp.Or(file.Finished, file.Published, file.FirstSeen); {
		case f.At.Sub(end) > contentAge, file.Rows == 0:
		case file.Outcomes[vanished] > 0 && last[file.Name] == i:
			gone = append(gone, file)
		case isSmall(file) && file.Rejected < file.Rows:
			small = append(small, file)
		case last[file.Name] != i:
		case file.Rejected == file.Rows, mostly(file, tooOld(file)) && file.Rejected+tooOld(file) == file.Rows:
			useless = append(useless, file)
		case manyRejected(file, total):
			rejected = append(rejected, file)
		case manyUnmapped(file):
			unmapped = append(unmapped, file)
		case mostly(file, refusals(file)):
			refused = append(refused, file)
		case wasted(file) == file.Rows: // for different reasons
			useless = append(useless, file)
		}
	}

	useless = append(earlier(f, last), useless...)
	const look = "bobosync files show %s names each line and why; ask the people who run BOBO whether the export has changed"

	all = append(all, contentFinding(gone, CauseManyRejected, "was removed or changed before all of its rows were settled", func(file control.FileState) string {
		return fmt.Sprintf("%d of %s", file.Outcomes[vanished], text.Count(file.Rows, "row"))
	}, "put it back into CSV_DIRECTORY under any name that ends in .csv, and these rows are sent; bobosync files show %s names them")...)
	all = append(all, contentFinding(useless, CauseNoGoodRow, "has no row that can be used", rejections, look)...)
	all = append(all, contentFinding(rejected, CauseManyRejected, "has unusually many rows that cannot be used", rejections, look)...)
	all = append(all, contentFinding(refused, CauseManyRefused, "is mostly of users whom AtHoc does not take", func(file control.FileState) string {
		return fmt.Sprintf("%d of %s: %d %s, %d %s", refusals(file), text.Count(file.Rows, "row"), file.Outcomes[event.ForbiddenUser.String()], event.ForbiddenUser,
			file.Outcomes[event.UnknownUser.String()], event.UnknownUser)
	}, "bobosync files show %s names the lines; have an AtHoc administrator check whether this account may write these users, then bobosync mapping refresh")...)
	all = append(all, smallFindings(small)...)

	return append(all, contentFinding(unmapped, CauseManyUnmapped, "is mostly of workers whom no AtHoc user is", func(file control.FileState) string {
		return fmt.Sprintf("%d of %s", file.Outcomes[event.Unmapped.String()], text.Count(file.Rows, "row"))
	}, "bobosync files show %s names the lines; bobosync mapping show shows how old the mapping is and which employee ids are ambiguous; check COLLAR_ID_FIELD")...)
}

// share counts rows over several files.
type share struct{ rows, rejected int }

func (s *share) add(file control.FileState) {
	s.rows += file.Rows
	s.rejected += file.Rejected
}

// manyRejected reports whether the share of rejected rows is large, by itself or compared with the other files.
func manyRejected(file control.FileState, total share) bool {
	if file.Rejected < fewRows {
		return false
	}

	part := float64(file.Rejected) / float64(file.Rows)
	if part >= rejectedShare {
		return true
	}

	others := share{total.rows - file.Rows, total.rejected - file.Rejected}

	return part >= minUnusual && others.rows > 0 && part >= unusualTimes*float64(others.rejected)/float64(others.rows)
}

// manyUnmapped reports whether most of the workers of a file are not in the mapping. That includes workers whose id is
// ambiguous.
func manyUnmapped(file control.FileState) bool {
	return mostly(file, file.Outcomes[event.Unmapped.String()])
}

// refusals counts the rows of users whom AtHoc does not have, or does not let this account write.
func refusals(file control.FileState) int {
	return file.Outcomes[event.ForbiddenUser.String()] + file.Outcomes[event.UnknownUser.String()]
}

// mostly reports whether a number of rows is a large part of a file's rows, and more than a few.
func mostly(file control.FileState, rows int) bool {
	return rows >= fewRows && float64(rows) >= unusualShare*float64(file.Rows)
}

// tooOld counts the rows that were bookings on older than AUTO_CLEANUP_HOURS when they were read.
func tooOld(file control.FileState) int { return file.Outcomes[event.Expired.String()] }

// wasted counts the rows that had no effect, for whatever reason.
func wasted(file control.FileState) int {
	return file.Rejected + tooOld(file) + file.Outcomes[event.Unmapped.String()] + refusals(file) + file.Outcomes[event.Dead.String()]
}

// isSmall reports whether a file has so few rows that their shares say nothing.
func isSmall(file control.FileState) bool { return file.Rows < fewRows }

// forSeveral describes small files whose rows mostly had no effect, but for no single predominant reason.
const forSeveral = "rows that came to nothing, for several reasons"

// lost returns all rows of a file that has no good one, else 0.
func lost(file control.FileState) int {
	if wasted(file) < file.Rows {
		return 0
	}
	return file.Rows
}

// smallFindings judges small files together: an export with one booking says nothing by itself.
func smallFindings(files []control.FileState) (all []Finding) {
	var sum control.FileState
	for _, file := range files {
		sum.Rows += file.Rows
	}

	for _, kind := range []struct {
		cause, what, do string
		rows            func(control.FileState) int
	}{
		{CauseManyRejected, "rows that cannot be used", "ask the people who run BOBO whether the export has changed", func(f control.FileState) int { return f.Rejected }},
		{CauseManyUnmapped, "workers whom no AtHoc user is", "bobosync mapping show shows how old the mapping is; check COLLAR_ID_FIELD",
			func(f control.FileState) int { return f.Outcomes[event.Unmapped.String()] }},
		{CauseManyRefused, "users whom AtHoc does not take", "have an AtHoc administrator check whether this account may write these users, then bobosync mapping refresh", refusals},
		{CauseNoGoodRow, "bookings that were too old when they came", "are the clocks and BOBO_TIMEZONE right? Ask the people who run BOBO whether old exports came again", tooOld},
		{CauseNoGoodRow, forSeveral, "bobosync mapping show shows how old the mapping is; ask the people who run BOBO whether the export has changed", lost},
	} {
		if kind.what == forSeveral && len(all) > 0 {
			continue // a single reason is named already
		}

		rows, example := 0, control.FileState{}
		for _, file := range files {
			if n := kind.rows(file); n > 0 {
				rows, example = rows+n, file
			}
		}

		if mostly(sum, rows) {
			all = append(all, Finding{
				Warning, kind.cause, fmt.Sprintf("The latest small files are mostly of %s (%d of %s), File %s for one", kind.what, rows, text.Count(sum.Rows, "row"), text.Clean(example.Name)),
				fmt.Sprintf("bobosync files show %s names the lines; ", text.Short(example.ID)) + kind.do,
			})
		}
	}

	return all
}

// earlier returns the files without a good row that were finished within a day and are no longer among the latest,
// unless another file of the same name has arrived since.
func earlier(f Facts, last map[string]int) (all []control.FileState) {
	known := map[string]bool{}
	for _, file := range f.Files {
		known[file.ID] = true
	}

	for _, s := range f.Ingest {
		for _, d := range slices.Backward(s.Doubtful) { // the latest come first
			if _, again := last[d.Name]; again || known[d.ID] || d.Rows == 0 || d.Rejected < d.Rows || f.At.Sub(d.Finished) > contentAge {
				continue
			}

			all = append(all, control.FileState{ID: d.ID, Name: d.Name, Rows: d.Rows, Rejected: d.Rejected, Finished: d.Finished})
		}
	}

	return all
}

// rejections says how many rows of a file were rejected, and for which reasons, the most frequent first.
func rejections(file control.FileState) string {
	settled := map[string]bool{event.Pending.String(): true}
	for _, o := range event.Outcomes() {
		settled[o.String()] = true
	}

	reasons := slices.DeleteFunc(slices.Sorted(maps.Keys(file.Outcomes)), func(name string) bool { return settled[name] || file.Outcomes[name] == 0 })
	slices.SortStableFunc(reasons, func(a, b string) int { return cmp.Compare(file.Outcomes[b], file.Outcomes[a]) })

	words := fmt.Sprintf("%d of %s", file.Rejected, text.Count(file.Rows, "row"))
	if wasted(file) == file.Rows {
		words = fmt.Sprintf("%d of %s", file.Rows, text.Count(file.Rows, "row"))
		for _, o := range []event.Outcome{event.Expired, event.Unmapped, event.ForbiddenUser, event.UnknownUser, event.Dead} {
			if file.Outcomes[o.String()] > 0 {
				reasons = append(reasons, o.String())
			}
		}
	}

	if len(reasons) == 0 {
		return words
	}

	for i, name := range reasons {
		reasons[i] = fmt.Sprintf("%d %s", file.Outcomes[name], name)
	}

	return words + ": " + strings.Join(reasons, ", ")
}

// contentFinding returns one finding for files with the same problem, and names the latest of them.
func contentFinding(files []control.FileState, cause, what string, detail func(control.FileState) string, do string) []Finding {
	if len(files) == 0 {
		return nil
	}

	slices.Reverse(files)

	var named []string
	for _, file := range files[:min(len(files), maxFiles)] {
		named = append(named, fmt.Sprintf("%s %s (%s)", text.Clean(file.Name), what, detail(file)))
	}

	words := strings.Join(named, "; ")
	if more := len(files) - maxFiles; more > 0 {
		words += fmt.Sprintf("; and so it is with %s more", text.Count(more, "file"))
	}

	return []Finding{{Warning, cause, "File " + words, fmt.Sprintf(do, text.Short(files[0].ID))}}
}
