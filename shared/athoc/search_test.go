package athoc

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// collect runs a search to its end.
func collect(t *testing.T, c *Client, q Query) (names []string, err error) {
	t.Helper()

	for page, failed := range c.SearchUsers(t.Context(), q) {
		require.NoError(t, err, "an error is the last thing yielded")
		err = failed

		for _, u := range page.Users {
			names = append(names, u.Username())
		}
	}

	return names, err
}

// directory serves users 0 to n-1, and says that there are total users.
func directory(requests *int, n, total int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		*requests++

		limit, _ := strconv.Atoi(r.FormValue("Limit"))
		offset, _ := strconv.Atoi(r.FormValue("Offset"))
		users := []map[string]string{}
		for i := offset * limit; i < min(n, (offset+1)*limit); i++ {
			users = append(users, map[string]string{"LOGIN_ID": fmt.Sprintf("user-%d", i)})
		}

		_ = json.NewEncoder(w).Encode(map[string]any{"Users": users, "TotalUsers": total, "FetchedRecords": len(users)})
	}
}

func TestSearchEndsByWhatWasFetched(t *testing.T) {
	for _, tc := range []struct{ n, total, requests int }{
		{0, 0, 1}, {3, 3, 1}, {10, 10, 2}, {25, 25, 3}, {30, 30, 4},
		{25, 3, 3},         // the total is too small
		{25, 1_000_000, 4}, // or too large
		{25, -1, 3},
	} {
		t.Run(fmt.Sprintf("%d of %d", tc.n, tc.total), func(t *testing.T) {
			requests := 0
			f := newFake(t, directory(&requests, tc.n, tc.total))
			names, err := collect(t, newClient(t, f.server.URL), Query{PageSize: 10})
			require.NoError(t, err)
			assert.Len(t, names, tc.n)
			assert.Equal(t, tc.requests, requests)
		})
	}
}

func TestSearchRequestAndUsers(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, http.MethodGet, r.Method)
		assert.Equal(t, "/api/v2/orgs/ORG%201/users/search/basic", r.URL.EscapedPath())
		assert.Equal(t, "LOGIN_ID,Collar-Number,X,z", r.FormValue("Fields"))
		assert.Equal(t, "On-Duty-DTG lt '17/06/2024 14:30:00'", r.FormValue("Criteria"))
		assert.Equal(t, "1000", r.FormValue("Limit"))

		_, _ = io.WriteString(w, `{"Users":[{"login_id":"a","Collar-Number":17,"X":null,"Y":"","Z":["p","q"],"Not-Asked-For":"x"},null],"TotalUsers":2}`)
	})
	criteria := "On-Duty-DTG lt '17/06/2024 14:30:00'"

	q := Query{Fields: []string{"Collar-Number", "login_id", "", "X", "collar-number", "z"}, Criteria: criteria, PageSize: 5000}
	for page, err := range newClient(t, f.server.URL).SearchUsers(t.Context(), q) {
		require.NoError(t, err)
		assert.Equal(t, 2, page.Total)
		assert.Equal(t, []User{{"login_id": "a", "Collar-Number": "17", "Z": `["p","q"]`}, {}}, page.Users)
		assert.Equal(t, "a", page.Users[0].Username())
		assert.Equal(t, "17", page.Users[0].Attribute("COLLAR-number"))
		assert.Empty(t, page.Users[0].Attribute("X"))
	}
}

func TestSearchThatWouldNotEnd(t *testing.T) {
	f := newFake(t, answer(200, `{"Users":[{"LOGIN_ID":"user-1"}],"TotalUsers":50}`))
	names, err := collect(t, newClient(t, f.server.URL), Query{PageSize: 1})
	call := callError(t, err)
	assert.Equal(t, Outage, call.Kind)
	assert.Len(t, names, 1, "the repeated page is not passed on")
}

func TestSearchThatFindsNobodyThoughThereAreSome(t *testing.T) {
	f := newFake(t, answer(200, `{"Users":[],"TotalUsers":50,"FetchedRecords":0}`))
	var totals []int
	for page, err := range newClient(t, f.server.URL).SearchUsers(t.Context(), Query{}) {
		require.NoError(t, err)
		assert.Empty(t, page.Users)
		totals = append(totals, page.Total)
	}

	assert.Equal(t, []int{50}, totals, "its reader learns of it")
}

func TestSearchStopsWithItsReader(t *testing.T) {
	requests := 0

	f := newFake(t, directory(&requests, 100, 100))
	for _, err := range newClient(t, f.server.URL).SearchUsers(t.Context(), Query{PageSize: 10}) {
		require.NoError(t, err)
		break
	}

	assert.Equal(t, 1, requests)
}

func TestSearchThatFailsHalfway(t *testing.T) {
	requests := 0
	serve := directory(&requests, 100, 100)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("Offset") == "2" {
			answer(400, `{"message":"Attribute Collar-Nr is unknown"}`)(w, r)
			return
		}

		serve(w, r)
	})
	names, err := collect(t, newClient(t, f.server.URL), Query{PageSize: 10})
	call := callError(t, err)
	assert.Equal(t, BadRequest, call.Kind)
	assert.Contains(t, call.Detail, "Attribute Collar-Nr is unknown")
	assert.Len(t, names, 20)
}

func TestBrokenPages(t *testing.T) {
	for _, body := range []string{``, `[]`, `{}`, `{"Users":null}`, `{"Users":null,"TotalUsers":4}`, `{"Users":{}}`,
		`{"Users":["x"]}`, `{"Users":[{"LOGIN_ID":"a"}`, `<html>`} {
		f := newFake(t, answer(200, body))
		_, err := collect(t, newClient(t, f.server.URL), Query{})
		assert.Equal(t, Outage, callError(t, err).Kind, body)
	}

	f := newFake(t, answer(200, `{"Users":null,"TotalUsers":0,"FetchedRecords":0}`))
	names, err := collect(t, newClient(t, f.server.URL), Query{})
	require.NoError(t, err)
	assert.Empty(t, names)
}
