package disk

import (
	"errors"
	"strings"
	"syscall"
)

// IsFull reports whether an error says that no more can be written where it was tried: the file system has no room or no more files,
// or this user's share of it is used up.
func IsFull(err error) bool {
	for _, full := range append(systemFull, syscall.ENOSPC, syscall.EDQUOT) {
		if errors.Is(err, full) {
			return true
		}
	}

	return false
}

// SaysFull reports the same of a text that another program has made of such an error.
func SaysFull(text string) bool {
	text = strings.ToLower(text)
	for _, full := range append(systemFull, syscall.ENOSPC, syscall.EDQUOT) {
		if strings.Contains(text, strings.ToLower(full.Error())) {
			return true
		}
	}

	return false
}
