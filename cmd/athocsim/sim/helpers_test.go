package sim_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"bobosync/cmd/athocsim/sim"

	"github.com/stretchr/testify/require"
)

const (
	duty   = "On-Duty-DTG"
	collar = "Collar-Number"
	w1     = "w00001@example.org"
	w2     = "w00002@example.org"
	w3     = "w00003@example.org"
	date1  = "17/06/2024 14:30:00"
	date2  = "18/06/2024 08:00:00"

	existing = "syncExistingUsersOnly=true&AllowPartialUpdate=false"
)

// client calls a simulator over a real socket.
type client struct {
	t     testing.TB
	sim   *sim.Simulator
	http  *http.Client
	base  string
	token string
}

// start runs a simulator with three generated users and a token.
func start(t testing.TB, change func(*sim.Options)) *client {
	t.Helper()

	o := sim.Options{Users: sim.GenerateUsers(3, collar), Attributes: []sim.Attribute{{Name: "FIRSTNAME", Type: sim.TypeString}}}
	if change != nil {
		change(&o)
	}

	s, err := sim.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Start(t.Context(), "127.0.0.1:0"))
	c := &client{t: t, sim: s, base: s.URL(), http: &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}}
	t.Cleanup(c.http.CloseIdleConnections)

	if s.CACertFile() == "" {
		c.login()
	}

	return c
}

func tokenForm() url.Values {
	return url.Values{"grant_type": {"password"}, "client_id": {sim.DefaultClientID}, "client_secret": {sim.DefaultClientSecret},
		"username": {sim.DefaultUsername}, "password": {sim.DefaultPassword}, "scope": {"openid profile athoc.iws.web.api"},
		"acr_values": {"tenant:" + sim.DefaultOrgCode}}
}

func (c *client) login() {
	c.t.Helper()
	res := c.do("POST", "/AuthServices/Auth/connect/token", tokenForm().Encode(), "Content-Type", "application/x-www-form-urlencoded")
	require.Equal(c.t, 200, res.status, res.body)
	var body struct {
		Token string `json:"access_token"`
	}
	require.NoError(c.t, json.Unmarshal([]byte(res.body), &body))
	c.token = body.Token
}

type result struct {
	status int
	header http.Header
	body   string
}

func (c *client) try(method, path, body string, headers ...string) (result, error) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	require.NoError(c.t, err)

	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}

	res, err := c.http.Do(req)
	if err != nil {
		return result{}, err
	}
	defer res.Body.Close()

	raw, err := io.ReadAll(res.Body)

	return result{res.StatusCode, res.Header, string(raw)}, err
}

func (c *client) do(method, path, body string, headers ...string) result {
	c.t.Helper()
	res, err := c.try(method, path, body, headers...)
	require.NoError(c.t, err)
	return res
}

func (c *client) tryUpdate(query, body string) (result, error) {
	return c.try("POST", "/api/v2/orgs/"+sim.DefaultOrgCode+"/users/SyncByCommonNames?"+query, body,
		"Authorization", "Bearer "+c.token, "Content-Type", "application/json")
}

func (c *client) update(query, body string) result {
	c.t.Helper()
	res, err := c.tryUpdate(query, body)
	require.NoError(c.t, err)
	return res
}

// outcomes sends an update and returns the users' outcomes, by username.
func (c *client) outcomes(query, body string) map[string]map[string]any {
	c.t.Helper()
	res := c.update(query, body)
	require.Equal(c.t, 200, res.status, res.body)
	var list []map[string]any
	require.NoError(c.t, json.Unmarshal([]byte(res.body), &list))

	out := map[string]map[string]any{}
	for _, u := range list {
		out[u["LOGIN_ID"].(string)] = u
	}

	return out
}

func (c *client) search(params url.Values) result {
	c.t.Helper()
	return c.do("GET", "/api/v2/orgs/"+sim.DefaultOrgCode+"/users/search/basic?"+params.Encode(), "", "Authorization", "Bearer "+c.token)
}

type page struct {
	Users          []map[string]any
	TotalUsers     int
	FetchedRecords int
}

func (c *client) page(params url.Values) page {
	c.t.Helper()
	res := c.search(params)
	require.Equal(c.t, 200, res.status, res.body)
	var p page
	require.NoError(c.t, json.Unmarshal([]byte(res.body), &p))
	require.Len(c.t, p.Users, p.FetchedRecords)

	return p
}

func (p page) logins() []string {
	out := []string{}
	for _, u := range p.Users {
		out = append(out, u["LOGIN_ID"].(string))
	}

	return out
}

func one(login, value string) string {
	return fmt.Sprintf(`[{"LOGIN_ID":%q,%q:%q}]`, login, duty, value)
}

func (c *client) lastCall() sim.Call {
	c.t.Helper()
	calls := c.sim.Calls(sim.CallFilter{})
	require.NotEmpty(c.t, calls)
	return calls[len(calls)-1]
}

// eventually polls until ok returns true, with a deadline.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 10*time.Second, 2*time.Millisecond, what)
}
