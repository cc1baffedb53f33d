package verdict

import (
	"fmt"

	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// Unreachable says why no facts could be gathered, and what to do. Its text is for the operator and holds no secret.
type Unreachable struct {
	// Cause is one of the Cause… names, for scripts.
	Cause string
	Text  string
	Do    string
	// Err is the connection's error; nil if the text says everything.
	Err error
}

// Error implements error.
func (u *Unreachable) Error() string {
	if u.Err == nil {
		return u.Text + ": " + u.Do
	}
	return fmt.Sprintf("%s: %s (%v)", u.Text, u.Do, u.Err)
}

// Unwrap returns the connection's error.
func (u *Unreachable) Unwrap() error { return u.Err }

// Instance is a process of a service, as it has answered.
type Instance struct {
	Service topology.Service
	control.Instance
}

// Instances lists all processes that have answered, by service.
func (f Facts) Instances() (all []Instance) {
	for _, s := range f.Ingest {
		all = append(all, Instance{topology.Ingest, s.Instance})
	}

	for _, s := range f.Resolver {
		all = append(all, Instance{topology.Resolver, s.Instance})
	}

	for _, s := range f.Publisher {
		all = append(all, Instance{topology.Publisher, s.Instance})
	}

	for _, s := range f.Janitor {
		all = append(all, Instance{topology.Janitor, s.Instance})
	}

	return all
}
