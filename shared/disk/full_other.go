//go:build !windows

package disk

import "syscall"

// systemFull are further errors of this system that mean a full disk: none.
var systemFull []syscall.Errno
