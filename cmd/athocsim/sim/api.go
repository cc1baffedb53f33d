package sim

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// answer is the response to a call, before a fault spoils it.
type answer struct {
	status int
	header http.Header
	body   []byte
	reason string // for the record; holds no username and no secret
}

func refused(status int, format string, args ...any) answer {
	text := fmt.Sprintf(format, args...)
	return answer{status: status, body: mustJSON(map[string]string{"Message": text}), reason: text}
}

func notAllowed(allow string) answer {
	a := refused(http.StatusMethodNotAllowed, "use %s", allow)
	a.header = http.Header{"Allow": {allow}}
	return a
}

// apiHandler routes calls to the end points. Paths are matched exactly, except for the token's, where letter case
// does not count.
func (s *Simulator) apiHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v2/orgs/{org}/users/search/basic", s.serveSearch)
	mux.HandleFunc("/api/v2/orgs/{org}/users/SyncByCommonNames", s.serveUpdate)
	mux.HandleFunc("/", s.serveUnknown)

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.enter() {
			panic(http.ErrAbortHandler)
		}
		defer s.working.Done()

		switch {
		case strings.EqualFold(r.URL.Path, tokenPath):
			s.serveToken(w, r)
		case path.Clean(r.URL.Path) != r.URL.Path: // the mux would redirect, and a POST would return as a GET
			s.serveUnknown(w, r)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

func (s *Simulator) serveUnknown(w http.ResponseWriter, r *http.Request) {
	c := s.arrive(r, EndpointOther)
	s.play(w, r, c, func() answer { return refused(http.StatusNotFound, "there is nothing at this path") })
}

// arrive starts the record of a call.
func (s *Simulator) arrive(r *http.Request, endpoint string) *Call {
	c := &Call{Endpoint: endpoint, Method: r.Method, Path: r.URL.Path, Remote: r.RemoteAddr}
	if t := bearer(r); t != "" {
		c.Token = fingerprint(t)
	}

	s.calls.arrive(c)

	return c
}

// gate makes the checks with which search and update begin. It returns false if the answer is final.
func (s *Simulator) gate(r *http.Request, c *Call, method string) (answer, bool) {
	if r.Method != method {
		return notAllowed(method), false
	}

	if wait, ok := s.takeTurn(c.Endpoint); !ok {
		return s.throttled(wait), false
	}

	reason := "the Authorization header is missing or is not Bearer and a token"
	if t := bearer(r); t != "" {
		reason = s.tokens.check(t)
	}

	if reason != "" {
		a := refused(http.StatusUnauthorized, "%s", reason)
		a.header = http.Header{"WWW-Authenticate": {"Bearer"}}
		return a, false
	}

	if r.PathValue("org") != s.opts.OrgCode {
		return refused(http.StatusNotFound, "the organization does not exist or is not yours"), false
	}

	switch s.Settings().Forbidden {
	case "role":
		return refused(http.StatusForbidden, "the operator lacks the role for this"), false
	case "password":
		return refused(http.StatusForbidden, "the operator's password has expired"), false
	}

	return answer{}, true
}

// bucket is a token bucket: the throttle of one end point.
type bucket struct {
	level float64
	at    time.Time
}

// takeTurn takes a call from the end point's allowance. If there is none left, it returns how long to wait, and
// false.
func (s *Simulator) takeTurn(endpoint string) (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	t := s.settings.Throttle
	if t.PerSecond == 0 {
		return 0, true
	}

	burst := float64(t.Burst)
	if burst == 0 {
		burst = math.Ceil(t.PerSecond)
	}

	now := time.Now()
	b := s.buckets[endpoint]
	if b == nil {
		b = &bucket{level: burst, at: now}
		s.buckets[endpoint] = b
	}

	b.level = min(burst, b.level+now.Sub(b.at).Seconds()*t.PerSecond)
	b.at = now
	if b.level < 1 {
		return time.Duration((1 - b.level) / t.PerSecond * float64(time.Second)), false
	}

	b.level--

	return 0, true
}

func (s *Simulator) throttled(wait time.Duration) answer {
	a := refused(http.StatusTooManyRequests, "too many calls")
	switch s.Settings().Throttle.RetryAfter {
	case "seconds":
		a.header = http.Header{"Retry-After": {strconv.Itoa(int(math.Ceil(max(wait.Seconds(), 1))))}}
	case "date":
		a.header = http.Header{"Retry-After": {httpDate(time.Now().Add(wait))}}
	}

	return a
}

// parameters reads the query parameters and records them in the call. Names may be in any letter case; each must be
// known, and given only once.
func parameters(r *http.Request, c *Call, known ...string) (map[string]string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("the query is malformed: %w", err)
	}

	out := map[string]string{}
	for name, values := range query {
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, name) })
		if i < 0 {
			return nil, fmt.Errorf("the parameter %q is unknown; there are %s", name, strings.Join(known, ", "))
		}

		if _, twice := out[known[i]]; twice || len(values) > 1 {
			return nil, fmt.Errorf("the parameter %s is given twice", known[i])
		}

		out[known[i]] = values[0]
	}

	for _, name := range known {
		if v, ok := out[name]; ok {
			c.Parameters = append(c.Parameters, Field{name, v})
		}
	}

	return out, nil
}
