//go:build !windows

package main

import "os"

// speaksANSI says whether a terminal understands escape sequences.
func speaksANSI(*os.File) bool { return true }
