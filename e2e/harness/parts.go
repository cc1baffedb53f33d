//go:build unix

package harness

import (
	"context"
	"maps"
	"sync"
	"time"

	"bobosync/e2e/audit"
)

// The parts below are for tests that run the programs other than as processes, for example in containers, and that
// use the same auditor.

// NewSimulator returns a client of the admin pages of the simulator at host:port.
func NewSimulator(address string) *Simulator { return newSimulator(address) }

// WatchFolder returns a Folder for the input directory dir, and a function that stops watching it. outside is a
// directory on the same file system; settle is SETTLE_TIME.
func WatchFolder(dir, outside string, settle time.Duration) (f *Folder, stop func()) {
	f = newFolder(dir, outside, settle)
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { f.watch(ctx) })

	return f, func() { cancel(); watching.Wait() }
}

// Kept reads all files below a directory of finished files. If the directory does not exist, there are none.
func Kept(dir string, failed bool) ([]audit.Kept, error) { return kept(dir, failed) }

// AddConsole starts a console with these settings, including CONSOLE_ADDR, in addition to the services.
func (s *Stack) AddConsole(settings map[string]string) (*Process, error) {
	env := maps.Clone(s.env)
	env["NATS_URL"] = s.BrokerURL()
	maps.Copy(env, settings)
	return s.add("console", "console", env)
}

// AtHocAddress returns the address of the simulator, which answers without TLS.
func (s *Stack) AtHocAddress() string { return s.front.Addr() }

// Pid returns the id of the process, which must be running.
func (p *Process) Pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}
