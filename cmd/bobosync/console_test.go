package main

import (
	"encoding/json"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/audit"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// visitor is a user's browser without scripts.
type visitor struct {
	t    *testing.T
	base string
	http *http.Client
}

// withConsole gives the site a console. Call it before the site is started.
func (s *site) withConsole() {
	s.t.Helper()
	const hash = "$argon2id$v=19$m=8,t=1,p=1$c2l4dGVlbiBieXRlcyAuLg$XwJU3+17Pqn/THxHN5CMCUoKhHGFEM8WYtaNX72L2y8"
	require.NoError(s.t, os.WriteFile(s.path("users"), []byte("victor viewer "+hash+"\nolga operator "+hash+"\nanna approver "+hash+"\n"), 0o600))
	s.vars["CONSOLE_ADDR"], s.vars["CONSOLE_AUTH"], s.vars["CONSOLE_USERS_FILE"] = bustest.FreeAddr(s.t), "file", s.path("users")
}

// TestAConsoleThatCannotStartHoldsUpNothing checks that duty statuses reach AtHoc while the console's port is taken,
// and that the console starts once the port is free.
func TestAConsoleThatCannotStartHoldsUpNothing(t *testing.T) {
	s := newSite(t, 1)
	s.withConsole()
	other, err := net.Listen("tcp", s.vars["CONSOLE_ADDR"])
	require.NoError(t, err)

	stop := s.start()
	s.drop("on.csv", booking(1, 10, true))
	s.arrives("done", "on.csv")
	require.Len(t, s.onDuty(), 1)
	require.NoError(t, other.Close())
	s.visit("olga")
	stop()
}

// visit logs a user in.
func (s *site) visit(name string) *visitor {
	s.t.Helper()

	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	v := &visitor{s.t, "http://" + s.vars["CONSOLE_ADDR"], &http.Client{Jar: jar, Timeout: timeout}}
	s.until("the console is there", func() bool {
		res, err := v.http.Get(v.base + "/login")
		if err != nil {
			return false
		}

		return res.Body.Close() == nil
	})
	v.post("/login", url.Values{"name": {name}, "password": {"correct horse battery"}})
	s.until("the console knows of all", func() bool {
		page := v.get("/")
		return strings.Contains(page, "Services") && !strings.Contains(page, "NOT LIVE") && !strings.Contains(page, "does not answer")
	})

	return v
}

func (v *visitor) read(res *http.Response, err error) (page, path string) {
	v.t.Helper()
	require.NoError(v.t, err)

	defer res.Body.Close()

	body, err := io.ReadAll(res.Body)
	require.NoError(v.t, err)
	require.Equal(v.t, http.StatusOK, res.StatusCode, "%s: %s", res.Request.URL, body)

	return html.UnescapeString(string(body)), res.Request.URL.Path
}

// get returns a page's text.
func (v *visitor) get(path string) string {
	v.t.Helper()
	page, _ := v.read(v.http.Get(v.base + path))
	return page
}

// post sends a form, and returns the page that it leads to and that page's path.
func (v *visitor) post(path string, form url.Values) (page, at string) {
	v.t.Helper()
	return v.read(v.http.PostForm(v.base+path, form))
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)

// order opens an order's form, fills it in and sends it. It returns the page that shows the result.
func (v *visitor) order(path string, typed ...string) string {
	v.t.Helper()
	_, body, found := strings.Cut(v.get(path), `<form class="order" method="post"`)
	require.True(v.t, found, path)

	body, _, _ = strings.Cut(body, "</form>")
	form := url.Values{"reason": {"a test"}}
	for _, m := range hiddenField.FindAllStringSubmatch(body, -1) {
		form.Add(m[1], m[2])
	}

	form.Set("number", form.Get("size"))

	for i := 0; i < len(typed); i += 2 {
		form.Set(typed[i], typed[i+1])
	}

	path, _, _ = strings.Cut(path, "?")
	page, at := v.post(path, form)
	require.Equal(v.t, "/given/"+form.Get("once"), at, page)
	require.Contains(v.t, page, "the service has done it", path)
	again, _ := v.post(path, form)
	require.Contains(v.t, again, form.Get("once"), path)

	return page
}

// TestOrdersFromTheConsole gives each order only by its form, and sends each form twice. The effect must be seen in
// AtHoc and in the services, and the audit must have each order exactly once.
func TestOrdersFromTheConsole(t *testing.T) {
	s := newSite(t, 2500) // more than are published at once, so that a replay can be stopped during a pause
	s.open()
	s.withConsole()
	s.vars["GUARD"], s.vars["GUARD_OFF_PERCENT"], s.vars["MAPPING_MAX_REMOVAL_PERCENT"] = "hold", "1", "0"
	s.vars["DUTY_STATUS_FIELD"] = "No-Such-Field"
	stop := s.start()
	s.drop("monday.csv", booking(31, 50, true), booking(32, 50, true))
	s.arrives("failed", "monday.csv")
	stop()

	s.vars["DUTY_STATUS_FIELD"] = "On-Duty-DTG"
	s.start()
	olga, anna := s.visit("olga"), s.visit("anna")

	s.ordersAboutLetters(olga)

	var crew []string
	for w := range 2500 {
		if w < 30 || w >= 100 {
			crew = append(crew, booking(w+1, 45, true))
		}
	}

	s.drop("tuesday.csv", crew...)
	s.until("the crew is on duty", func() bool { return len(s.onDuty()) == 2432 })
	s.ordersAboutSending(olga)
	s.ordersAboutAtHoc(olga, anna)
	s.ordersAboutAMassChange(anna)
	s.ordersAboutTheMapping(olga, anna)

	var orders []audit.Ordered
	require.NoError(t, json.Unmarshal([]byte(s.succeeds("audit", "list", "--most", "1000", "--json")), &orders))

	times := map[string]int{}
	for _, o := range orders {
		if o.Endpoint != control.JournalNote && strings.HasSuffix(o.Caller.Said, " (console, password, 127.0.0.1)") {
			require.Equal(t, audit.OK, o.Outcome)
			require.Regexp(t, `^(olga|anna) `, o.Caller.Said)
			require.Contains(t, string(o.What.Request), `"selection":`)
			times[o.Endpoint]++
		}
	}

	require.Equal(t, map[string]int{
		control.DeadRequeue: 1, control.DeadDrop: 1, control.MuteFeed: 1, control.Pause: 1, control.Resume: 1, control.Replay: 2, control.StopReplay: 1,
		control.Reconcile: 2, control.HeldDecide: 2, control.HeldRequeue: 1, control.MappingRefresh: 1, control.MappingApprove: 1,
	}, times)
	require.Contains(t, s.succeeds("audit", "verify"), "are as they were written")
}

func (s *site) ordersAboutLetters(olga *visitor) {
	t := s.t
	data, err := json.Marshal(event.DeadLetter{V: 1, Service: "resolver", Reason: "spoilt", Died: time.Now(), Payload: []byte("x")})
	require.NoError(t, err)
	_, err = s.broker().JS.Publish(t.Context(), topology.DeadSubject("resolver"), data)
	require.NoError(t, err)
	require.Contains(t, olga.get("/dead"), "requeue 2")
	require.Contains(t, olga.order("/orders/requeue?why=No-Such-Field"), "is sent again")
	s.arrives("done", "monday.csv")
	require.Contains(t, olga.order("/orders/drop?id=3"), "dropped")
	require.Empty(t, s.letters())
}

func (s *site) ordersAboutSending(olga *visitor) {
	t := s.t

	olga.order("/orders/mute?feed=default", "for", "8h")
	require.Contains(t, s.succeeds("feeds", "list"), "default is muted until")
	olga.order("/orders/pause", "for", "1h")
	s.until("it tells of the pause", func() bool { return strings.Contains(olga.get("/"), "PAUSED until") })
	s.drop("wednesday.csv", booking(33, 20, true))
	olga.order("/orders/replay?whom=all")

	all := s.replays()
	require.Len(t, all, 1)
	olga.order("/orders/replay-stop?id=" + all[0].ID)
	require.True(t, s.replays()[0].Stopped)
	require.Empty(t, s.onDuty()[username(33)], "nothing is sent in a pause")
	olga.order("/orders/resume")
	s.until("what waited is sent", func() bool { return s.onDuty()[username(33)] != "" })
	s.until("it tells of no pause", func() bool { return !strings.Contains(olga.get("/"), "PAUSED until") })
}

// ended opens an order's page until it shows that the order has ended, and returns the page.
func (v *visitor) ended(s *site, page string) string {
	v.t.Helper()

	id := regexp.MustCompile(`Recorded as</dt><dd>([0-9a-f-]+)`).FindStringSubmatch(page)
	require.Len(v.t, id, 2, page)
	s.until("it has ended", func() bool {
		page = v.get("/given/" + id[1])
		return strings.Contains(page, "How it goes on") && !strings.Contains(page, "Outcome</dt><dd>under way")
	})

	return page
}

func (s *site) ordersAboutAtHoc(olga, anna *visitor) {
	t := s.t
	before := s.onDuty()
	s.until("AtHoc has answered for all", func() bool { return strings.Contains(olga.get("/"), ">0 workers<") })
	s.forget()
	olga.ended(s, olga.order("/orders/replay?whom=workers&which=00001,+00002"))
	s.until("both are sent", func() bool { return len(s.onDuty()) == 2 })
	olga.ended(s, olga.order("/orders/compare"))
	page := olga.get("/reconcile")
	require.Contains(t, page, "AtHoc holds something else than it should")
	page = olga.get("/orders/apply")
	require.Contains(t, page, "It would be held back")
	require.Contains(t, page, "the role approver", "so many differ that an approver has to say so")
	anna.ended(s, anna.order("/orders/apply"))
	s.until("all is as before", func() bool { // a comparison leaves out users for whom AtHoc has only just answered
		if len(s.onDuty()) < len(before) {
			s.call("reconcile", "--apply", "--force") // so many may differ that --force is needed
		}
		return len(s.onDuty()) == len(before)
	})
}

func (s *site) ordersAboutAMassChange(anna *visitor) {
	t := s.t

	var crew []string
	for w := 1; w <= 30; w++ {
		crew = append(crew, booking(w, 10, false))
	}

	s.drop("thursday.csv", crew...)

	held := regexp.MustCompile(`/orders/approve\?id=(off-[0-9-]+)`)
	var id []string
	s.until("it is held", func() bool {
		id = held.FindStringSubmatch(anna.get("/decisions"))
		return id != nil && strings.Contains(anna.get("/orders/approve?id="+id[1]), "Approve 30")
	})
	require.Len(t, s.onDuty(), 2433)

	page := anna.order("/orders/approve?id="+id[1], "except", "00007, 00008")

	s.until("all but two are off duty", func() bool { return len(s.onDuty()) == 2405 })

	rest := regexp.MustCompile(`Rest</dt><dd>(off-[0-9-]+[a-z0-9-]*)`).FindStringSubmatch(page)
	require.Len(t, rest, 2, page)
	anna.order("/orders/reject?id=" + rest[1])
	s.arrives("failed", "thursday.csv")
	require.Len(t, s.onDuty(), 2405)
	anna.order("/orders/take-in?id=" + rest[1])
	s.until("they are off duty after all", func() bool { return len(s.onDuty()) == 2403 })
}

func (s *site) ordersAboutTheMapping(olga, anna *visitor) {
	t := s.t

	users := s.athoc.Users()
	var gone []string
	for _, u := range users[50:60] {
		gone = append(gone, u.LoginID)
	}

	_, err := s.athoc.RemoveUsers(gone...)
	require.NoError(t, err)
	olga.ended(s, olga.order("/orders/refresh"))
	require.Contains(t, s.succeeds("mapping", "list"), gone[0], "it is held back")
	anna.ended(s, anna.order("/orders/approve-mapping"))
	s.until("it is in force", func() bool { return !strings.Contains(s.succeeds("mapping", "list"), gone[0]) })
}
