package publisher_test

import (
	"bytes"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/shared/event"
)

// TestAGatewayThatHasWaitedLongEnough: a gateway answers in place of AtHoc, which may still be working on the call and
// finish it after the next one. So this is reported to the resolver, as a call without an answer is, and the resolver
// sends the latest status once more. An error from AtHoc itself, by contrast, is the end of a call.
func TestAGatewayThatHasWaitedLongEnough(t *testing.T) {
	t.Parallel()

	for code, lingers := range map[int]int{502: 1, 504: 1, 524: 1, 500: 0, 503: 0} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, 1, map[string]string{"ATHOC_RATE_LIMIT": "20"})
			var first atomic.Bool
			b.gateway(func(w http.ResponseWriter, body []byte) bool {
				mine := bytes.Contains(body, []byte(user(1))) && first.CompareAndSwap(false, true)
				if mine {
					w.WriteHeader(code)
				}

				return mine
			})
			b.wants(user(1), 5, true)
			b.start()
			b.outcomes(map[string]event.Outcome{user(1): event.Applied})

			given := 0
			for _, acks := range b.acks() {
				for _, a := range acks.Answers {
					if a.Outcome == event.Pending {
						given++
					}
				}
			}

			require.Equal(t, lingers, given)
		})
	}
}
