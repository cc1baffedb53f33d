//go:build !windows

package demo

import "os"

// speaksANSI says whether a terminal understands escape sequences.
func speaksANSI(*os.File) bool { return true }
