//go:build unix

package harness

// Single faults, for tests that check what the pipeline reports about each.

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Kinds returns the names of all faults of the soak: what goes wrong, and whom it affects.
func Kinds() []string {
	var names []string
	for _, k := range faultKinds {
		for _, whom := range k.whom {
			names = append(names, k.what+" "+whom)
		}
	}

	slices.Sort(names)

	return slices.Compact(names)
}

// Begin begins a fault of the soak, named as in Kinds, and returns what ends it. A fault of the simulator also ends
// by itself when lasts has passed.
func (s *Stack) Begin(ctx context.Context, name string, lasts time.Duration) (end func() error, err error) {
	for _, k := range faultKinds {
		for _, whom := range k.whom {
			if k.what+" "+whom != name {
				continue
			}

			f := Fault{For: lasts, What: k.what, Whom: whom, Draw: 1}
			if whom == anyPublisher {
				whom = s.Publishers()[0]
			}

			s.Note("begins: %s (%s)", f, whom)

			return k.play(ctx, s, f, whom)
		}
	}

	return nil, fmt.Errorf("the soak has no fault %q", name)
}

// Broker returns the broker's streams, for tests that play the broker's faults. Close closes the connection. The
// broker inside the all-in-one program cannot be reached in this way.
func (s *Stack) Broker() (jetstream.JetStream, error) {
	conn, err := s.connection()
	if err != nil {
		return nil, err
	}

	return jetstream.New(conn)
}

// AddSecond starts another process of a service, with additional settings as NAME=value.
func (s *Stack) AddSecond(service string, settings ...string) (*Process, error) {
	p, name := s.Process(service), service+"-2"
	env := append(slices.Clone(p.env), settings...)
	return s.launch(&Process{Name: name, path: p.path, dir: p.dir, env: env, log: s.Path(logDir, name+".log")})
}

// Replace makes a process run another program from its next start on, or its own program if the name is empty, with
// additional arguments.
func (p *Process) Replace(program string, args ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.path = cmp.Or(program, p.path)
	p.args = append(slices.Clone(p.args), args...)
}

// BuildVersion builds one of the programs with a version of its own.
func BuildVersion(ctx context.Context, name, target, version string) error {
	root, err := sourceRoot()
	if err != nil {
		return err
	}

	return build(ctx, filepath.Join(root, programs[name].module), programs[name].pkg, target, "-ldflags", "-X bobosync/shared/program.Version="+version)
}

// Fill leaves no byte free below a directory, and returns a function that makes room again.
func Fill(dir string) (free func() error, err error) {
	path := filepath.Join(dir, "ballast")

	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}

	return func() error { return os.Remove(path) }, nil
}
