package web

// Pictures that the console draws: a bar of outcomes. Each says in words what it shows.

import (
	"fmt"
	"html/template"
	"strings"

	"bobosync/shared/control"
	"bobosync/shared/text"
)

// outcomeBar shows a file's rows by what became of them, as a bar and in numbers.
func outcomeBar(f control.FileState) template.HTML {
	names := outcomes(f)
	if f.Rows == 0 || len(names) == 0 {
		return "<p>No row has an outcome yet.</p>"
	}

	var bar, list strings.Builder
	at := 0.0
	for i, name := range names {
		n := f.Outcomes[name]
		part := 1000 * float64(n) / float64(f.Rows)
		shade := i % 6
		name = template.HTMLEscapeString(text.Clean(name))

		fmt.Fprintf(&bar, `<rect class="s%d" x="%.1f" width="%.1f" y="0" height="20"/>`, shade, at, max(part, 2))
		fmt.Fprintf(&list, `<li><svg class="key" aria-hidden="true" viewBox="0 0 10 10"><rect class="s%d" width="10" height="10"/></svg> %s <b>%s</b></li>`, shade, name, count(int64(n)))

		at += part
	}

	return template.HTML(`<svg class="bar" role="img" aria-label="the numbers below as a bar" viewBox="0 0 1000 20" preserveAspectRatio="none">` + //nolint:gosec // names are escaped above
		bar.String() + `</svg><ul class="legend">` + list.String() + `</ul>`)
}
