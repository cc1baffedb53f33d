package sim_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
)

const updatePath = "/api/v2/orgs/" + sim.DefaultOrgCode + "/users/SyncByCommonNames?" + existing

// TestBombsAndDrips checks that each answer is larger, or takes longer, than any client would wait for, and that the
// call is worked on.
func TestBombsAndDrips(t *testing.T) {
	t.Parallel()

	for _, f := range []sim.Fault{
		{Kind: sim.FaultBomb, Form: sim.BombGzip}, {Kind: sim.FaultBomb, Form: sim.BombEndless}, {Kind: sim.FaultBomb, Form: sim.BombDeep},
		{Kind: sim.FaultBomb, Form: sim.BombAttributes}, {Kind: sim.FaultBomb, Form: sim.BombHeaders},
		{Kind: sim.FaultDrip, Form: sim.DripHead}, {Kind: sim.FaultDrip, Form: sim.DripBody},
	} {
		t.Run(f.Kind+" "+f.Form, func(t *testing.T) {
			t.Parallel()
			c := start(t, nil)
			c.http.Timeout = 2 * time.Second
			f.Scope = []string{sim.EndpointUpdate}
			c.fault(f)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.base+updatePath, strings.NewReader(one(w1, date1)))
			require.NoError(t, err)
			req.Header.Set("Authorization", "Bearer "+c.token)
			req.Header.Set("Content-Type", "application/json")

			resp, err := c.http.Do(req)
			if err == nil {
				var n int64
				n, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 32<<20))
				require.NoError(t, resp.Body.Close())
				require.True(t, err != nil || n == 32<<20, "%d bytes, %v", n, err)
			}

			eventually(t, "it is worked on", func() bool { return c.sim.DutyState()[w1] == date1 })
		})
	}
}

// TestLies checks that the truth about the users who were asked for is among the lies, and that refused calls get
// none.
func TestLies(t *testing.T) {
	t.Parallel()
	c := start(t, nil)
	c.fault(sim.Fault{Kind: sim.FaultLies})

	for i := range 20 {
		res := c.update(existing, one(w1, date1))
		var entries []any
		require.NoError(t, json.Unmarshal([]byte(res.body), &entries), res.body)
		require.Greater(t, len(entries), 1)
		require.True(t, slices.ContainsFunc(entries, func(e any) bool {
			user, _ := e.(map[string]any)
			return user["LOGIN_ID"] == w1 && user[":SyncStatus"] == "OK"
		}), "%d: %s", i, res.body)
		res = c.search(url.Values{"Fields": {duty}})
		var page struct{ Users []map[string]any }
		require.NoError(t, json.Unmarshal([]byte(res.body), &page), res.body)
		require.Greater(t, len(page.Users), 3)
	}

	require.Equal(t, 400, c.update("", one(w1, date1)+"x").status)
}
