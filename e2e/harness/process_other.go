//go:build unix && !linux

package harness

import "syscall"

// attributes put a process into a group of its own, so that a signal for the test does not reach it by the terminal.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// peak is not known here.
func (p *Process) peak() int64 { return 0 }
