package check

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"

	"bobosync/shared/athoc"
	"bobosync/shared/athocconf"
	"bobosync/shared/topology"
)

// Names of the steps that other steps depend on.
const (
	stepClient       = "AtHoc settings"
	stepConnection   = "AtHoc connection"
	stepToken        = "AtHoc token"
	stepServices     = "services and AtHoc"
	stepOrganisation = "AtHoc organisation"
	stepDuty         = "duty status attribute"
)

func athocSteps(s Settings) []step {
	steps := []step{
		{name: stepClient, run: checkClient},
		{name: stepConnection, needs: []string{stepClient}, run: checkConnection},
		{name: stepToken, needs: []string{stepConnection}, after: []string{stepBuckets}, run: checkToken},
		{name: stepServices, after: []string{stepToken}, run: checkServices},
		{name: stepOrganisation, needs: []string{stepToken}, run: checkOrganisation},
		{name: stepDuty, needs: []string{stepOrganisation}, run: checkDuty},
	}
	if s.Service != topology.Janitor {
		steps = append(steps, step{name: "duty status right", needs: []string{stepDuty}, run: checkRight})
	}

	if s.CollarField != "" {
		steps = append(steps, step{name: "employee id attribute", needs: []string{stepOrganisation}, run: checkCollar})
	}

	return steps
}

// checkClient makes the client that all checks of AtHoc use.
func checkClient(_ context.Context, f *facts) []Result {
	if f.AtHoc.Validate() != nil {
		return skipped("not tried: settings are missing or wrong, see above")
	}

	calls := f.Calls
	calls.Timeout = f.Timeout // contexts limit the calls instead
	f.tokens = &frugalTokens{inner: athoc.NewMemoryTokens()}

	client, err := athocconf.Client(*f.AtHoc, calls, f.tokens, f.Version, quiet())
	if err != nil {
		var results []Result
		for line := range strings.SplitSeq(err.Error(), "\n") {
			results = append(results, bad("correct the variable; .env.example explains it", "%s", strings.TrimPrefix(line, "configuring the AtHoc client: "))...)
		}

		return results
	}

	f.client = client
	proxy, err := client.ProxyHost()
	switch {
	case err != nil:
		return bad("check HTTP_PROXY, HTTPS_PROXY and NO_PROXY", "the proxy cannot be chosen: they are no addresses")
	case proxy != "":
		return good("%s is called through the proxy %s", f.server(), proxy)
	case f.AtHoc.HTTPProxy != "" || f.AtHoc.HTTPSProxy != "":
		return good("%s is called without a proxy, though one is set: NO_PROXY, or the address's scheme, leaves it out", f.server())
	}

	return good("%s is called without a proxy", f.server())
}

// server returns AtHoc's host, with its port if it has one.
func (f *facts) server() string {
	u, err := url.Parse(strings.TrimSpace(f.AtHoc.ServerURL))
	if err != nil {
		return "AtHoc" // cannot happen: the settings were validated
	}

	return u.Host
}

// stage is how far a connection attempt got.
type stage int

const (
	stageStart stage = iota
	stageLookup
	stageDial
	stageTLS
	stageAsked
)

// journey follows a connection attempt. The transport calls it from its own goroutines.
type journey struct {
	mu       sync.Mutex
	stage    stage
	address  string // where the connection goes
	asked    time.Time
	answered time.Time
}

func (j *journey) reach(s stage) {
	j.mu.Lock()
	defer j.mu.Unlock()

	j.stage = max(j.stage, s)
}

func (j *journey) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSStart: func(httptrace.DNSStartInfo) { j.reach(stageLookup) },
		ConnectStart: func(_, address string) {
			j.reach(stageDial)
			j.mu.Lock()
			defer j.mu.Unlock()

			j.address = address
		},
		TLSHandshakeStart: func() { j.reach(stageTLS) },
		WroteRequest: func(httptrace.WroteRequestInfo) {
			j.reach(stageAsked)
			j.mu.Lock()
			defer j.mu.Unlock()

			j.asked = time.Now()
		},
		GotFirstResponseByte: func() {
			j.mu.Lock()
			defer j.mu.Unlock()

			j.answered = time.Now()
		},
	}
}

// seen returns a copy of what has been seen so far.
func (j *journey) seen() (s stage, address string, asked, answered time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stage, j.address, j.asked, j.answered
}

// reachShare is the share of the total time within which AtHoc's server must be reached.
const reachShare = 0.35

// checkConnection goes the whole way to AtHoc's server (name, proxy, TCP, TLS) and checks the server's clock.
func checkConnection(ctx context.Context, f *facts) []Result {
	ctx, cancel := f.part(ctx, reachShare)
	defer cancel()

	proxy, _ := f.client.ProxyHost() // the previous step reported its error
	j := &journey{}

	reached, err := f.client.Reach(httptrace.WithClientTrace(ctx, j.trace()))
	stage, address, asked, answered := j.seen()
	if err != nil {
		return f.notReached(err, stage, proxy)
	}

	way := address
	if proxy != "" {
		way = "the proxy " + proxy
	}

	results := good("%s answers, over %s", f.server(), way)

	if reached.Status == http.StatusProxyAuthRequired {
		return refusedByProxy(proxy, reached.Status)
	}

	if reached.TLS == nil {
		results = append(results, named("AtHoc certificate", warn("give ATHOC_SERVER_URL an https address",
			"AtHoc is called without TLS: the password crosses the network in the clear"))...)
	} else {
		results = append(results, named("AtHoc certificate", judgeTLS(*reached.TLS, f.Now()))...)
	}

	if !reached.Date.IsZero() {
		results = append(results, named("AtHoc clock", judgeClock(apartBy(reached.Date, asked, answered)))...)
	}

	return results
}

// notReached says in plain words where the way to AtHoc's server ends.
func (f *facts) notReached(err error, s stage, proxy string) []Result {
	if status, ok := athoc.ProxyRefusal(err); ok {
		return refusedByProxy(proxy, status)
	}

	if message, advice, ok := whyNoTLS(err, f.Now(), "SSL_CERT_PATH", "ATHOC_SERVER_URL"); ok {
		return named("AtHoc certificate", bad(advice, "%s", message))
	}

	return judgeWay(err, s, f.server(), proxy)
}

// refusedByProxy says that it is the proxy that refuses.
func refusedByProxy(proxy string, status int) []Result {
	switch status {
	case http.StatusProxyAuthRequired:
		return bad("put user and password into HTTPS_PROXY, as in http://user:password@proxy:3128", "the proxy %s wants a login (status 407): it is the proxy that refuses, not AtHoc", proxy)
	case http.StatusForbidden, http.StatusMethodNotAllowed:
		return bad("have AtHoc's address allowed in the proxy", "the proxy %s does not let this machine through to AtHoc (status %d): it is the proxy that refuses, not AtHoc", proxy, status)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return bad("check ATHOC_SERVER_URL; ask those who run the proxy", "the proxy %s cannot reach AtHoc (status %d)", proxy, status)
	}

	return bad("check HTTPS_PROXY and NO_PROXY; ask those who run the proxy", "the proxy %s refuses the connection to AtHoc with status %d", proxy, status)
}

// judgeWay judges a connection attempt that failed or timed out at a stage.
func judgeWay(err error, s stage, server, proxy string) []Result {
	where, advice := server, "check ATHOC_SERVER_URL, and whether a firewall or a proxy (HTTPS_PROXY) is in between"
	if proxy != "" {
		where, advice = "the proxy "+proxy, "check HTTPS_PROXY and NO_PROXY"
	}

	late := errors.Is(err, context.DeadlineExceeded)
	switch {
	case late && s <= stageLookup:
		return bad("check this machine's name service, and "+firstOf(proxy, "HTTPS_PROXY", "ATHOC_SERVER_URL"), "the name service (DNS) does not answer for %s", where)
	case late && s == stageTLS:
		return bad(advice, "%s takes the connection, but does not answer the TLS handshake", where)
	case late && s == stageAsked:
		// AtHoc promises nothing for its base address, so the check asks for a token all the same.
		return warn("check whether AtHoc is well; a firewall that inspects connections can hang like this too", "%s can be reached, but hangs: it does not answer a request for its base address", server)
	case s >= stageTLS:
		return bad(advice, "%s breaks the connection off: %v", where, errors.Unwrap(err))
	}

	if unwrapped := errors.Unwrap(err); unwrapped != nil {
		err = unwrapped
	}

	return bad(advice, "%s", whyNoConnection(err, where))
}

// firstOf returns a if there is a proxy, else b.
func firstOf(proxy, a, b string) string {
	if proxy != "" {
		return a
	}
	return b
}

// apartBy returns how far a clock that showed date (in whole seconds) at some moment between asked and answered is
// ahead of this machine's. A difference that rounding to seconds and the network's delay can explain does not count.
func apartBy(date, asked, answered time.Time) time.Duration {
	early, late := date.Sub(answered), date.Add(time.Second).Sub(asked)
	switch {
	case early > 0:
		return early
	case late < 0:
		return late
	}

	return 0
}

const (
	clockWarning = 5 * time.Second
	clockProblem = time.Minute
)

func judgeClock(ahead time.Duration) []Result {
	const advice = "synchronise this machine's clock (NTP); if it is right, AtHoc's is wrong"

	text := fmt.Sprintf("AtHoc's clock is %s ahead of this machine's", ahead.Round(time.Second))
	if ahead < 0 {
		text = fmt.Sprintf("AtHoc's clock is %s behind this machine's", (-ahead).Round(time.Second))
	}

	switch {
	case ahead.Abs() > clockProblem:
		return bad(advice, "%s: a duty status would begin at the wrong time", text)
	case ahead.Abs() > clockWarning:
		return warn(advice, "%s", text)
	}

	return good("AtHoc's clock and this machine's agree to within %s", clockWarning)
}
