package auth

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestLongNamesAreNotKept checks that a stranger who tries names as long as a form can be, from one address and as
// often as allowed, takes up no memory.
func TestLongNamesAreNotKept(t *testing.T) {
	t.Parallel()

	c := &clock{now: time.Unix(1_800_000_000, 0)}
	tries := newThrottle(c.Now)
	for minute := range 60 {
		for n := range failuresAddress {
			require.True(t, tries.begin("10.1.2.3", fmt.Sprint(minute, n, strings.Repeat("x", maxBody/2))))
		}

		require.False(t, tries.begin("10.1.2.3", "one more"))
		c.pass(throttleTime)
	}

	kept := 0
	for key := range tries.tries {
		kept += len(key)
	}

	require.Less(t, kept, 1<<20, "bytes of what strangers typed")
}

// TestLongNamesAreToldApart checks that long names that begin alike do not share their failures.
func TestLongNamesAreToldApart(t *testing.T) {
	t.Parallel()

	c := &clock{now: time.Unix(1_800_000_000, 0)}

	tries := newThrottle(c.Now)
	long := strings.Repeat("x", maxBody/2)
	for range failuresEach {
		require.True(t, tries.begin("10.1.2.3", long+"a"))
	}

	require.False(t, tries.begin("10.1.2.3", long+"a"))
	require.True(t, tries.begin("10.1.2.3", long+"b"))
}
