//go:build unix

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Figure is one line of the table.
type Figure struct {
	// Section groups lines.
	Section string `json:"section"`
	// Where says what was measured: a way to run the pipeline, or a process.
	Where string `json:"where"`
	// What is the quantity that was measured.
	What  string  `json:"what"`
	Value float64 `json:"value"`
	// Unit is the unit of Value; empty for plain numbers.
	Unit string `json:"unit"`
	// Target says in words what is wanted; empty if there is no target.
	Target string `json:"target,omitempty"`
	// Met reports whether the target is met; nil without a target, or if the sizes are too small to judge.
	Met *bool `json:"met,omitempty"`
}

// Report is the result of a benchmark.
type Report struct {
	// Machine describes the machine that the benchmark ran on.
	Machine []string `json:"machine"`
	Figures []Figure `json:"figures"`
	// Notes say how to read the figures.
	Notes []string `json:"notes"`
	// Problems are what went wrong: an end state that is not right, or something that did not finish. A figure that
	// misses its target is not a problem.
	Problems []string `json:"problems"`
}

// target is a condition on a value, and the condition in words.
type target struct {
	text string
	met  func(value float64) bool
}

func atLeast(bound float64, text string) target {
	return target{text, func(v float64) bool { return v >= bound }}
}

func atMost(bound float64, text string) target {
	return target{text, func(v float64) bool { return v <= bound }}
}

func below(bound float64, text string) target {
	return target{text, func(v float64) bool { return v < bound }}
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// WriteText writes the report as a table for people.
func (r *Report) WriteText(w io.Writer) error {
	var out strings.Builder
	for _, m := range r.Machine {
		fmt.Fprintln(&out, m)
	}

	width := r.widths()
	section := ""
	for _, f := range r.Figures {
		if f.Section != section {
			fmt.Fprintf(&out, "\n%s\n", f.Section)
			section = f.Section
		}

		line := fmt.Sprintf("  %-*s  %-*s  %*s %-*s  %-*s  %s",
			width[0], f.Where, width[1], f.What, width[2], f.number(), width[3], f.Unit, width[4], f.Target, f.verdict())
		fmt.Fprintln(&out, strings.TrimRight(line, " "))
	}

	fmt.Fprintln(&out)

	for _, n := range r.Notes {
		fmt.Fprintln(&out, n)
	}

	for _, p := range r.Problems {
		fmt.Fprintln(&out, "PROBLEM:", p)
	}

	_, err := io.WriteString(w, out.String())

	return err
}

// widths returns the widths of the table's columns.
func (r *Report) widths() (width [5]int) {
	for _, f := range r.Figures {
		for i, text := range []string{f.Where, f.What, f.number(), f.Unit, f.Target} {
			width[i] = max(width[i], utf8.RuneCountInString(text))
		}
	}

	return width
}

func (f Figure) verdict() string {
	switch {
	case f.Met == nil:
		return ""
	case *f.Met:
		return "met"
	default:
		return "NOT MET"
	}
}

// number writes the value with two decimals or, if it is large, as a whole number with separators.
func (f Figure) number() string {
	if math.Abs(f.Value) >= 100 || f.Value == math.Trunc(f.Value) {
		return separated(int64(math.Round(f.Value)))
	}
	return strconv.FormatFloat(f.Value, 'f', 2, 64)
}

func separated(n int64) string {
	text := strconv.FormatInt(n, 10)
	var parts []string
	for len(text) > 3 {
		parts = append([]string{text[len(text)-3:]}, parts...)
		text = text[:len(text)-3]
	}

	return strings.Join(append([]string{text}, parts...), ",")
}
