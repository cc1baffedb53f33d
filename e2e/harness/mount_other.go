//go:build unix && !linux

package harness

import "errors"

// Mount is for Linux alone.
func Mount(string, int) (end func() error, err error) { return nil, errors.ErrUnsupported }
