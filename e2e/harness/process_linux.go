package harness

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// attributes puts a process into a group of its own, so that a signal for the test does not reach it through the
// terminal. It also makes the process end with the harness, for whatever reason that ends.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// peak returns the most memory, in bytes, that the process has used since its start, or 0 if it is not running.
func (p *Process) peak() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if !p.runs() {
		return 0
	}

	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)) // it may just have ended
	if _, rest, found := bytes.Cut(status, []byte("VmHWM:")); found {
		_, _ = fmt.Sscan(string(rest), &n)
	}

	return n << 10
}
