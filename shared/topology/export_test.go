package topology

import "time"

// WithPatience sets how long Provision waits for the parts of others.
func WithPatience(d time.Duration) Option { return func(p *provisioner) { p.patience = d } }
