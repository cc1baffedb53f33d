//go:build !linux && !windows

package disk

import "errors"

func free(string) (uint64, error) { return 0, errors.ErrUnsupported }

func noFiles(string) bool { return false }
