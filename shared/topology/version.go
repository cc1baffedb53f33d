package topology

// This file knows which servers keep what they have acknowledged.

import (
	"fmt"
	"strings"
)

// SafeServer is the oldest nats-server that keeps what it has acknowledged whatever happens to the machine. Older ones
// do not sync a block of messages that they rewrite to save room, in spite of sync_interval: always (nats-server pull
// requests 8456 and 8475).
const SafeServer = "2.14.6"

// ServerIsSafe reports whether a server's version is SafeServer or newer. A version that cannot be read counts as
// newer.
func ServerIsSafe(version string) bool {
	version, _, _ = strings.Cut(version, "+") // how it was built

	have, ok := parseVersion(version)
	if !ok {
		return true
	}

	safe, _ := parseVersion(SafeServer)
	for i := range have {
		if have[i] != safe[i] {
			return have[i] > safe[i]
		}
	}

	return !strings.Contains(version, "-") // a pre-release is older than its version
}

func parseVersion(text string) (parts [3]int, ok bool) {
	n, _ := fmt.Sscanf(strings.TrimPrefix(text, "v"), "%d.%d.%d", &parts[0], &parts[1], &parts[2])
	return parts, n == len(parts)
}
