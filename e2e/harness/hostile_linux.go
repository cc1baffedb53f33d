package harness

import (
	"os"
	"syscall"
)

// takeLease takes a lease on the file: whoever opens it waits until it is closed here, or is turned away.
func takeLease(file *os.File) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), syscall.F_SETLEASE, syscall.F_WRLCK); errno != 0 {
		return os.NewSyscallError("fcntl", errno)
	}
	return nil
}
