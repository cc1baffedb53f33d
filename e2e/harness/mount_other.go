//go:build unix && !linux

package harness

import "errors"

// Mount works on Linux only.
func Mount(string, int) (end func() error, err error) { return nil, errors.ErrUnsupported }

// Used works on Linux only.
func Used(string) (bytes, files uint64, err error) { return 0, 0, errors.ErrUnsupported }

// Leave works on Linux only.
func Leave(string, uint64, uint64) error { return errors.ErrUnsupported }
