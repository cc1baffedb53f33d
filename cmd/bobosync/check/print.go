package check

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
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
	var b strings.Builder
	for _, r := range results {
		level := fmt.Sprintf("%-7s", r.Level)
		if colour {
			level = colours[r.Level] + level + plain
		}
		fmt.Fprintf(&b, "%s  %-*s  %s\n", level, width, r.Check, r.Message)
		if r.Advice != "" {
			fmt.Fprintf(&b, "%*s→ %s\n", 7+2+width+2, "", r.Advice)
		}
	}
	b.WriteString(verdict(results))
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}

// verdict is the last line.
func verdict(results []Result) string {
	count := map[Level]int{}
	for _, r := range results {
		count[r.Level]++
	}
	text := fmt.Sprintf("\n%d ok, %s, %s", count[OK], plural(count[Warning], "warning"), plural(count[Problem], "problem"))
	if count[Skipped] > 0 {
		text += fmt.Sprintf(", %d not tried", count[Skipped])
	}
	return text + "\n"
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// PrintJSON writes the results for scripts: an array, an object for each.
func PrintJSON(w io.Writer, results []Result) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(results); err != nil {
		return fmt.Errorf("write the results: %w", err)
	}
	return nil
}
