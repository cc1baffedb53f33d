package check

import (
	"fmt"
	"io"
	"unicode/utf8"

	"bobosync/shared/text"
)

// Colours of the levels, as escape sequences of terminals.
var colours = map[Level]string{OK: "\x1b[32m", Skipped: "\x1b[2m", Warning: "\x1b[33m", Problem: "\x1b[31m"}

const plain = "\x1b[0m"

// Print writes the results for people: a line each, aligned, and under it what to do.
func Print(w io.Writer, results []Result, colour bool) error {
	width := 0
	for _, r := range results {
		width = max(width, utf8.RuneCountInString(r.Check))
	}
	out := text.To(w)
	for _, r := range results {
		level := text.Raw(fmt.Sprintf("%-7s", r.Level))
		if colour {
			level = text.Raw(colours[r.Level]) + level + plain
		}
		out.Printf("%s  %-*s  %s\n", level, width, r.Check, r.Message)
		if r.Advice != "" {
			out.Printf("%*s→ %s\n", 7+2+width+2, "", r.Advice)
		}
	}
	out.Printf("\n%s\n", verdict(results))
	return out.Err()
}

// verdict is the last line.
func verdict(results []Result) string {
	count := map[Level]int{}
	for _, r := range results {
		count[r.Level]++
	}
	line := fmt.Sprintf("%d ok, %s, %s", count[OK], text.Count(count[Warning], "warning"), text.Count(count[Problem], "problem"))
	if count[Skipped] > 0 {
		line += fmt.Sprintf(", %d not tried", count[Skipped])
	}
	return line
}
