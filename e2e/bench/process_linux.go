package bench

import "syscall"

// attributes put a process into a group of its own, so that Ctrl-C does not reach it by the terminal and it is stopped in
// order; and let it end with the benchmark, however that ends.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
