package sim_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bobosync/cmd/athocsim/sim"

	"github.com/stretchr/testify/require"
)

// copyFile simulates a kill: what a file holds while the simulator is running is what a killed simulator leaves
// behind.
func copyFile(t *testing.T, from, to string) {
	t.Helper()

	raw, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, raw, 0o600))
}

func TestStateSurvives(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%v", killed), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "state")
			c := start(t, func(o *sim.Options) { o.StateFile = file })
			c.outcomes(existing, one(w1, date1))
			c.outcomes(existing, one(w1, date2))
			c.outcomes("", one("new@example.org", date1))
			_, err := c.sim.RemoveUsers(w2)
			require.NoError(t, err)
			require.NoError(t, c.sim.DefineAttributes(sim.Attribute{Name: "GRADE", Type: sim.TypeString}))
			require.NoError(t, c.sim.PutUsers(sim.User{LoginID: w3, Attributes: map[string]string{"GRADE": "7"}}))

			want := c.sim.Users()
			if killed {
				next := file + "2"
				copyFile(t, file, next)
				copyFile(t, file+".journal", next+".journal")
				f, err := os.OpenFile(next+".journal", os.O_APPEND|os.O_WRONLY, 0)
				require.NoError(t, err)
				_, err = f.WriteString(`{"removed":["` + w1) // cut off in the middle
				require.NoError(t, err)
				require.NoError(t, f.Close())

				file = next
			} else {
				require.NoError(t, c.sim.Close())
			}

			again := start(t, func(o *sim.Options) { o.StateFile = file; o.Users = sim.GenerateUsers(99, collar) })
			require.Equal(t, want, again.sim.Users())
			require.NoError(t, again.sim.PutUsers(sim.User{LoginID: "next@example.org"}))
			u, _ := again.sim.User("next@example.org")
			require.Greater(t, u.ID, want[len(want)-1].ID, "no id is given twice")
		})
	}
}

func TestBadStateIsNotOverwritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state")
	for content, want := range map[string]string{"{": "move it away", `{"v":99}`: "version 99"} {
		require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
		_, err := sim.New(sim.Options{StateFile: file})
		require.ErrorContains(t, err, want)
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		require.Equal(t, content, string(raw))
	}
}

func TestCallLogSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	log, killed := filepath.Join(dir, "calls"), filepath.Join(dir, "killed")

	c := start(t, func(o *sim.Options) { o.CallLog = log })
	c.outcomes(existing, one(w1, date1))
	c.fault(sim.Fault{Kind: sim.FaultHang, Scope: []string{"update"}})

	done := make(chan struct{})
	go func() { defer close(done); _, _ = c.tryUpdate(existing, one(w2, date2)) }()

	eventually(t, "the call arrives", func() bool { return len(c.sim.Faults()) > 0 && c.sim.Faults()[0].Hits == 1 })
	copyFile(t, log, killed)

	live := c.sim.Calls(sim.CallFilter{})
	c.sim.ClearFaults()
	require.NoError(t, c.sim.Close())
	<-done

	f, err := os.OpenFile(killed, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(`{"phase":"end","run":12`)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	next := start(t, func(o *sim.Options) { o.CallLog = killed })
	next.outcomes(existing, one(w3, date1))
	require.NoError(t, next.sim.Close())

	calls, err := sim.ReadCallLog(killed)
	require.NoError(t, err)
	require.Len(t, calls, 5) // token, update, the one cut off; token, update
	require.Equal(t, live, calls[:2])
	require.True(t, calls[2].Unfinished)
	require.Equal(t, sim.Fields{{Name: duty, Value: date2}}, calls[2].Users[0].Fields)
	require.Greater(t, calls[3].Run, calls[2].Run)
	require.Equal(t, sim.OutcomeUpdated, calls[4].Users[0].Outcome)

	whole, err := sim.ReadCallLog(log)
	require.NoError(t, err)
	require.False(t, whole[2].Unfinished)

	raw, err := os.ReadFile(log)
	require.NoError(t, err)

	lines := strings.SplitAfter(string(raw), "\n")
	lines[1] = "rubbish\n"
	require.NoError(t, os.WriteFile(log, []byte(strings.Join(lines, "")), 0o600))
	_, err = sim.ReadCallLog(log)
	require.ErrorContains(t, err, "line 2 cannot be read")
}

func TestMemoryIsBounded(t *testing.T) {
	c := start(t, func(o *sim.Options) { o.KeepCalls, o.KeepUsers, o.History = 3, 2, 4 })
	for n := range 10 {
		c.outcomes(existing, one(w1, fmt.Sprintf("17/06/2024 14:30:%02d", n)))
	}

	calls := c.sim.Calls(sim.CallFilter{})
	require.Len(t, calls, 2)
	require.EqualValues(t, 11, calls[1].Seq)
	require.Len(t, c.sim.History(w1), 4)
	require.Equal(t, 10, c.sim.Stats().Applied, "counts go on")

	body := `[{"LOGIN_ID":"` + w1 + `","On-Duty-DTG":""},{"LOGIN_ID":"` + w2 + `","On-Duty-DTG":""},{"LOGIN_ID":"` + w3 + `","On-Duty-DTG":""}]`
	c.outcomes(existing, body)
	require.Len(t, c.sim.Calls(sim.CallFilter{}), 1, "the newest call is kept, however large")
}

func TestCallsAreRecordedBeforeTheAnswer(t *testing.T) {
	var mu sync.Mutex
	var seen []uint64

	c := start(t, func(o *sim.Options) {
		o.OnCall = func(call sim.Call) { mu.Lock(); defer mu.Unlock(); seen = append(seen, call.Seq) }
	})
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for range 25 {
				res, err := c.tryUpdate(existing, one(fmt.Sprintf("w%05d@example.org", n), date1))
				if err != nil || res.status != 200 {
					t.Errorf("update: %v %v", res.status, err)
				}
			}
		})
	}

	wg.Wait()
	mu.Lock()
	require.Len(t, seen, 101)
	mu.Unlock()

	byUser := map[string]int64{}
	for _, call := range c.sim.Calls(sim.CallFilter{Endpoint: sim.EndpointUpdate}) {
		login := call.Users[0].LoginID
		require.Greater(t, call.Arrived, byUser[login], "a client that waits has no two calls in flight")
		byUser[login] = call.Finished
	}

	st := c.sim.Stats()
	require.Equal(t, 100, st.Endpoints["update"].Calls)
	require.GreaterOrEqual(t, st.Endpoints["update"].PeakPerSecond, 1)
	require.Len(t, c.sim.Calls(sim.CallFilter{User: strings.ToUpper(w1)}), 25)
	require.Len(t, c.sim.Calls(sim.CallFilter{After: 99}), 2)
}

func TestLoadUsers(t *testing.T) {
	dir := t.TempDir()
	known := []sim.Attribute{{Name: duty, Type: sim.TypeDate}, {Name: collar, Type: sim.TypeString}}
	want := []sim.User{{LoginID: "a@x", Attributes: map[string]string{collar: "1", "FIRSTNAME": "Ann"}}}
	for name, content := range map[string]string{
		"u.csv":  "\ufeffLOGIN_ID,Collar-Number,FIRSTNAME\r\na@x,1,Ann\r\n",
		"u.json": `[{"LOGIN_ID":"a@x","Collar-Number":"1","FIRSTNAME":"Ann"}]`,
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		users, defs, err := sim.LoadUsers(path, known)
		require.NoError(t, err)
		require.Equal(t, want, users)
		require.Equal(t, append(known[:2:2], sim.Attribute{Name: "FIRSTNAME", Type: sim.TypeString}), defs)
	}

	for name, content := range map[string]string{"a.csv": "Collar-Number\n1\n", "b.csv": "", "c.json": "{}", "d.txt": "", "e.json": `[{"x":"1"}]`, "f.csv": "LOGIN_ID,A\nx\n"} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, _, err := sim.LoadUsers(path, known)
		require.Error(t, err, name)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for want, o := range map[string]sim.Options{
		"key file":      {CertFile: "x"},
		"path":          {OrgCode: "a/b"},
		"echo_case":     {Settings: sim.Settings{EchoCase: "x"}},
		"listed twice":  {Users: []sim.User{{LoginID: "a"}, {LoginID: "A"}}},
		"unknown":       {Users: []sim.User{{LoginID: "a", Attributes: map[string]string{"x": "1"}}}},
		"already":       {Attributes: []sim.Attribute{{Name: duty, Type: sim.TypeString}}},
		"type":          {Attributes: []sim.Attribute{{Name: "x", Type: "number"}}},
		"not a date":    {Users: []sim.User{{LoginID: "a", Attributes: map[string]string{duty: "now"}}}},
		"call log":      {CallLog: "/nonexistent/x"},
		"reading the c": {CertFile: "/nonexistent/x", KeyFile: "/nonexistent/y"},
	} {
		_, err := sim.New(o)
		require.ErrorContains(t, err, want)
	}
}

func TestAdminPages(t *testing.T) {
	c := start(t, nil)
	is := func(status int, method, path, body, want string) {
		t.Helper()

		res := c.do(method, path, body)
		require.Equal(t, status, res.status, res.body)
		require.Contains(t, res.body, want)
	}
	is(200, "GET", "/sim/", "", "/sim/faults/{id}")
	is(200, "POST", "/sim/attributes", `[{"name":"GRADE","type":"string"}]`, `"GRADE"`)
	is(200, "PUT", "/sim/users/zoe@example.org", `{"GRADE":"7","On-Duty-DTG":"`+date1+`"}`, `"GRADE": "7"`)
	is(400, "PUT", "/sim/users/zoe@example.org", `{"GRADES":"7"}`, "unknown")
	is(200, "GET", "/sim/users/ZOE@example.org", "", `"history"`)
	is(404, "GET", "/sim/users/nobody", "", "no such user")
	is(200, "GET", "/sim/users?offset=3&limit=1", "", "zoe@example.org")
	is(400, "GET", "/sim/users?limit=x", "", "whole number")
	is(200, "POST", "/sim/users", `[{"login_id":"yan@example.org","attributes":{}}]`, `"put": 1`)
	is(200, "GET", "/sim/state", "", `"zoe@example.org": "`+date1+`"`)
	is(400, "GET", "/sim/state?attribute=x", "", "unknown")
	is(200, "DELETE", "/sim/state?user=ZOE@example.org", "", `"cleared": 1`)
	is(200, "DELETE", "/sim/users/yan@example.org", "", `"removed": 1`)
	is(404, "DELETE", "/sim/users/yan@example.org", "", "no such user")
	is(200, "DELETE", "/sim/users", `["zoe@example.org","nobody"]`, `"removed": 1`)
	is(400, "POST", "/sim/faults", `{"kind":"status","stauts":500}`, "stauts")
	is(200, "POST", "/sim/faults", `{"kind":"status","status":503,"for":"1h"}`, `"id": 1`)
	is(200, "GET", "/sim/faults", "", `"status": 503`)
	is(200, "DELETE", "/sim/faults/1", "", "cleared")
	is(404, "DELETE", "/sim/faults/1", "", "no such fault")
	is(200, "PATCH", "/sim/settings", `{"forbidden":"role","latency":{"fixed":"1ms"}}`, `"max_users": 5000`)
	is(400, "PATCH", "/sim/settings", `{"latency":{"fixed":"-1ms"}}`, "negative")
	require.Equal(t, 403, c.update(existing, one(w1, date1)).status)
	is(200, "GET", "/sim/calls?endpoint=update", "", `"status": 403`)
	is(200, "GET", "/sim/stats", "", `"403": 1`)
	is(200, "POST", "/sim/revoke", "", `"revoked": 1`)
	is(200, "POST", "/sim/faults", `{"kind":"reset","scope":["search"]}`, `"id": 2`)
	is(400, "POST", "/sim/reset?only=x", "", "use faults")
	is(200, "POST", "/sim/reset", "", "users")
	is(200, "GET", "/sim/calls", "", "[]")
	require.Empty(t, c.sim.Faults())
	require.Empty(t, c.sim.Settings().Forbidden)
	require.Len(t, c.sim.Users(), 3)
	c.login()
	require.Equal(t, 200, c.update(existing, one(w1, date1)).status)
}

func TestAdminAddressOfItsOwn(t *testing.T) {
	c := start(t, func(o *sim.Options) { o.AdminAddr = "127.0.0.1:0" })
	require.Equal(t, 404, c.do("GET", "/sim/", "").status)
	c.fault(sim.Fault{Kind: sim.FaultRefuse, For: sim.Duration(3600e9)})
	c.base = c.sim.AdminURL()
	require.Equal(t, 200, c.do("DELETE", "/sim/faults", "").status, "reachable while the port is closed")
	c.base = c.sim.URL()
	eventually(t, "open again", func() bool { _, err := c.try("GET", "/x", ""); return err == nil })
}
