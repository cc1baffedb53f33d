//go:build !windows

package terminal

import "os"

// speaksANSI reports whether a terminal understands escape sequences.
func speaksANSI(*os.File) bool { return true }
