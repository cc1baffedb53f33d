//go:build !linux && !darwin && !windows

package check

import "errors"

// diskSpace fails: the free space is not known on this system.
func diskSpace(string) (Space, error) { return Space{}, errors.ErrUnsupported }
