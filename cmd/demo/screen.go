package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"bobosync/cmd/bobosync/terminal"
)

// The escape sequences of terminals.
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	clearBelow = "\x1b[J"

	bold    = "\x1b[1m"
	dim     = "\x1b[2m"
	red     = "\x1b[31m"
	green   = "\x1b[32m"
	yellow  = "\x1b[33m"
	plainly = "\x1b[0m"
)

// usualWidth is the width assumed of a terminal that does not report one.
const usualWidth = 80

// screen shows events, one a line, and on a terminal a view below them that is redrawn in place. It is used by one
// goroutine only.
type screen struct {
	w        io.Writer
	terminal bool
	live     bool // the view is shown
	style    style
	color    bool
	width    func() int
	began    time.Time
	drawn    int // lines of the view that are on the screen
}

// style determines how the view is drawn.
type style struct {
	color bool
	// bar holds the signs for what is done, what waits, and what is still to come.
	bar [3]string
}

var (
	unicodeBar = [3]string{"█", "▒", "░"}
	asciiBar   = [3]string{"#", "=", "."}
)

// newScreen returns a screen that writes to w. If w is not a terminal, or live is false, it shows only events.
func newScreen(w io.Writer, live bool) *screen {
	s := &screen{w: w, width: func() int { return usualWidth }, began: time.Now()}
	terminal, color := terminal.Detect(w)
	if file, ok := w.(*os.File); ok && terminal {
		s.width = func() int {
			if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
				return width
			}
			return usualWidth
		}
	}

	s.terminal, s.live = terminal, live && terminal
	s.color = color
	s.style = style{color: s.color, bar: asciiBar}
	if speaksUnicode(os.Getenv) {
		s.style.bar = unicodeBar
	}

	if s.live {
		fmt.Fprint(s.w, hideCursor)
	}

	return s
}

// speaksUnicode reports whether the terminal can show Unicode, judging by the locale. Windows has no locale variables,
// but its terminals can.
func speaksUnicode(env func(string) string) bool {
	if runtime.GOOS == "windows" {
		return true
	}

	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(env(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}

	return false
}

// event shows a line with the time since the start.
func (s *screen) event(text string) {
	at := fmt.Sprintf("%6.1f s  ", time.Since(s.began).Seconds())
	if !s.terminal { // one line for each event, since programs may read the output
		s.print(at + text)
		return
	}

	s.print(wrap(at, text, s.width())...)
}

// print prints lines that stay on the screen.
func (s *screen) print(lines ...string) {
	fmt.Fprint(s.w, s.erase()+strings.Join(lines, "\n")+"\n")
}

// erase returns the sequences that remove the view from the screen.
func (s *screen) erase() string {
	if s.drawn == 0 {
		return ""
	}

	up := fmt.Sprintf("\x1b[%dA\r", s.drawn)
	s.drawn = 0

	return up + clearBelow
}

// draw shows the view in place of the previous one.
func (s *screen) draw(v view) {
	if !s.live {
		return
	}

	lines := render(v, s.style, s.width()-1)
	frame := s.erase() + strings.Join(lines, "\n") + "\n" // in a single write, so that nothing flickers
	s.drawn = len(lines)
	fmt.Fprint(s.w, frame)
}

// close removes the view, and shows the cursor again.
func (s *screen) close() {
	if s.live {
		fmt.Fprint(s.w, s.erase()+showCursor)
		s.live = false
	}
}

// render returns the lines of the view, each at most width columns wide.
func render(v view, st style, width int) []string {
	const bars = 30

	toCome := v.files - v.done - v.waiting
	done := bars * v.done / v.files
	waiting := (bars*(v.done+v.waiting)+v.files-1)/v.files - done
	bar := st.paint(green, strings.Repeat(st.bar[0], done)) + st.paint(yellow, strings.Repeat(st.bar[1], waiting)) +
		st.paint(dim, strings.Repeat(st.bar[2], bars-done-waiting))
	athoc := st.paint(green, "up")
	if v.down > 0 {
		athoc = st.paint(red, "DOWN for "+seconds(v.down))
	}

	oldest := "no file waits"
	if v.oldest > 0 {
		oldest = "unconfirmed file was dropped " + seconds(v.oldest) + " ago"
	}

	lines := []string{
		"",
		fmt.Sprintf(" %s  %s  %d done, %d waiting, %d to come", st.paint(bold, "files "), bar, v.done, v.waiting, toCome),
		fmt.Sprintf(" %s  %s in confirmed files, %s waiting", st.paint(bold, "rows  "), thousands(v.rowsDone), thousands(v.rows-v.rowsDone)),
		fmt.Sprintf(" %s  %s; %s calls, %d of them failed", st.paint(bold, "AtHoc "), athoc, thousands(v.calls.all()), v.calls.failed),
		fmt.Sprintf(" %s  %s sent, %s applied", st.paint(bold, "users "), thousands(v.calls.sent), thousands(v.calls.applied)),
		fmt.Sprintf(" %s  %s", st.paint(bold, "oldest"), oldest),
	}
	for i := range lines {
		lines[i] = clip(lines[i], width)
	}

	return lines
}

func (st style) paint(how, text string) string {
	if !st.color || text == "" {
		return text
	}
	return how + text + plainly
}

// clip cuts a line to width columns. Escape sequences take no columns.
func clip(line string, width int) string {
	var out strings.Builder
	columns, inside := 0, false
	for _, r := range line {
		switch {
		case r == '\x1b':
			inside = true
		case inside:
			inside = r != 'm'
		case columns >= width:
			continue // the sequences that follow are kept: they end the colours
		default:
			columns++
		}

		out.WriteRune(r)
	}

	return out.String()
}

// wrap breaks a text at blanks. The first line begins with mark, the others are indented by its width.
func wrap(mark, text string, width int) []string {
	room := strings.Repeat(" ", utf8.RuneCountInString(mark))
	line := mark
	var lines []string
	for i, word := range strings.Fields(text) {
		if i > 0 && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) >= width {
			lines = append(lines, line)
			line = room
		} else if i > 0 {
			line += " "
		}

		line += word
	}

	return append(lines, line)
}

// seconds formats a duration for people.
func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// thousands formats a count for people.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}

	return text
}
