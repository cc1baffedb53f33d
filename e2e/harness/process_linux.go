package harness

import "syscall"

// attributes put a process into a group of its own, so that a signal for the test does not reach it by the terminal, and
// let it end with the harness, however that ends.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
