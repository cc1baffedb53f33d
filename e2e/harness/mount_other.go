//go:build unix && !linux

package harness

import "errors"

// Mount is for Linux alone.
func Mount(string, int) (end func() error, err error) { return nil, errors.ErrUnsupported }

// Used is for Linux alone.
func Used(string) (bytes, files uint64, err error) { return 0, 0, errors.ErrUnsupported }

// Leave is for Linux alone.
func Leave(string, uint64, uint64) error { return errors.ErrUnsupported }
