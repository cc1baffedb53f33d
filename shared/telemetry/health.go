package telemetry

import (
	"fmt"
	"strings"
	"sync"
)

// Component is a service's readiness. A nil *Component works and does nothing.
type Component struct {
	name      string
	connected func() bool

	mu       sync.Mutex
	sessions int
}

// Component adds a part of the process that must be ready: connected reports whether it has the broker at this moment; its sessions
// are reported by InSession. An earlier part of the same name is replaced.
func (t *Telemetry) Component(name string, connected func() bool) *Component {
	if t == nil {
		return nil
	}

	p := &Component{name: name, connected: connected}

	t.mu.Lock()
	defer t.mu.Unlock()

	for i := range t.components {
		if t.components[i].name == name {
			t.components[i] = p
			return p
		}
	}

	t.components = append(t.components, p)

	return p
}

// InSession says that the service can do its work from now on, until the returned function is called.
func (p *Component) InSession() (end func()) {
	if p == nil {
		return func() {}
	}

	p.add(1)

	return sync.OnceFunc(func() { p.add(-1) })
}

func (p *Component) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()

	p.sessions += n
}

// missing says what the part lacks to do its work; empty if nothing.
func (p *Component) missing() string {
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

// Alone says that the process does its work also without the broker, so that it is ready without any part.
func (t *Telemetry) Alone() {
	if t == nil {
		return
	}

	t.mu.Lock()
	defer t.mu.Unlock()

	t.alone = true
}

// Ready reports whether all parts can do their work, and what each part that cannot lacks, a line each. A process whose parts
// are still to come is not ready.
func (t *Telemetry) Ready() (ready bool, text string) {
	if t == nil {
		return true, ""
	}

	t.mu.Lock()
	parts, alone := append([]*Component(nil), t.components...), t.alone
	t.mu.Unlock()

	if len(parts) == 0 && !alone {
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
