package telemetry

import (
	"fmt"
	"strings"
	"sync"
)

// Component is the readiness of one service in the process. A nil *Component works and does nothing.
type Component struct {
	name      string
	connected func() bool

	mu       sync.Mutex
	sessions int
}

// Component adds a component that must be ready. The function connected reports whether it is connected to the broker
// at this moment; InSession reports its sessions. An earlier component of the same name is replaced.
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

// InSession marks the service as able to do its work from now on, until the returned function is called.
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

// missing says what the component lacks to do its work; empty if nothing.
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

// Alone marks the process as able to work without the broker, so that it is ready even without any component.
func (t *Telemetry) Alone() {
	if t == nil {
		return
	}

	t.mu.Lock()
	defer t.mu.Unlock()

	t.alone = true
}

// Ready reports whether all components can do their work. The text says what each component that cannot is lacking, one
// line each. A process whose components have not been added yet is not ready.
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
