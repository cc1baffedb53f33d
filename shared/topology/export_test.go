package topology

import "time"

// WithTimeout sets how long Provision waits for the resources of others.
func WithTimeout(d time.Duration) Option { return func(p *provisioner) { p.timeout = d } }
