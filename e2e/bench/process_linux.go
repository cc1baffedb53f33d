package bench

import "syscall"

// attributes puts a process into a group of its own, so that Ctrl-C in the terminal does not reach it and it is
// stopped in order. It also makes the process end with the benchmark, for whatever reason that ends.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
