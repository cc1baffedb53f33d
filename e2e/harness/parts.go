//go:build unix

package harness

import (
	"context"
	"maps"
	"sync"
	"time"

	"bobosync/e2e/audit"
)

// The parts below serve those who run the programs otherwise than as processes, as in containers, and let the same auditor judge.

// NewSimulator returns the way to the pages of a simulator at host:port.
func NewSimulator(address string) *Simulator { return newSimulator(address) }

// WatchFolder returns the input directory dir, and a function that stops watching it. outside is a directory on the same file
// system, settle is SETTLE_TIME.
func WatchFolder(dir, outside string, settle time.Duration) (f *Folder, stop func()) {
	f = newFolder(dir, outside, settle)
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { f.watch(ctx) })

	return f, func() { cancel(); watching.Wait() }
}

// Kept reads all files below a directory of finished files; there is none if the directory is not there.
func Kept(dir string, failed bool) ([]audit.Kept, error) { return kept(dir, failed) }

// AddConsole starts a console with these settings, CONSOLE_ADDR among them, beside the services.
func (s *Stack) AddConsole(settings map[string]string) (*Process, error) {
	env := maps.Clone(s.env)
	env["NATS_URL"] = s.BrokerURL()
	maps.Copy(env, settings)
	return s.add("console", "console", env)
}

// AtHocAddress is where the simulator answers, without TLS.
func (s *Stack) AtHocAddress() string { return s.front.Addr() }

// Pid is the id of the process, which must run.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}
