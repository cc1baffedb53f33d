//go:build !windows

package disk

import "syscall"

// systemFull are further errors of the system.
var systemFull []syscall.Errno
