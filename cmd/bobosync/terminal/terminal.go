// Package terminal finds out what a program's output can show.
package terminal

import (
	"io"
	"os"

	"bobosync/shared/logging"
)

// Detect reports whether w is a terminal that understands escape sequences, and whether output to it should be
// coloured.
func Detect(w io.Writer) (terminal, color bool) {
	file, ok := w.(*os.File)
	terminal = ok && logging.IsTerminal(w) && os.Getenv("TERM") != "dumb" && speaksANSI(file)
	return terminal, terminal && os.Getenv("NO_COLOR") == ""
}
