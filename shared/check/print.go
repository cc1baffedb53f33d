package check

import (
	"fmt"
	"io"
	"unicode/utf8"

	"bobosync/shared/text"
)

// colours are the terminal escape sequences of the levels.
var colours = map[Level]string{OK: "\x1b[32m", Skipped: "\x1b[2m", Warning: "\x1b[33m", Problem: "\x1b[31m"}

const plain = "\x1b[0m"

// Print writes the results for people: aligned, one line each, with the advice below it.
func Print(w io.Writer, results []Result, colour bool) error {
	width, who := 0, 0
	for _, r := range results {
		width, who = max(width, utf8.RuneCountInString(r.Check)), max(who, len(r.Service))
	}

	if who > 0 {
		who += 2
	}

	out := text.To(w)
	for _, r := range results {
		level := text.Raw(fmt.Sprintf("%-7s", text.Clean(string(r.Level)))) // a service of another version may have set the level
		if colour {
			level = text.Raw(colours[r.Level]) + level + plain
		}

		out.Printf("%s  %-*s%-*s  %s\n", level, who, r.Service, width, r.Check, r.Message)

		if r.Advice != "" {
			out.Printf("%*s→ %s\n", 7+2+who+width+2, "", r.Advice)
		}
	}

	out.Printf("\n%s\n", Summary(results))

	return out.Err()
}

// Summary counts the results by level, in words.
func Summary(results []Result) string {
	line := fmt.Sprintf("%d ok, %s, %s", Count(results, OK), text.Count(Count(results, Warning), "warning"), text.Count(Count(results, Problem), "problem"))
	if n := Count(results, Skipped); n > 0 {
		line += fmt.Sprintf(", %d not tried", n)
	}

	return line
}
