//go:build unix

package harness

// The programs of a stack: starting, ending and finding them.

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// add creates a process of a program and starts it.
func (s *Stack) add(name, program string, env map[string]string, args ...string) (*Process, error) {
	p := &Process{
		Name: name, path: filepath.Join(s.cfg.Bin, program), args: args, dir: s.cfg.Dir, log: s.Path(logDir, name+".log"),
		env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.cfg.Dir, "TZ=UTC"},
	}
	for _, k := range slices.Sorted(maps.Keys(env)) {
		p.env = append(p.env, k+"="+env[k])
	}

	return s.launch(p)
}

// halt records a moment at which answers of AtHoc's may have been lost.
func (s *Stack) halt() {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.halted = append(s.halted, time.Now())
}

// launch starts a process and adds it to the stack.
func (s *Stack) launch(p *Process) (*Process, error) {
	if p.Name == AllInOne || p.Name == Broker || strings.HasPrefix(p.Name, publisherPrefix) {
		p.halted = s.halt
	}

	s.mu.Lock()
	s.processes[p.Name] = p
	s.mu.Unlock()

	return p, p.Start()
}

// Process returns the process of that name, nil if there is none.
func (s *Stack) Process(name string) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.processes[name]
}

func (s *Stack) startServices() error {
	if s.cfg.AllInOne {
		env := maps.Clone(s.env)
		env["HTTP_PROXY"] = "http://" + s.front.Addr()
		_, err := s.add(AllInOne, "bobosync", env, "run")
		return err
	}

	args := []string{"-store", s.Path(storeDir), "-port", fmt.Sprint(s.ports.broker)}
	if s.cfg.SyncLazily {
		args = append(args, "-sync-lazily")
	}

	if _, err := s.add(Broker, "natsd", nil, args...); err != nil {
		return err
	}

	env := maps.Clone(s.env)
	env["NATS_URL"] = "nats://" + address(s.ports.broker)
	env["HTTP_PROXY"] = "http://" + s.front.Addr()
	for _, name := range []string{Ingest, Resolver, Janitor} {
		if _, err := s.add(name, name, env); err != nil {
			return err
		}
	}

	for range max(1, s.cfg.Publishers) {
		if _, err := s.AddPublisher(); err != nil {
			return err
		}
	}

	return nil
}

// AddPublisher starts one more publisher and returns its name.
func (s *Stack) AddPublisher() (string, error) {
	athoc, err := NewProxy(s.front.Addr())
	if err != nil {
		return "", err
	}

	broker, err := NewProxy(address(s.ports.broker))
	if err != nil {
		return "", errors.Join(err, athoc.Close())
	}

	env := maps.Clone(s.env)
	env["NATS_URL"] = "nats://" + broker.Addr()
	env["HTTP_PROXY"] = "http://" + athoc.Addr()

	s.mu.Lock()
	s.made++
	name := fmt.Sprint(publisherPrefix, s.made)
	p := &publisher{athoc: athoc, broker: broker}
	s.publishers[name] = p
	s.mu.Unlock()
	process, err := s.add(name, "publisher", env)
	s.mu.Lock()
	p.Process = process
	s.mu.Unlock()

	return name, err
}

// RemovePublisher ends a publisher for good, by killing it or gracefully.
func (s *Stack) RemovePublisher(name string, kill bool) error {
	s.mu.Lock()
	p := s.publishers[name]
	delete(s.publishers, name)
	delete(s.processes, name)
	s.mu.Unlock()

	if p == nil {
		return nil // another fault was faster
	}

	end := p.Stop
	if kill {
		end = p.Kill
	}

	return errors.Join(end(), p.athoc.Close(), p.broker.Close())
}

// Publishers returns the names of the publishers that have been started.
func (s *Stack) Publishers() []string {
	s.mu.Lock()
	defer s.mu.Unlock()

	var names []string
	for name, p := range s.publishers {
		if p.Process != nil {
			names = append(names, name)
		}
	}

	slices.Sort(names)

	return names
}

// network returns the proxies between a publisher and AtHoc, and between it and the broker.
func (s *Stack) network(name string) (athoc, broker *Proxy) {
	s.mu.Lock()
	defer s.mu.Unlock()

	p := s.publishers[name]

	return p.athoc, p.broker
}

// services returns all processes but the simulator.
func (s *Stack) services() []*Process {
	s.mu.Lock()
	defer s.mu.Unlock()

	var all []*Process
	for _, name := range slices.Sorted(maps.Keys(s.processes)) {
		if name != AtHoc {
			all = append(all, s.processes[name])
		}
	}

	return all
}

// Delete removes directories and files below the stack's directory.
func (s *Stack) Delete(names ...string) error {
	var errs []error
	for _, n := range names {
		s.Note("deleted: %s", n)

		if n != storeDir || s.unmount == nil {
			errs = append(errs, os.RemoveAll(s.Path(n)))
			continue
		}

		entries, err := os.ReadDir(s.Path(n)) // the mount point itself must stay
		errs = append(errs, err)
		for _, e := range entries {
			errs = append(errs, os.RemoveAll(s.Path(n, e.Name())))
		}
	}

	return errors.Join(errs...)
}

// KillAll kills everything except the simulator.
func (s *Stack) KillAll() error {
	s.Note("kill -9 of everything")

	var errs []error
	for _, p := range s.services() {
		errs = append(errs, p.Kill())
	}

	return errors.Join(errs...)
}

// StartAll starts every process again that is not running, except the simulator.
func (s *Stack) StartAll() error {
	s.Note("everything is started again")

	var errs []error
	for _, p := range s.services() {
		errs = append(errs, p.Start())
	}

	return errors.Join(errs...)
}

// Died returns an error that names the processes that ended by themselves.
func (s *Stack) Died() error {
	s.mu.Lock()
	defer s.mu.Unlock()

	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.processes)) {
		errs = append(errs, s.processes[name].Died())
	}

	return errors.Join(errs...)
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
