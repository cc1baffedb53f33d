// Package view shows the status of the whole on one screen.
package view

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

// Status writes one screen: up to when AtHoc is complete, the verdict, what is wrong and what to do, and then the
// figures.
func Status(w io.Writer, f verdict.Facts, v verdict.Verdict, color Color) error {
	out := text.To(w)
	if !v.CompleteUpTo.IsZero() {
		out.Printf("AtHoc is complete up to %s\n", text.When(v.CompleteUpTo))
	}

	out.Printf("%s\n(%s)\n", color.level(v.Level, v.String()), text.When(f.At))

	for _, found := range v.Findings {
		out.Printf("\n%s  %s.\n         Do: %s.\n", color.level(found.Level, fmt.Sprintf("%-7s", found.Level)), found.Text, found.Do)
	}

	if !f.Reached() {
		return out.Err() // there are no figures
	}

	out.Printf("\n")

	rows := slices.Concat(freshRows(f), fileRows(f), workerRows(f), [][]string{{"AtHoc", verdict.AtHocWords(f)}, {"Backlog", backlogWords(f)}, {"Dead letters", strconv.FormatUint(f.DeadLetters, 10)}})
	out.Table(rows)
	showInstances(out, f)
	showJobs(out, f)

	return out.Err()
}

// freshRows returns rows that say how long the files' rows took in the last hour.
func freshRows(f verdict.Facts) (rows [][]string) {
	for _, s := range f.Ingest {
		fresh := s.Freshness
		if fresh == nil || fresh.Worst == nil {
			continue
		}

		w := fresh.Worst
		rows = append(rows,
			[]string{"Last hour", fmt.Sprintf("%s confirmed after %s", text.Count(fresh.Rows, "row"), spread(fresh.Total))},
			[]string{"  settling", spread(fresh.Settling)}, []string{"  us", spread(fresh.Us)}, []string{"  AtHoc", spread(fresh.AtHoc)},
			[]string{"  slowest", fmt.Sprintf("%s, line %d, at %s (settling %s, us %s, AtHoc %s)", text.Clean(w.File), w.Line, text.When(w.Confirmed),
				text.Seconds(w.Settling), text.Seconds(w.Us), text.Seconds(w.AtHoc))})
	}

	return rows
}

func spread(s control.Spread) string {
	return fmt.Sprintf("%s (p50), %s (p95), %s (p99), %s (worst)", text.Seconds(s.P50), text.Seconds(s.P95), text.Seconds(s.P99), text.Seconds(s.Worst))
}

func fileRows(f verdict.Facts) (rows [][]string) {
	for _, s := range f.Ingest {
		if apart := verdict.ApartWords(s); apart != "" {
			rows = append(rows, []string{"Counted apart", apart})
		}

		waiting := text.Count(s.Waiting, "file") + " waiting"
		if s.Waiting > 0 {
			waiting += fmt.Sprintf(" with %s to be confirmed, the oldest for %s", text.Count(s.Rows, "row"), text.Ago(f.At.Sub(s.Oldest)))
		}

		if n := len(s.Unsettled); n > 0 {
			waiting += fmt.Sprintf("; %d still being written", n)
		}

		if !s.LastFile.IsZero() {
			waiting += fmt.Sprintf("; the newest came %s ago", text.Ago(f.At.Sub(s.LastFile)))
		}

		t := s.Today
		rows = append(rows, []string{"Files", waiting},
			[]string{"Today", fmt.Sprintf("%s done, %d failed; %s, %d of them rejected%s", text.Count(t.Done, "file"), t.Failed, text.Count(t.Rows, "row"), t.Rejected, rejections(t))})
	}

	return rows
}

// rejections describes the reasons for which rows were rejected.
func rejections(t control.FileCounts) string {
	settled := map[string]bool{event.Pending.String(): true}
	for _, o := range event.Outcomes() {
		settled[o.String()] = true
	}

	var parts []string
	for _, name := range slices.Sorted(maps.Keys(t.Outcomes)) {
		if !settled[name] && t.Outcomes[name] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", t.Outcomes[name], name))
		}
	}

	if len(parts) == 0 {
		return ""
	}

	return " (" + strings.Join(parts, ", ") + ")"
}

func workerRows(f verdict.Facts) (rows [][]string) {
	for _, s := range f.Resolver {
		if n := s.Guard.Users(); n > 0 {
			rows = append(rows, []string{"Held", fmt.Sprintf("%s of %s, which waits for a decision: bobosync held", text.Count(n, "user"), text.Count(len(s.Guard.Held), "mass change"))})
		}

		by, wait := "", "all confirmed by AtHoc"
		if s.Guard.Users() > 0 {
			by, wait = " by their newest bookings", "all but the held ones confirmed by AtHoc"
		}

		if s.Unconfirmed+s.Unresolved > 0 {
			wait = fmt.Sprintf("%d held back, %d not confirmed yet, the oldest of a booking at %s", s.Unresolved, s.Unconfirmed, text.When(s.Oldest))
		}

		rows = append(rows, []string{"Workers", fmt.Sprintf("%d on duty%s of %d known, %d unmapped; %s", s.OnDuty, by, s.Workers, s.Unmapped, wait)},
			[]string{"Mapping", fmt.Sprintf("%s in use", text.Count(s.Mapped, "employee id"))})
		if s.Replays > 0 {
			rows = append(rows, []string{"Replays", fmt.Sprintf("%d under way: bobosync replay list", s.Replays)})
		}
	}

	return rows
}

func backlogWords(f verdict.Facts) string {
	var parts []string
	for _, s := range []topology.Service{topology.Ingest, topology.Resolver, topology.Publisher} {
		parts = append(parts, fmt.Sprintf("%s %d", s, f.Backlog[s]))
	}

	return strings.Join(parts, ", ") + " (messages)"
}

func showInstances(out *text.Printer, f verdict.Facts) {
	rows := [][]string{{"SERVICE", "INSTANCE", "VERSION", "SINCE", "DOES"}}
	for i, instance := range f.Instances() {
		rows = append(rows, []string{string(instance.Service), instance.Name, instance.Version, text.When(instance.Started), verdict.Activities(f)[i]})
	}

	out.Printf("\n")
	out.Table(rows)

	for _, line := range strayPartitions(f) {
		out.Line(line)
	}
}

// strayPartitions describes the partitions that are leased to a process that has not answered, such as a killed one
// whose leases have not expired yet.
func strayPartitions(f verdict.Facts) []string {
	known := map[int]bool{}
	for _, s := range f.Publisher {
		for _, partition := range s.Partitions {
			known[partition] = true
		}
	}

	by := map[string][]int{}
	for _, partition := range slices.Sorted(maps.Keys(f.Partitions)) {
		if !known[partition] && !answered(f, f.Partitions[partition]) {
			by[f.Partitions[partition]] = append(by[f.Partitions[partition]], partition)
		}
	}

	var lines []string
	for _, owner := range slices.Sorted(maps.Keys(by)) {
		lines = append(lines, fmt.Sprintf("Partitions %s are leased to %s, which does not answer; the lease expires by itself.",
			strings.Trim(fmt.Sprint(by[owner]), "[]"), owner))
	}

	return lines
}

// answered reports whether the owner of a lease is one of the publishers that have answered. Such an owner may have
// released the partition, or taken it, between the two requests.
func answered(f verdict.Facts, owner string) bool {
	return slices.ContainsFunc(f.Publisher, func(s control.PublisherState) bool {
		return strings.ReplaceAll(s.Name, "/", "-") == strings.ReplaceAll(owner, "/", "-")
	})
}

func showJobs(out *text.Printer, f verdict.Facts) {
	rows := [][]string{{"JOB", "LAST", "NEXT", "STATE"}}
	for _, s := range f.Janitor {
		for _, d := range s.Jobs {
			rows = append(rows, []string{d.Name, text.When(d.LastSuccess), text.When(d.Next), verdict.JobState(f.At, d)})
		}
	}

	if len(rows) > 1 {
		out.Printf("\n")
		out.Table(rows)
	}
}
