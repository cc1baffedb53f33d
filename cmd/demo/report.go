package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"bobosync/services/ingest"
	"bobosync/shared/config"
)

// shownFindings is the largest number of findings of a kind that are shown.
const shownFindings = 5

// report is the result of the demo.
type report struct {
	took                               time.Duration
	dropped, processed, setAside, left int
	// outcomes and rejected count rows by the ledger's names for outcomes and reasons.
	outcomes, rejected map[string]int
	pending            int
	calls              calls
	// quick and slow are the times from drop to confirmation: slow of the files that the outage affected, quick of the
	// others.
	quick, slow []time.Duration
	users, on   int
	// wrong lists the users with a wrong status, unsettled what is wrong with the rows' outcomes.
	wrong, unsettled []string
}

// right reports whether everything ended as it should.
func (r *report) right() bool { return len(r.wrong) == 0 && len(r.unsettled) == 0 }

// report collects the result. The services must have stopped.
func (d *demo) report(ctx context.Context) (*report, error) {
	r := &report{
		dropped: len(d.watch.drops), left: len(d.watch.waiting), outcomes: map[string]int{}, rejected: map[string]int{},
		calls: d.tally.get(), users: d.sim.Stats().Users,
	}

	var err1, err2 error
	r.processed, err1 = countFiles(d.dirs.processed())
	r.setAside, err2 = countFiles(d.dirs.failed())
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("count the finished files: %w", err)
	}

	files, err := d.ledger(ctx)
	if err != nil {
		return nil, err
	}

	r.account(d.watch.drops, files)
	got := d.sim.DutyState()
	r.on = len(got)
	r.wrong = compare(d.judge.want(d.plan.workers), got)

	return r, nil
}

// ledger reads ingest's records of the files, by the SHA-256 of their content.
func (d *demo) ledger(ctx context.Context) (files map[string]*ingest.File, err error) {
	var cfg ingest.Config

	if err := config.Load(ctx, config.Map(d.dirs.settings(d.sim)), &cfg); err != nil {
		return nil, fmt.Errorf("open the file ledger: %w", err)
	}

	ledger, err := ingest.OpenLedger(cfg, d.log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()

	all, err := ledger.Files()
	if err != nil {
		return nil, err
	}

	files = make(map[string]*ingest.File, len(all))
	for _, f := range all {
		files[f.ID] = f
	}

	return files, nil
}

// account adds up the rows, and checks for each file that none is missing.
func (r *report) account(drops []drop, files map[string]*ingest.File) {
	for _, f := range files {
		r.pending += f.Pending()
		for code, n := range f.Codes {
			if code.Rejected() {
				r.rejected[code.String()] += n
			} else if code.Settled() {
				r.outcomes[code.String()] += n
			}
		}
	}

	printed := map[string]bool{}
	for _, d := range drops {
		id := sha256.Sum256(d.text)

		key := hex.EncodeToString(id[:])
		if printed[key] {
			continue // a copy has no rows of its own
		}

		printed[key] = true

		f := files[key]
		if f == nil && d.kind == binary {
			f = setAside(files, d.name)
		}

		switch {
		case f == nil:
			r.unsettled = append(r.unsettled, d.name+": not in the file ledger")
			continue
		case f.Rows != d.rows || f.Rejected != d.rejected:
			r.unsettled = append(r.unsettled, fmt.Sprintf("%s: %d rows, %d of them rejected; the ledger has %d and %d",
				d.name, d.rows, d.rejected, f.Rows, f.Rejected))
		case f.Pending() > 0:
			r.unsettled = append(r.unsettled, fmt.Sprintf("%s: %d rows have no outcome", d.name, f.Pending()))
		}

		if f.Codes.Settled() > 0 && !f.Finished.IsZero() {
			r.time(d.at, f.Finished)
		}
	}

	if r.left > 0 {
		r.unsettled = append(r.unsettled, fmt.Sprintf("%d files still lie in the input directory", r.left))
	}
}

// setAside finds the record of a file that is not text by its name. Ingest does not read such a file to its end, so
// the record has no hash of the whole content.
func setAside(files map[string]*ingest.File, name string) *ingest.File {
	for _, f := range files {
		if f.Name == name && f.Problem != "" {
			return f
		}
	}

	return nil
}

// time records how long a file took from its drop to its last outcome.
func (r *report) time(dropped, finished time.Time) {
	took := max(finished.Sub(dropped), 0)
	down := !r.calls.first.IsZero() && finished.After(r.calls.first) && (r.calls.last.IsZero() || dropped.Before(r.calls.last))
	if down {
		r.slow = append(r.slow, took)
	} else {
		r.quick = append(r.quick, took)
	}
}

// countFiles counts the files in a directory. A directory that does not exist has none.
func countFiles(dir string) (int, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}

	return len(entries), err
}

// lines returns the report's lines.
func (r *report) lines(color bool) []string {
	st := style{color: color}

	head := func(name string) string { return " " + st.paint(bold, fmt.Sprintf("%-9s", name)) }
	lines := []string{
		"",
		head("files") + fmt.Sprintf("%s dropped: %s processed, %s set aside, %s left", thousands(r.dropped), thousands(r.processed),
			thousands(r.setAside), thousands(r.left)),
		"",
		head("rows") + fmt.Sprintf("%s read", thousands(sum(r.outcomes)+sum(r.rejected)+r.pending)),
	}
	for _, name := range byCount(r.outcomes) {
		lines = append(lines, fmt.Sprintf("%10s%8s  %s", "", thousands(r.outcomes[name]), name))
	}

	if r.pending > 0 {
		lines = append(lines, fmt.Sprintf("%10s%8s  pending", "", thousands(r.pending)))
	}

	if n := sum(r.rejected); n > 0 {
		var reasons []string
		for _, name := range byCount(r.rejected) {
			reasons = append(reasons, fmt.Sprintf("%d %s", r.rejected[name], name))
		}

		lines = append(lines, wrap(fmt.Sprintf("%10s%8s  ", "", thousands(n)), "rejected: "+strings.Join(reasons, ", "), usualWidth)...)
	}

	lines = append(lines, "",
		head("AtHoc")+fmt.Sprintf("%s calls: %d token, %d search, %s update; %d failed", thousands(r.calls.all()), r.calls.token,
			r.calls.search, thousands(r.calls.update), r.calls.failed),
		fmt.Sprintf("%10s%s users sent, %s applied", "", thousands(r.calls.sent), thousands(r.calls.applied)), "",
		head("time")+fmt.Sprintf("%-29s%7s%10s%10s%10s", "from drop to confirmed", "files", "median", "99 %", "longest"))
	lines = append(lines, timeLine("files not hit by the outage", r.quick), timeLine("files hit by the outage", r.slow), "")

	return append(lines, r.verdict(st, head("end"))...)
}

func timeLine(name string, times []time.Duration) string {
	if len(times) == 0 {
		return fmt.Sprintf("%10s%-29s%7d", "", name, 0)
	}

	times = slices.Sorted(slices.Values(times))

	return fmt.Sprintf("%10s%-29s%7d%10s%10s%10s", "", name, len(times), seconds(percentile(times, 50)),
		seconds(percentile(times, 99)), seconds(times[len(times)-1]))
}

// percentile returns the smallest of the sorted times such that the given percentage of them do not exceed it.
func percentile(sorted []time.Duration, percent int) time.Duration {
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

func (r *report) verdict(st style, head string) []string {
	if r.right() {
		return []string{
			head + st.paint(green, "RIGHT") + fmt.Sprintf(" after %s: AtHoc holds what the files say, for every user,", seconds(r.took)),
			fmt.Sprintf("%10sand every row has its outcome (%s users, %s of them on duty)", "", thousands(r.users), thousands(r.on)),
		}
	}

	lines := []string{head + st.paint(red, "WRONG") + fmt.Sprintf(" after %s: %d of %s users wrong, %d findings in files",
		seconds(r.took), len(r.wrong), thousands(r.users), len(r.unsettled))}
	for _, list := range [][]string{r.wrong, r.unsettled} {
		for i, finding := range list {
			if i == shownFindings {
				lines = append(lines, fmt.Sprintf("%10sand %d more", "", len(list)-i))
				break
			}

			lines = append(lines, wrap(fmt.Sprintf("%10s", ""), finding, usualWidth)...)
		}
	}

	return lines
}

func sum(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}

	return n
}

// byCount returns the names, those with the greatest counts first.
func byCount(counts map[string]int) []string {
	return slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			return counts[b] - counts[a]
		}
		return strings.Compare(a, b)
	})
}

// lastLines returns the last n lines of a text file, or "" if it cannot be read.
func lastLines(path string, n int) string {
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close()

	var last []string
	for scan := bufio.NewScanner(file); scan.Scan(); {
		if last = append(last, scan.Text()); len(last) > n {
			last = last[1:]
		}
	}

	if len(last) == 0 {
		return ""
	}

	return strings.Join(last, "\n") + "\n"
}
