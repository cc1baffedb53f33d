package users

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/athoc"
	"bobosync/shared/bustest"
)

// endless is an AtHoc that never runs out of users, with names of the maximum length and longer ones.
type endless struct{ pages int }

func (e *endless) SearchUsers(_ context.Context, q athoc.Query) iter.Seq2[athoc.Page, error] {
	return func(yield func(athoc.Page, error) bool) {
		for {
			page := athoc.Page{Number: e.pages, Total: 1 << 30}
			for i := range q.PageSize {
				page.Users = append(page.Users, athoc.User{"LOGIN_ID": fmt.Sprintf("%d-%d", e.pages, i), "Collar-Number": strings.Repeat("x", 4*MaxText)})
			}

			e.pages++

			if !yield(page, nil) {
				return
			}
		}
	}
}

// TestUsersWithoutAnEnd checks that a reading ends before the memory does.
func TestUsersWithoutAnEnd(t *testing.T) {
	t.Parallel()

	at := &endless{}
	r := NewReader(at, time.Now, bustest.Logger())
	r.Breaker, r.Room = &fakeBreaker{}, 8<<20
	for _, read := range []func(context.Context, Query) ([]Person, error){r.All, r.Having} {
		at.pages = 0
		_, err := read(t.Context(), Query{Attribute: "Collar-Number"})
		require.ErrorIs(t, err, errTooMany)
		require.InDelta(t, 7, at.pages, 1, "a thousand users of somewhat more than 1 KiB in each")
	}
}
