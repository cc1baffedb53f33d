//go:build unix && !linux

package harness

import "os"

// takeLease does nothing: this system has no leases.
func takeLease(*os.File) error { return nil }
