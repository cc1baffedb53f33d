//go:build unix

package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// timeout is how long a process may take to end after SIGTERM.
const timeout = 15 * time.Second

// process is a running program. Its methods are for one goroutine.
type process struct {
	name string
	log  string // path of its output

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
	err   error         // how it ended; read it after ended is closed
}

// startProcess starts a program. Where the system can arrange it, the program ends when this one ends, for whatever
// reason.
func startProcess(name, path, log string, env []string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close() // the child has a copy of its own

	cmd := exec.Command(path, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = env, out, out, attributes()
	p := &process{name: name, log: log, cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		// On Linux the child gets its death signal when the thread that started it ends, so keep the thread until the
		// child has ended.
		runtime.LockOSThread()

		defer runtime.UnlockOSThread()

		err := cmd.Start()
		started <- err

		if err == nil {
			p.err = cmd.Wait()
			close(p.ended)
		}
	}()

	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}

	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// died returns an error if the process has ended.
func (p *process) died() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s has ended by itself (%w): see %s", p.name, orNil(p.err), p.log)
	default:
		return nil
	}
}

var errStatusZero = errors.New("exit status 0")

func orNil(err error) error {
	if err == nil {
		return errStatusZero
	}
	return err
}

// stop asks the process to end and waits for it. A process that takes too long is killed, which is an error.
func (p *process) stop() error {
	select {
	case <-p.ended:
		return nil
	default:
	}

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}

	timer := time.NewTimer(timeout)
	defer timer.Stop()

	select {
	case <-p.ended:
	case <-timer.C:
		err := p.cmd.Process.Kill()
		<-p.ended
		return errors.Join(fmt.Errorf("%s did not end within %s of SIGTERM", p.name, timeout), err)
	}

	if p.err != nil {
		return fmt.Errorf("%s ended badly after SIGTERM: %w: see %s", p.name, p.err, p.log)
	}

	return nil
}
