package telemetry

import (
	"fmt"
	"strings"
	"sync"
)

// Part is a service's readiness. A nil *Part works and does nothing.
type Part struct {
	name      string
	connected func() bool

	mu       sync.Mutex
	sessions int
}

// Part adds a part of the process that must be ready: connected says whether it has the broker at this moment; its sessions
// are told by InSession. An earlier part of the same name is replaced.
func (t *Telemetry) Part(name string, connected func() bool) *Part {
	if t == nil {
		return nil
	}
	p := &Part{name: name, connected: connected}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.parts {
		if t.parts[i].name == name {
			t.parts[i] = p
			return p
		}
	}
	t.parts = append(t.parts, p)
	return p
}

// InSession says that the service can do its work from now on, until the returned function is called.
func (p *Part) InSession() (end func()) {
	if p == nil {
		return func() {}
	}
	p.add(1)
	return sync.OnceFunc(func() { p.add(-1) })
}

func (p *Part) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sessions += n
}

// missing says what the part lacks to do its work; empty if nothing.
func (p *Part) missing() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.connected():
		return "not connected to the broker"
	case p.sessions == 0:
		return "has not begun its work with the broker, see its log"
	}
	return ""
}

// Ready says whether all parts can do their work, and what each part that cannot lacks, a line each. A process whose parts
// are still to come is not ready.
func (t *Telemetry) Ready() (ready bool, text string) {
	if t == nil {
		return true, ""
	}
	t.mu.Lock()
	parts := append([]*Part(nil), t.parts...)
	t.mu.Unlock()
	if len(parts) == 0 {
		return false, "starting: not connected to the broker\n"
	}
	var b strings.Builder
	for _, p := range parts {
		if what := p.missing(); what != "" {
			fmt.Fprintf(&b, "%s: %s\n", p.name, what)
		}
	}
	return b.Len() == 0, b.String()
}
