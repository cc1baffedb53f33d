//go:build linux

// Package containers runs the project's images with the project's compose files, and lets the auditor judge. It uses
// the machine's container engine, or starts one of its own for the duration of the test: see FindEngine.
package containers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrNoEngine means that there is no engine and that none could be started.
var ErrNoEngine = errors.New("no container engine")

// How long starting and stopping an engine of our own may take, and how often conditions are polled.
const (
	engineStart = 30 * time.Second
	engineStop  = 30 * time.Second
	lookAgain   = 100 * time.Millisecond
)

// Engine is a Docker daemon.
type Engine struct {
	env    []string // tells the client where the daemon is
	daemon *exec.Cmd
	ended  chan struct{} // closed when the daemon has ended
	dir    string
}

// FindEngine returns the daemon that this machine's docker client is set up for. If there is none, but this process
// runs as root and dockerd is installed, FindEngine starts a daemon with a socket and a store of its own, below the
// directory for temporary files; Close ends it and deletes both. The error wraps ErrNoEngine and says why neither is
// available.
func FindEngine(ctx context.Context) (*Engine, error) {
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, fmt.Errorf("%w: there is no docker client", ErrNoEngine)
	}

	e := &Engine{env: os.Environ()}

	_, err := e.Docker(ctx, "version", "--format", "{{.Server.Version}}")
	if err == nil {
		return e, nil
	}

	if os.Getuid() != 0 {
		return nil, fmt.Errorf("%w: %w, and only root can start one", ErrNoEngine, err)
	}

	path, lookErr := exec.LookPath("dockerd")
	if lookErr != nil {
		return nil, fmt.Errorf("%w: %w, and dockerd is not installed", ErrNoEngine, err)
	}

	if e.dir, err = os.MkdirTemp("", "dockerd-"); err != nil {
		return nil, err
	}

	if err := e.start(ctx, path); err != nil {
		return nil, errors.Join(err, e.Close())
	}

	return e, nil
}

// start starts a daemon and waits until it answers.
func (e *Engine) start(ctx context.Context, path string) error {
	socket := "unix://" + filepath.Join(e.dir, "socket")
	e.env = append(os.Environ(), "DOCKER_HOST="+socket)
	var log bytes.Buffer
	e.daemon = exec.Command(path, "--data-root", filepath.Join(e.dir, "data"), "--exec-root", filepath.Join(e.dir, "run"),
		"--pidfile", filepath.Join(e.dir, "pid"), "--host", socket)
	e.daemon.Stdout, e.daemon.Stderr = &log, &log
	// Ctrl-C should reach only the test, which ends the daemon once its containers are gone.
	e.daemon.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := e.daemon.Start(); err != nil {
		return fmt.Errorf("%w: start dockerd: %w", ErrNoEngine, err)
	}

	e.ended = make(chan struct{})
	go func() {
		defer close(e.ended)

		_ = e.daemon.Wait() // the log says why it ended
	}()

	ctx, cancel := context.WithTimeout(ctx, engineStart)
	defer cancel()

	tick := time.NewTicker(lookAgain)
	defer tick.Stop()

	for {
		if _, err := e.Docker(ctx, "version", "--format", "{{.Server.Version}}"); err == nil {
			return nil
		}

		select {
		case <-e.ended:
			return fmt.Errorf("%w: dockerd cannot run here: %s", ErrNoEngine, lastLines(log.String()))
		case <-ctx.Done():
			return fmt.Errorf("%w: dockerd does not answer: %w", ErrNoEngine, ctx.Err())
		case <-tick.C:
		}
	}
}

func lastLines(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// Close ends the daemon if it is ours, and deletes what it kept.
func (e *Engine) Close() error {
	if e.dir == "" {
		return nil
	}

	if e.daemon != nil && e.daemon.Process != nil {
		_ = e.daemon.Process.Signal(syscall.SIGTERM) // an error means that it has already ended
		select {
		case <-e.ended:
		case <-time.After(engineStop):
			_ = e.daemon.Process.Kill()
			<-e.ended
			return fmt.Errorf("dockerd did not end within %s and was killed; it leaves %s", engineStop, e.dir)
		}
	}

	return os.RemoveAll(e.dir)
}

// Docker runs the docker client and returns what it prints.
func (e *Engine) Docker(ctx context.Context, args ...string) (string, error) {
	return e.run(ctx, "docker", args...)
}

func (e *Engine) run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = e.env
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, lastLines(log.String()))
	}

	return strings.TrimSpace(out.String()), nil
}
