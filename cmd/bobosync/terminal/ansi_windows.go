package terminal

import (
	"os"

	"golang.org/x/sys/windows"
)

// speaksANSI reports whether a console understands escape sequences. Older consoles do so only once they are set to.
func speaksANSI(file *os.File) bool {
	handle := windows.Handle(file.Fd())
	var mode uint32
	if windows.GetConsoleMode(handle, &mode) != nil {
		return false
	}

	return windows.SetConsoleMode(handle, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
