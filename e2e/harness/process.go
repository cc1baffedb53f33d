//go:build unix

package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// timeout is how long a process may take to end after SIGTERM.
const timeout = 15 * time.Second

// startTime is how long a program on a busy machine may need until it handles signals.
const startTime = 10 * time.Second

// Process is one program of the stack. It can be started again and again, with the same settings; its output goes to
// a file. Its methods may be called from several goroutines.
type Process struct {
	Name string

	path string
	args []string
	env  []string
	dir  string
	log  string

	mu      sync.Mutex
	cmd     *exec.Cmd
	ended   chan struct{} // closed when cmd has ended
	err     error         // how it ended; read it after ended is closed
	paused  bool
	starts  int
	started time.Time
	wanted  bool // it was started, and nobody has stopped it
	// halted, if not nil, is called before the process is killed, or continues after being frozen.
	halted func()
}

// starter is the thread that starts all processes. On Linux a child gets its death signal when the thread that
// started it ends, and Go may end any thread but this one at any time.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread() // for as long as this program runs

		for f := range work {
			f()
		}
	}()

	return work
})

// Start starts the process, unless it is running.
func (p *Process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.runs() {
		return nil
	}

	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer out.Close() // the child has a copy of its own

	p.starts++
	fmt.Fprintf(out, "--- start %d at %s\n", p.starts, time.Now().Format("15:04:05.000"))

	cmd := exec.Command(p.path, p.args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = p.env, p.dir, out, out, attributes()
	started := make(chan error, 1)
	starter() <- func() { started <- cmd.Start() }

	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}

	ended := make(chan struct{})
	p.cmd, p.ended, p.paused, p.wanted, p.started = cmd, ended, false, true, time.Now()
	go func() {
		err := cmd.Wait()

		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(ended)
	}()

	return nil
}

// runs is Running for callers that hold the lock.
func (p *Process) runs() bool {
	if p.cmd == nil {
		return false
	}

	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Running reports whether the process is running, even if it is paused.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs()
}

// signal sends a signal. It returns a channel that is closed when the process has ended, nil if the process is not
// running.
func (p *Process) signal(sig syscall.Signal) (<-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if !p.runs() {
		return nil, nil
	}

	if sig == syscall.SIGKILL || sig == syscall.SIGTERM {
		p.wanted = false
	}

	err := p.cmd.Process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}

	if err != nil {
		return nil, fmt.Errorf("send %s to %s: %w", sig, p.Name, err)
	}

	switch sig {
	case syscall.SIGSTOP:
		p.paused = true
	case syscall.SIGCONT:
		p.paused = false
	}

	return p.ended, nil
}

// Kill ends the process at once, as kill -9 does, and waits for the end.
func (p *Process) Kill() error {
	if p.halted != nil {
		p.halted()
	}

	ended, err := p.signal(syscall.SIGKILL)
	if ended != nil && err == nil {
		<-ended
	}

	return err
}

// Stop asks the process to end and waits for it. If that takes too long, the process is killed, which is an error.
func (p *Process) Stop() error {
	if err := p.Resume(); err != nil {
		return err
	}

	ended, err := p.signal(syscall.SIGTERM)
	if ended == nil || err != nil {
		return err
	}

	timer := time.NewTimer(timeout)
	defer timer.Stop()

	select {
	case <-ended:
	case <-timer.C:
		return errors.Join(fmt.Errorf("%s did not stop within %s of SIGTERM", p.Name, timeout), p.Kill())
	}

	p.mu.Lock()
	defer p.mu.Unlock()

	if p.err != nil && !p.unready() {
		return fmt.Errorf("%s ended badly after SIGTERM: %w", p.Name, p.err)
	}

	return nil
}

// unready reports whether SIGTERM itself ended the process so soon after its start that it cannot have handled
// signals yet. The caller holds the lock.
func (p *Process) unready() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGTERM && time.Since(p.started) < startTime
}

// Pause freezes the process with SIGSTOP.
func (p *Process) Pause() error {
	_, err := p.signal(syscall.SIGSTOP)
	return err
}

// Resume lets a frozen process continue.
func (p *Process) Resume() error {
	p.mu.Lock()
	paused := p.paused
	p.mu.Unlock()

	if !paused {
		return nil
	}

	if p.halted != nil {
		p.halted()
	}

	_, err := p.signal(syscall.SIGCONT)

	return err
}

// Died returns an error if the process was started and has ended by itself.
func (p *Process) Died() error {
	p.mu.Lock()
	defer p.mu.Unlock()

	if !p.wanted || p.runs() {
		return nil
	}

	if p.err == nil {
		return fmt.Errorf("%s has ended by itself, without an error; see %s", p.Name, p.log)
	}

	return fmt.Errorf("%s has ended by itself: %w; see %s", p.Name, p.err, p.log)
}
