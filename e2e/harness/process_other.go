//go:build unix && !linux

package harness

import "syscall"

// attributes puts a process into a group of its own, so that a signal for the test does not reach it through the
// terminal.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// peak returns 0: it is unknown on this system.
func (p *Process) peak() int64 { return 0 }
