package sim_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bobosync/cmd/athocsim/sim"

	"github.com/stretchr/testify/require"
)

func TestTokenRules(t *testing.T) {
	c := start(t, nil)
	form := "application/x-www-form-urlencoded"
	with := func(name, value string) string {
		v := tokenForm()
		v.Set(name, value)
		return v.Encode()
	}

	const path = "/AuthServices/Auth/connect/token"
	for _, tc := range []struct {
		name, path, contentType, body string
		status                        int
		want                          string
	}{
		{"good", path, form, tokenForm().Encode(), 200, `"token_type":"Bearer"`},
		{"expiry in seconds", path, form, tokenForm().Encode(), 200, `"expires_in":3600`},
		{"path in another case", "/authservices/AUTH/connect/Token", form, tokenForm().Encode(), 200, "access_token"},
		{"charset", path, form + "; charset=utf-8", tokenForm().Encode(), 200, "access_token"},
		{"the one scope", path, form, with("scope", "athoc.iws.web.api"), 200, "access_token"},
		{"wrong password", path, form, with("password", "x"), 400, `{"error":"invalid_grant"}`},
		{"wrong user", path, form, with("username", "x"), 400, `{"error":"invalid_grant"}`},
		{"other organisation", path, form, with("acr_values", "tenant:OTHER"), 400, `{"error":"invalid_grant"}`},
		{"no tenant", path, form, with("acr_values", ""), 400, `{"error":"invalid_grant"}`},
		{"wrong client", path, form, with("client_id", "x"), 400, `{"error":"invalid_client"}`},
		{"wrong secret", path, form, with("client_secret", ""), 400, `{"error":"invalid_client"}`},
		{"grant type", path, form, with("grant_type", "client_credentials"), 400, "unsupported_grant_type"},
		{"scope missing", path, form, with("scope", "openid profile"), 400, "invalid_scope"},
		{"scope unknown", path, form, with("scope", "athoc.iws.web.api admin"), 400, "invalid_scope"},
		{"field twice", path, form, tokenForm().Encode() + "&scope=openid", 400, "invalid_request"},
		{"JSON", path, "application/json", "{}", 400, "invalid_request"},
		{"in the address", path + "?" + tokenForm().Encode(), form, "", 400, "invalid_request"},
		{"malformed", path, form, "a=%zz", 400, "invalid_request"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res := c.do("POST", tc.path, tc.body, "Content-Type", tc.contentType)
			require.Equal(t, tc.status, res.status, res.body)
			require.Contains(t, res.body, tc.want)
		})
	}

	require.Equal(t, 405, c.do("GET", path, "").status)

	for _, call := range c.sim.Calls(sim.CallFilter{}) {
		raw, err := json.Marshal(call)
		require.NoError(t, err)
		require.NotContains(t, string(raw), sim.DefaultPassword)
		require.NotContains(t, string(raw), c.token)
	}
}

func TestOneTokenAtATime(t *testing.T) {
	c := start(t, nil)
	require.Equal(t, 200, c.update(existing, one(w1, date1)).status)
	old := c.token
	c.login()
	fresh := c.token
	c.token = old
	res := c.update(existing, one(w1, date2))
	require.Equal(t, 401, res.status)
	require.Equal(t, "Bearer", res.header.Get("Www-Authenticate"))

	c.token = fresh
	require.Equal(t, 200, c.update(existing, one(w1, date2)).status)
	require.Equal(t, 1, c.sim.RevokeTokens())
	require.Equal(t, 401, c.update(existing, one(w1, date1)).status)
	require.Equal(t, date2, c.sim.DutyState()[w1])

	set := c.sim.Settings()
	set.ManyTokens = true
	require.NoError(t, c.sim.SetSettings(set))
	c.login()
	first := c.token
	c.login()
	c.token = first
	require.Equal(t, 200, c.update(existing, one(w1, date1)).status)
}

func TestTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := sim.New(sim.Options{Settings: sim.Settings{TokenLifetime: sim.Duration(time.Minute)}})
		require.NoError(t, err)
		defer func() { require.NoError(t, s.Close()) }()

		serve := func(method, path, body string, header http.Header) *httptest.ResponseRecorder {
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Header = header
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)

			return w
		}
		res := serve("POST", "/AuthServices/Auth/connect/token", tokenForm().Encode(), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
		var token struct {
			Access string `json:"access_token"`
			In     int    `json:"expires_in"`
		}
		require.NoError(t, json.Unmarshal(res.Body.Bytes(), &token))
		require.Equal(t, 60, token.In)

		search := func() int {
			return serve("GET", "/api/v2/orgs/ATHOCSIM/users/search/basic?Fields=LOGIN_ID", "", http.Header{"Authorization": {"Bearer " + token.Access}}).Code
		}

		time.Sleep(time.Minute - time.Nanosecond) // the clock of the synctest bubble, not the real one
		require.Equal(t, 200, search())
		time.Sleep(time.Nanosecond)
		require.Equal(t, 401, search())
	})
}

func TestGate(t *testing.T) {
	c := start(t, nil)
	path := "/api/v2/orgs/ATHOCSIM/users/SyncByCommonNames?" + existing
	auth := "Bearer " + c.token
	for _, tc := range []struct {
		name, method, path, auth string
		status                   int
	}{
		{"no token", "POST", path, "", 401},
		{"wrong token", "POST", path, "Bearer x", 401},
		{"wrong scheme", "POST", path, "Basic " + c.token, 401},
		{"scheme in lower case", "POST", path, "bearer " + c.token, 200},
		{"wrong organisation", "POST", strings.Replace(path, "ATHOCSIM", "OTHER", 1), auth, 404},
		{"organisation in lower case", "POST", strings.Replace(path, "ATHOCSIM", "athocsim", 1), auth, 404},
		{"wrong path", "POST", "/api/v2/orgs/ATHOCSIM/users/syncbycommonnames", auth, 404},
		{"a doubled slash is no redirect", "POST", "/" + path, auth, 404},
		{"wrong method", "PUT", path, auth, 405},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := []string{"Content-Type", "application/json"}
			if tc.auth != "" {
				h = append(h, "Authorization", tc.auth)
			}

			require.Equal(t, tc.status, c.do(tc.method, tc.path, one(w1, date1), h...).status)
		})
	}

	set := c.sim.Settings()
	for _, reason := range []string{"role", "password"} {
		set.Forbidden = reason
		require.NoError(t, c.sim.SetSettings(set))
		res := c.update(existing, one(w1, date2))
		require.Equal(t, 403, res.status)
		require.Contains(t, res.body, reason)
		require.Equal(t, 403, c.search(url.Values{"Fields": {"LOGIN_ID"}}).status)
	}

	require.Equal(t, date1, c.sim.DutyState()[w1])
}

func TestSearchParameters(t *testing.T) {
	c := start(t, nil)
	for query, want := range map[string]string{
		"Fields=LOGIN_ID,Nope":                          `\"Nope\" is unknown`,
		"Fields=login_id":                               `\"login_id\" is unknown`,
		"":                                              "Fields is missing",
		"Fields=LOGIN_ID&Criteria=Nope+pr":              `\"Nope\" is unknown`,
		"Fields=LOGIN_ID&Limit=1001":                    "Limit must be",
		"Fields=LOGIN_ID&Limit=0":                       "Limit must be",
		"Fields=LOGIN_ID&Limit=x":                       "Limit must be",
		"Fields=LOGIN_ID&Offset=-1":                     "Offset must be",
		"Fields=LOGIN_ID&fields=LOGIN_ID":               "given twice",
		"Fields=LOGIN_ID&Page=1":                        `\"Page\" is unknown`,
		"Fields=LOGIN_ID&Criteria=%zz":                  "malformed",
		"Fields=LOGIN_ID&Criteria=On-Duty-DTG+lt+'now'": "is a date",
	} {
		res := c.do("GET", "/api/v2/orgs/ATHOCSIM/users/search/basic?"+query, "", "Authorization", "Bearer "+c.token)
		require.Equal(t, 400, res.status, query)
		require.Contains(t, res.body, want, query)
	}

	p := c.page(url.Values{"fIELDS": {"LOGIN_ID, " + collar}, "criteria": {collar + " eq '00002'"}, "LIMIT": {"1000"}, "offset": {"0"}})
	require.Equal(t, page{Users: []map[string]any{{"LOGIN_ID": w2, collar: "00002"}}, TotalUsers: 1, FetchedRecords: 1}, p)

	call := c.lastCall()
	require.Equal(t, 1, call.FetchedRecords)
	v, _ := call.Parameters.Get("Criteria")
	require.Equal(t, collar+" eq '00002'", v)
}

func TestSearchEmptyValues(t *testing.T) {
	c := start(t, nil)
	for style, check := range map[string]func(any, bool) bool{
		"missing": func(_ any, ok bool) bool { return !ok },
		"null":    func(v any, ok bool) bool { return ok && v == nil },
		"empty":   func(v any, _ bool) bool { return v == "" },
	} {
		set := c.sim.Settings()
		set.EmptyStyle = style
		require.NoError(t, c.sim.SetSettings(set))

		for _, u := range c.page(url.Values{"Fields": {"LOGIN_ID," + duty}}).Users {
			v, ok := u[duty]
			require.True(t, check(v, ok), "%s: %v", style, u)
		}
	}

	require.NoError(t, c.sim.SetSettings(sim.Settings{}))
	body := c.search(url.Values{"Fields": {duty}}).body
	require.Contains(t, body, "{}")
	require.Contains(t, body, `{"On-Duty-DTG":null}`)
	require.Contains(t, body, `{"On-Duty-DTG":""}`)
}

func TestPagesShiftWhenUsersGo(t *testing.T) {
	c := start(t, func(o *sim.Options) { o.Users = sim.GenerateUsers(10, collar) })
	get := func(n int) page {
		return c.page(url.Values{"Fields": {"LOGIN_ID"}, "Limit": {"4"}, "Offset": {strconv.Itoa(n)}})
	}
	p := get(0)
	require.Equal(t, []string{w1, w2, w3, "w00004@example.org"}, p.logins())
	require.Equal(t, 10, p.TotalUsers)

	n, err := c.sim.RemoveUsers(strings.ToUpper(w2), "nobody")
	require.NoError(t, err)
	require.Equal(t, 1, n)

	p = get(1) // 00005 has moved to the previous page
	require.Equal(t, []string{"w00006@example.org", "w00007@example.org", "w00008@example.org", "w00009@example.org"}, p.logins())
	require.Equal(t, 9, p.TotalUsers)
	require.NoError(t, c.sim.PutUsers(sim.User{LoginID: "new@example.org"}))
	require.Equal(t, []string{"w00010@example.org", "new@example.org"}, get(2).logins())
	require.Empty(t, get(3).Users)
	require.Contains(t, c.search(url.Values{"Fields": {"LOGIN_ID"}, "Offset": {"99"}}).body, `"Users":[]`)
}

func TestOutcomes(t *testing.T) {
	c := start(t, nil)
	deny, err := c.sim.AddFault(sim.Fault{Kind: sim.FaultDenyUser, Users: []string{strings.ToUpper(w3)}})
	require.NoError(t, err)
	require.NoError(t, c.sim.PutUsers(sim.User{LoginID: "d@x"}, sim.User{LoginID: "e@x"}))
	out := c.outcomes(existing+"&sourceIdentifier=test", `[
		{"LOGIN_ID":"W00001@Example.org","On-Duty-DTG":"17/06/2024 14:30:00"},
		{"LOGIN_ID":"nobody@example.org","On-Duty-DTG":"17/06/2024 14:30:05"},
		{"LOGIN_ID":"w00003@example.org","On-Duty-DTG":"17/06/2024 14:30:05"},
		{"LOGIN_ID":"d@x","On-Duty-DTG":"17/06/2024 14:30:05","Bogus":"1"},
		{"LOGIN_ID":"e@x","On-Duty-DTG":"2024-06-17"}]`)
	id := func(login string) any { u, _ := c.sim.User(login); return float64(u.ID) }
	require.Equal(t, map[string]map[string]any{
		"W00001@Example.org": {"LOGIN_ID": "W00001@Example.org", duty: date1, ":SyncStatus": "OK", ":SyncDetails": "Updated", "USER_ID": id(w1)},
		"nobody@example.org": {"LOGIN_ID": "nobody@example.org", duty: "17/06/2024 14:30:05", ":SyncStatus": "Error",
			":SyncDetails": "User: nobody@example.org does not exists in the Organization", "USER_ID": nil},
		w3: {"LOGIN_ID": w3, duty: "17/06/2024 14:30:05", ":SyncStatus": "Error", ":SyncDetails": "Permission denied for user: " + w3, "USER_ID": id(w3)},
		"d@x": {"LOGIN_ID": "d@x", duty: "17/06/2024 14:30:05", "Bogus": "1", ":SyncStatus": "Error",
			":SyncDetails": "The attribute is unknown: Bogus", "USER_ID": id("d@x")},
		"e@x": {"LOGIN_ID": "e@x", duty: "2024-06-17", ":SyncStatus": "Error",
			":SyncDetails": "The value is not valid for the attribute On-Duty-DTG: 2024-06-17", "USER_ID": id("e@x")},
	}, out)
	require.Equal(t, map[string]string{w1: date1}, c.sim.DutyState())

	call := c.lastCall()
	require.Equal(t, "update", call.Endpoint)
	require.GreaterOrEqual(t, call.Finished, call.Users[0].AppliedAt)
	require.GreaterOrEqual(t, call.Users[0].AppliedAt, call.Arrived)

	outcomes := []string{}
	for _, u := range call.Users {
		outcomes = append(outcomes, u.Outcome)
		require.Equal(t, u.Outcome == sim.OutcomeUpdated, u.Applied)
	}

	require.Equal(t, []string{sim.OutcomeUpdated, sim.OutcomeUnknownUser, sim.OutcomeDenied, sim.OutcomeUnknownAttribute, sim.OutcomeInvalidValue}, outcomes)
	require.Equal(t, deny.ID, call.Users[2].FaultID)
	require.Equal(t, map[string]int{"Bogus": 1}, c.sim.Stats().OtherAttributes)
	require.Equal(t, []sim.Change{{At: call.Users[0].AppliedAt, Call: call.Seq, Attribute: duty, New: date1}}, c.sim.History(w1))

	require.Equal(t, "OK", c.outcomes(existing, one(w1, ""))[w1][":SyncStatus"])
	require.Empty(t, c.sim.DutyState())
}

func TestUserFaults(t *testing.T) {
	for _, tc := range []struct {
		kind, status, detail string
		apply, applied       bool
	}{
		{sim.FaultPartial, "Partial", "Some attributes were not updated", false, false},
		{sim.FaultPartial, "Partial", "Some attributes were not updated", true, true},
		{sim.FaultUserError, "Error", "An internal error occurred, please try again later", false, false},
		{sim.FaultUserError, "Error", "An internal error occurred, please try again later", true, true},
		{sim.FaultDenyUser, "Error", "Permission denied for user: " + w1, true, false},
		{sim.FaultOmitUser, "", "", false, false},
		{sim.FaultOmitUser, "", "", true, true},
	} {
		c := start(t, nil)
		_, err := c.sim.AddFault(sim.Fault{Kind: tc.kind, Users: []string{w1}, Calls: 1, Apply: tc.apply})
		require.NoError(t, err)

		body := `[{"LOGIN_ID":"` + w1 + `","On-Duty-DTG":"` + date1 + `"},{"LOGIN_ID":"` + w2 + `","On-Duty-DTG":"` + date1 + `"}]`
		require.Equal(t, 200, c.update(existing, one(w3, date1)).status, "a call without the user does not use the fault up")
		out := c.outcomes(existing, body)
		require.Equal(t, "OK", out[w2][":SyncStatus"])

		if tc.status == "" {
			require.NotContains(t, out, w1)
			require.True(t, c.lastCall().Users[0].LeftOut)
		} else {
			require.Equal(t, tc.status, out[w1][":SyncStatus"])
			require.Equal(t, tc.detail, out[w1][":SyncDetails"])
		}

		require.Equal(t, tc.applied, c.sim.DutyState()[w1] != "", tc.kind)
		require.Equal(t, tc.applied, c.lastCall().Users[0].Applied)
		require.Equal(t, "OK", c.outcomes(existing, body)[w1][":SyncStatus"], "one call only")
	}
}

func TestRandomUserLeftOutOfSearch(t *testing.T) {
	seen := func() []string {
		c := start(t, func(o *sim.Options) { o.Users = sim.GenerateUsers(100, collar) })
		_, err := c.sim.AddFault(sim.Fault{Kind: sim.FaultOmitUser, Scope: []string{"search"}, Probability: 0.5, Seed: 7})
		require.NoError(t, err)
		return c.page(url.Values{"Fields": {"LOGIN_ID"}, "Limit": {"100"}}).logins()
	}
	first := seen()
	require.Greater(t, len(first), 20)
	require.Less(t, len(first), 80)
	require.Equal(t, first, seen(), "the same seed draws the same users")
}

func TestCreatesUsersWithoutTheSafetyRule(t *testing.T) {
	c := start(t, nil)
	for _, query := range []string{"", "syncExistingUsersOnly=false"} {
		login := "new" + query + "@example.org"
		require.Equal(t, "OK", c.outcomes(query, one(login, date1))[login][":SyncStatus"])
		require.Equal(t, sim.OutcomeCreated, c.lastCall().Users[0].Outcome)
		u, ok := c.sim.User(login)
		require.True(t, ok)
		require.Equal(t, map[string]string{duty: date1}, u.Attributes)
	}

	require.Equal(t, 2, c.sim.Stats().Outcomes[sim.OutcomeCreated])
	c.outcomes("", one("bad@example.org", "x"))
	_, ok := c.sim.User("bad@example.org")
	require.False(t, ok)
}

// TestWhatIsJudgedFirst checks that the settings decide which mistake is reported if user and attribute are both
// wrong, and that no user is created.
func TestWhatIsJudgedFirst(t *testing.T) {
	for first, want := range map[string]string{"user": "does not exists in the Organization", "attribute": "The attribute is unknown"} {
		c := start(t, func(o *sim.Options) { o.Settings.JudgeFirst = first })
		details := func(body string) any { return c.outcomes(existing, body)["nobody"][":SyncDetails"] }
		require.Contains(t, details(`[{"LOGIN_ID":"nobody","No-Such":"x"}]`), want)
		require.Contains(t, details(`[{"LOGIN_ID":"nobody","On-Duty-DTG":""}]`), "does not exists in the Organization")
		require.Len(t, c.sim.Users(), 3)
	}
}

func TestAllowPartialUpdate(t *testing.T) {
	c := start(t, nil)
	body := `[{"LOGIN_ID":"` + w1 + `","On-Duty-DTG":"` + date1 + `","Bogus":"1"}]`
	require.Equal(t, "Error", c.outcomes(existing, body)[w1][":SyncStatus"])
	require.Empty(t, c.sim.DutyState())
	out := c.outcomes("syncExistingUsersOnly=true&AllowPartialUpdate=true", body)
	require.Equal(t, "Partial", out[w1][":SyncStatus"])
	require.Equal(t, "The attribute is unknown: Bogus", out[w1][":SyncDetails"])
	require.Equal(t, date1, c.sim.DutyState()[w1])
	require.Equal(t, []string{duty}, c.lastCall().Users[0].Written)
}

func TestRefusedUpdates(t *testing.T) {
	c := start(t, func(o *sim.Options) { o.Settings.MaxUsers, o.Settings.MaxBody = 2, 600 })
	user := `{"LOGIN_ID":"` + w1 + `","On-Duty-DTG":"` + date1 + `"}`
	for _, tc := range []struct {
		name, query, body string
		status            int
		want              string
		users             int
	}{
		{"no JSON", existing, `nonsense`, 400, "not a JSON array", 0},
		{"empty", existing, ``, 400, "not a JSON array", 0},
		{"object", existing, user, 400, "not a JSON array", 0},
		{"no users", existing, `[]`, 400, "no users", 0},
		{"cut off", existing, `[` + user + `,{"LOGIN_ID":`, 400, "not valid JSON", 2},
		{"something after", existing, `[` + user + `]x`, 400, "after the array", 1},
		{"no object", existing, `[` + user + `,1]`, 400, "user 2 is not an object", 1},
		{"number", existing, `[{"LOGIN_ID":"a","On-Duty-DTG":1}]`, 400, "not a string", 1},
		{"null", existing, `[{"LOGIN_ID":"a","On-Duty-DTG":null}]`, 400, "not a string", 1},
		{"nested", existing, `[{"LOGIN_ID":"a","On-Duty-DTG":{"x":1}}]`, 400, "not a string", 1},
		{"no LOGIN_ID", existing, `[{"On-Duty-DTG":""}]`, 400, "user 1 has no LOGIN_ID", 1},
		{"blank LOGIN_ID", existing, `[{"LOGIN_ID":" ","On-Duty-DTG":""}]`, 400, "user 1 has no LOGIN_ID", 1},
		{"key twice", existing, `[{"LOGIN_ID":"a","On-Duty-DTG":"","On-Duty-DTG":"x"}]`, 400, "given twice", 1},
		{"LOGIN_ID twice", existing, `[{"LOGIN_ID":"a","LOGIN_ID":"b","On-Duty-DTG":""}]`, 400, "given twice", 1},
		{"user twice", existing, `[` + user + `,` + strings.ToUpper(user[:20]) + user[20:] + `]`, 400, "user 2 is listed twice", 2},
		{"nothing to write", existing, `[{"LOGIN_ID":"a"}]`, 400, "no attribute", 1},
		{"not UTF-8", existing, "[{\"LOGIN_ID\":\"\xff\"}]", 400, "UTF-8", 0},
		{"misspelt safety rule", "syncExistingUserOnly=true", `[` + user + `]`, 400, "unknown", 1},
		{"bad safety rule", "syncExistingUsersOnly=yes", `[` + user + `]`, 400, "true or false", 1},
		{"too many", existing, `[` + user + `,{"LOGIN_ID":"b","x":""},{"LOGIN_ID":"c","x":""}]`, 413, "more than 2 users", 3},
		{"too large", existing, `[` + strings.Repeat(" ", 600) + `]`, 413, "more than 600 bytes", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			res := c.update(tc.query, tc.body)
			require.Equal(t, tc.status, res.status, res.body)
			require.Contains(t, res.body, tc.want)
			require.NotContains(t, res.body, "SyncStatus")
			require.Len(t, c.lastCall().Users, tc.users, "what was sent is recorded all the same")
		})
	}

	path := "/api/v2/orgs/ATHOCSIM/users/SyncByCommonNames?" + existing
	require.Equal(t, 400, c.do("POST", path, "["+user+"]", "Authorization", "Bearer "+c.token, "Content-Type", "text/plain").status)
	require.Equal(t, 400, c.do("POST", path, "["+user+"]", "Authorization", "Bearer "+c.token, "Content-Type", "application/json", "Content-Encoding", "gzip").status)
	require.Empty(t, c.sim.DutyState(), "nothing was applied")
	require.Equal(t, 0, c.sim.Stats().Applied)

	set := c.sim.Settings()
	set.TooLargeStatus = 400
	require.NoError(t, c.sim.SetSettings(set))
	require.Equal(t, 400, c.update(existing, `[`+strings.Repeat(" ", 600)+`]`).status)
}

func TestEchoCaseAndOrder(t *testing.T) {
	c := start(t, func(o *sim.Options) { o.Users = sim.GenerateUsers(50, collar) })
	body := []string{}
	for _, u := range c.sim.Users() {
		body = append(body, `{"LOGIN_ID":"`+strings.ToUpper(u.LoginID[:1])+u.LoginID[1:]+`","On-Duty-DTG":""}`)
	}

	order := func() (logins []string) {
		var list []map[string]any
		require.NoError(t, json.Unmarshal([]byte(c.update(existing, "["+strings.Join(body, ",")+"]").body), &list))

		for _, u := range list {
			logins = append(logins, u["LOGIN_ID"].(string))
		}

		return logins
	}
	require.NotEqual(t, order(), order(), "shuffled")

	for style, want := range map[string]string{"sent": "W00001@example.org", "stored": w1, "upper": "W00001@EXAMPLE.ORG", "lower": w1} {
		require.NoError(t, c.sim.SetSettings(sim.Settings{KeepOrder: true, EchoCase: style}))
		require.Equal(t, want, order()[0])
	}
}

func TestThrottle(t *testing.T) {
	c := start(t, func(o *sim.Options) { o.Settings.Throttle = sim.Throttle{PerSecond: 0.001, Burst: 1} })
	require.Equal(t, 200, c.update(existing, one(w1, date1)).status)
	res := c.update(existing, one(w1, date2))
	require.Equal(t, 429, res.status)
	seconds, err := strconv.Atoi(res.header.Get("Retry-After"))
	require.NoError(t, err)
	require.InDelta(t, 1000, seconds, 5)
	require.Equal(t, 200, c.search(url.Values{"Fields": {"LOGIN_ID"}}).status, "each end point has a limit of its own")

	require.NoError(t, c.sim.SetSettings(sim.Settings{Throttle: sim.Throttle{PerSecond: 0.001, Burst: 1, RetryAfter: "date"}}))
	require.Equal(t, 200, c.update(existing, one(w1, date1)).status)
	at, err := http.ParseTime(c.update(existing, one(w1, date2)).header.Get("Retry-After"))
	require.NoError(t, err)
	require.InDelta(t, 1000, time.Until(at).Seconds(), 5)
	require.Equal(t, date1, c.sim.DutyState()[w1])
	require.Equal(t, 2, c.sim.Stats().Endpoints["update"].ByStatus[429])
}

func BenchmarkUpdate1000(b *testing.B) {
	c := start(b, func(o *sim.Options) { o.Users = sim.GenerateUsers(1000, collar); o.CallLog = b.TempDir() + "/calls" })
	bodies := [2]string{}
	for i, date := range []string{date1, date2} {
		users := []string{}
		for _, u := range c.sim.Users() {
			users = append(users, one(u.LoginID, date)[1:len(one(u.LoginID, date))-1])
		}

		bodies[i] = "[" + strings.Join(users, ",") + "]"
	}

	for n := 0; b.Loop(); n++ {
		require.Equal(b, 200, c.update(existing, bodies[n%2]).status)
	}
}
