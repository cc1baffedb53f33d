package disk

import (
	"errors"
	"strings"
	"syscall"
)

// IsFull reports whether an error means that nothing more can be written in that place: the file system has no space or
// no inodes left, or this user's quota is used up.
func IsFull(err error) bool {
	for _, full := range append(systemFull, syscall.ENOSPC, syscall.EDQUOT) {
		if errors.Is(err, full) {
			return true
		}
	}

	return false
}

// SaysFull reports the same of the text of such an error from another program.
func SaysFull(text string) bool {
	text = strings.ToLower(text)
	for _, full := range append(systemFull, syscall.ENOSPC, syscall.EDQUOT) {
		if strings.Contains(text, strings.ToLower(full.Error())) {
			return true
		}
	}

	return false
}
