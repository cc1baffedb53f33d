package auth

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func proxied(t *testing.T) *door {
	t.Helper()

	return open(t, Config{
		Mode: ModeProxy, URL: "https://console.example.org", Header: "Remote-User", GroupsHeader: "Remote-Groups", TrustedProxies: []string{"10.1.2.3", "fd00::/64"},
		Operators: []string{"duty officers", "ops", ""}, Approvers: []string{"gold", " "}, // as read from "gold, "
	}, func(o *Options) { o.Addr = "0.0.0.0:8470" })
}

func TestAProxyNamesPeople(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		about, peer string
		headers     []string
		want        string // name, role and address
		code        int
	}{
		{"a viewer", "10.1.2.3:1", []string{"Remote-User", "olga"}, "olga|viewer|proxy|10.1.2.3", 200},
		{"a group that is none", "10.1.2.3:1", []string{"Remote-User", "olga", "Remote-Groups", "gold2, xgold"}, "olga|viewer|proxy|10.1.2.3", 200},
		{"groups without a name", "10.1.2.3:1", []string{"Remote-User", "olga", "Remote-Groups", "x, ,", "Remote-Groups", ""}, "olga|viewer|proxy|10.1.2.3", 200},
		{"an operator", "10.1.2.3:1", []string{"Remote-User", "olga", "Remote-Groups", "x, duty officers"}, "olga|operator|proxy|10.1.2.3", 200},
		{"the highest role counts", "[fd00::7]:1", []string{"Remote-User", "olga", "Remote-Groups", "ops,gold"}, "olga|approver|proxy|fd00::7", 200},
		{"groups in two headers", "10.1.2.3:1", []string{"Remote-User", "olga", "Remote-Groups", "x", "Remote-Groups", "gold"}, "olga|approver|proxy|10.1.2.3", 200},
		{"an address mapped to IPv6", "[::ffff:10.1.2.3]:1", []string{"Remote-User", "olga"}, "olga|viewer|proxy|10.1.2.3", 200},
		{"a name of no letters", "10.1.2.3:1", []string{"Remote-User", `EXAMPLE\jürgen o'neill`}, `EXAMPLE\jürgen o'neill|viewer|proxy|10.1.2.3`, 200},
		{"nobody", "10.1.2.3:1", nil, "|nobody||10.1.2.3", 200},
		{"not a proxy", "10.1.2.4:1", []string{"Remote-User", "olga", "Remote-Groups", "gold"}, "|nobody||10.1.2.4", 200},
		{"not a proxy, written otherwise", "10.1.2.4:1", []string{"REMOTE-user", "olga"}, "|nobody||10.1.2.4", 200},
		{"not a proxy, that says it was forwarded", "10.1.2.4:1", []string{"Remote-User", "olga", "X-Forwarded-For", "10.1.2.3"}, "|nobody||10.1.2.4", 200},
		{"no address", "@", []string{"Remote-User", "olga"}, "|nobody||invalid IP", 200},
		{"a client's address", "10.1.2.3:1", []string{"Remote-User", "olga", "X-Forwarded-For", "192.0.2.7"}, "olga|viewer|proxy|192.0.2.7", 200},
		{"a client's address with a port, as of IIS", "10.1.2.3:1", []string{"Remote-User", "olga", "X-Forwarded-For", "192.0.2.7:51544"}, "olga|viewer|proxy|192.0.2.7", 200},
		{"one of IPv6 with a port", "10.1.2.3:1", []string{"Remote-User", "olga", "X-Forwarded-For", "[2001:db8::7]:51544"}, "olga|viewer|proxy|2001:db8::7", 200},
		{"one of IPv6", "10.1.2.3:1", []string{"Remote-User", "olga", "X-Forwarded-For", "[2001:db8::7]"}, "olga|viewer|proxy|2001:db8::7", 200},
		{"a client that adds hops", "10.1.2.3:1", []string{"Remote-User", "olga", "X-Forwarded-For", "127.0.0.1, 192.0.2.7", "X-Forwarded-For", "10.1.2.3"}, "olga|viewer|proxy|192.0.2.7", 200},
		{"a hop that is none", "10.1.2.3:1", []string{"Remote-User", "olga", "X-Forwarded-For", "evil"}, "olga|viewer|proxy|10.1.2.3", 200},
		{"two names", "10.1.2.3:1", []string{"Remote-User", "victor", "Remote-User", "anna"}, "", 403},
		{"an empty name", "10.1.2.3:1", []string{"Remote-User", " "}, "", 403},
		{"a name that hides", "10.1.2.3:1", []string{"Remote-User", "olga\u202e"}, "", 403},
		{"a long name", "10.1.2.3:1", []string{"Remote-User", strings.Repeat("x", 300)}, "", 403},
	} {
		d := proxied(t)
		d.peer = c.peer
		w := d.get("/nobody", c.headers...)
		require.Equal(t, c.code, w.Code, c.about)

		if c.code == 200 {
			require.Equal(t, c.want, w.Body.String(), c.about)
		}
	}
}

// TestAHeaderIsTakenFromOthers checks that the headers are removed from requests of others, so that no page sees what
// somebody else has written there.
func TestAHeaderIsTakenFromOthers(t *testing.T) {
	t.Parallel()
	d := proxied(t)
	var seen http.Header
	d.handler = d.auth.Protect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen = r.Header.Clone() }))
	d.peer = "192.0.2.1:1"
	d.get("/", "Remote-User", "anna", "Remote-User", "olga", "Remote-Groups", "gold")
	require.Empty(t, seen.Values("Remote-User"))
	require.Empty(t, seen.Values("Remote-Groups"))
}

// TestHeadersOfAProxyMeanNothingElsewhere checks that with another way to log in the headers mean nothing, since
// anybody may write them.
func TestHeadersOfAProxyMeanNothingElsewhere(t *testing.T) {
	t.Parallel()
	d := file(t)
	require.True(t, strings.HasPrefix(d.get("/nobody", "Remote-User", "anna", "X-Forwarded-User", "anna").Body.String(), isNobody))
}
