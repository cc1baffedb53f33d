package web

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/await"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// listen opens the stream of a page and returns when its first part has arrived.
func listen(t *testing.T, server *httptest.Server, page string) (status int, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/live?page="+url.QueryEscape(page), nil)
	require.NoError(t, err)
	res, err := server.Client().Do(req)
	require.NoError(t, err)

	if res.StatusCode == http.StatusOK {
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20)

		for lines.Scan() && !strings.HasPrefix(lines.Text(), "event: beat") {
		}
	}

	return res.StatusCode, func() {
		cancel()
		require.NoError(t, res.Body.Close())
	}
}

// TestClosedPagesTakeNoMemory checks that closed pages take no memory, even while one page stays open, as the wall's
// screen always does.
func TestClosedPagesTakeNoMemory(t *testing.T) {
	t.Parallel()
	s := site(t, nil, well(), auth.Identity{Role: auth.Viewer})

	server := httptest.NewServer(s.mux())
	defer server.Close()

	_, end := listen(t, server, "/wall")
	defer end()

	for i := range 20 {
		_, end := listen(t, server, "/?x="+strconv.Itoa(i))
		end()
	}

	kept := func() int {
		s.streams.mu.Lock()
		defer s.streams.mu.Unlock()
		return len(s.streams.fragments)
	}
	await.True(t, func() bool { return kept() == 1 }, 10*time.Second, "kept: %d", kept())
}

// TestAPageThatIsRecordedIsNotLive checks that no stream shows pages about a person's past. Each look at them is
// recorded with the user who looked, so a stream must neither repeat the look nor show others what was recorded for one
// user.
func TestAPageThatIsRecordedIsNotLive(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	require.NoError(t, topology.Provision(t.Context(), conn.JS, topology.Settings{Replicas: 1}, topology.Resolver))
	var asked atomic.Int32
	serve(t, conn, topology.Resolver, control.On(control.OnDuty, func(context.Context, control.OnDutyRequest) (control.OnDutyAnswer, error) {
		asked.Add(1)
		return control.OnDutyAnswer{At: night}, nil
	}))
	s := site(t, conn, well(), auth.Identity{Name: "o", Role: auth.Operator})

	server := httptest.NewServer(s.mux())
	defer server.Close()

	for _, page := range []string{"/onduty", "/worker?q=1&at=90m", "/receipt/x", "/report", "/audit", "/orders/replay", "/mapping"} {
		status, end := listen(t, server, page)
		end()
		require.Equal(t, http.StatusNotFound, status, page)
	}

	require.Zero(t, asked.Load())
}

// TestAPageThatIsClosedSpoilsNoOther checks that what many pages show is made once for all of them, even if the page
// for which it was made has been closed.
func TestAPageThatIsClosedSpoilsNoOther(t *testing.T) {
	t.Parallel()
	conn := bustest.Start(t).Connect(t)
	require.NoError(t, topology.Provision(t.Context(), conn.JS, topology.Settings{Replicas: 1}, topology.Resolver))

	asked, answer := make(chan struct{}, 10), make(chan struct{})
	serve(t, conn, topology.Resolver, control.On(control.Held, func(context.Context, control.Nothing) (control.HeldAnswer, error) {
		asked <- struct{}{}

		<-answer
		return control.HeldAnswer{OnDuty: 412}, nil
	}))
	s := site(t, conn, well(), auth.Identity{Name: "o", Role: auth.Operator})
	q := func(ctx context.Context) *Request {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/decisions", nil)
		return s.request(r, r.URL, "")
	}
	v, _, _ := findView("/decisions")
	ctx, cancel := context.WithCancel(t.Context())
	first, second := q(ctx), q(t.Context())
	second.snap = first.snap

	shown, leave := s.streams.join(auth.Operator, first.url)
	defer leave()

	body := func(q *Request) string {
		r := httptest.NewRequestWithContext(q.ctx, http.MethodGet, "/decisions", nil)
		b, _ := shown.after(q, func() (string, error) { return s.fragments(r, q, v) })
		return b
	}
	ended := make(chan string, 1)
	go func() { ended <- body(first) }()

	<-asked
	cancel()
	<-ended
	close(answer)
	require.Contains(t, body(second), "412 users on duty")
}
