package control_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"bobosync/shared/await"
	"bobosync/shared/bustest"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreTopFunction(bustest.LeftBehind)) }

const testTimeout = 20 * time.Second

type question struct {
	Text string `json:"text"`
}

type answer struct {
	Text string `json:"text"`
	From string `json:"from"`
}

// echo returns an endpoint that answers with the text of the question and its own name.
func echo(from string) control.Endpoint {
	return control.On(control.WorkerShow, func(_ context.Context, q question) (answer, error) { return answer{q.Text, from}, nil })
}

func serve(t *testing.T, nc *nats.Conn, endpoints ...control.Endpoint) (stop func()) {
	t.Helper()
	stop, err := control.Serve(t.Context(), nc, topology.Resolver, "v1.2.3-4-gabcdef", endpoints...)
	require.NoError(t, err)
	t.Cleanup(stop)

	return stop
}

func ask(t *testing.T, nc *nats.Conn, text string) (answer, error) {
	t.Helper()
	return control.Ask[answer](t.Context(), nc, topology.Resolver, control.WorkerShow, question{text})
}

func TestAskAndAnswer(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	serve(t, srv.Connect(t).NC, echo("a"))
	got, err := ask(t, srv.Connect(t).NC, "hello")
	require.NoError(t, err)
	require.Equal(t, answer{"hello", "a"}, got)
}

func TestARefusalsTextReachesTheOperator(t *testing.T) {
	t.Parallel()

	srv := bustest.Start(t)
	for name, given := range map[string]struct {
		err  error
		want string
	}{
		"refusal": {control.Refuse("try %q instead", "b"), `try "b" instead`},
		"error":   {errors.New("the disk is full"), "the disk is full"},
		"joined":  {errors.Join(errors.New("one"), errors.New("two")), "one two"},
		"silent":  {errors.New(""), "it gives no reason"},
	} {
		t.Run(name, func(t *testing.T) {
			serve(t, srv.Connect(t).NC, control.On(control.WorkerShow, func(context.Context, question) (answer, error) {
				return answer{}, given.err
			}))
			_, err := ask(t, srv.Connect(t).NC, "hello")
			var refusal *control.Refusal
			require.ErrorAs(t, err, &refusal)
			require.Equal(t, given.want, strings.Join(strings.Fields(refusal.Text), " "))
		})
	}
}

func TestNobodyIsThere(t *testing.T) {
	t.Parallel()
	nc := bustest.Start(t).Connect(t).NC
	_, err := ask(t, nc, "hello")
	require.ErrorIs(t, err, control.ErrNobody)
	require.ErrorContains(t, err, "resolver")
}

func TestARequestThatCannotBeRead(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	serve(t, srv.Connect(t).NC, echo("a"))
	_, err := control.Ask[answer](t.Context(), srv.Connect(t).NC, topology.Resolver, control.WorkerShow, []int{1})
	var refusal *control.Refusal
	require.ErrorAs(t, err, &refusal)
	require.Contains(t, refusal.Text, "same version")
}

// TestAnAnswerThatTheBrokerDoesNotTake: an answer larger than the broker's limit for a message becomes a refusal at
// once, and nobody waits for it.
func TestAnAnswerThatTheBrokerDoesNotTake(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	nc := srv.Connect(t).NC
	serve(t, nc, control.On(control.WorkerShow, func(context.Context, question) (answer, error) {
		return answer{Text: strings.Repeat("x", int(nc.MaxPayload()))}, nil
	}))
	_, err := ask(t, srv.Connect(t).NC, "hello")
	var refusal *control.Refusal
	require.ErrorAs(t, err, &refusal)
	require.Contains(t, refusal.Text, "payload")
}

// TestAnyOneOfSeveralAnswers: with two instances of a service each request is handled once, and when one stops the
// other continues.
func TestAnyOneOfSeveralAnswers(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	var handled atomic.Int32
	counted := func(from string) control.Endpoint {
		return control.On(control.WorkerShow, func(_ context.Context, q question) (answer, error) {
			handled.Add(1)
			return answer{q.Text, from}, nil
		})
	}
	stop := serve(t, srv.Connect(t).NC, counted("a"))
	serve(t, srv.Connect(t).NC, counted("b"))

	nc := srv.Connect(t).NC
	from := map[string]int{}
	for range 50 {
		got, err := ask(t, nc, "hello")
		require.NoError(t, err)

		from[got.From]++
	}

	require.Equal(t, int32(50), handled.Load(), "one request, one answer")
	require.Len(t, from, 2, "both share the work: %v", from)
	stop()
	await.True(t, func() bool { // until the broker knows of the stop, one request may still be refused
		got, err := ask(t, nc, "hello")
		return err == nil && got.From == "b"
	}, testTimeout)

	for range 20 {
		got, err := ask(t, nc, "hello")
		require.NoError(t, err)
		require.Equal(t, "b", got.From)
	}
}

// TestStopWaitsForWhatIsBeingAnswered: when stop returns, no handler is running any more, so that what it uses may be
// closed.
func TestStopWaitsForWhatIsBeingAnswered(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	begun := make(chan struct{})
	var ended atomic.Bool

	stop := serve(t, srv.Connect(t).NC, control.On(control.WorkerShow, func(ctx context.Context, _ question) (answer, error) {
		close(begun)
		<-ctx.Done()
		ended.Store(true)
		return answer{}, ctx.Err()
	}))
	nc := srv.Connect(t).NC
	asked := make(chan error, 1)
	go func() {
		_, err := ask(t, nc, "hello")
		asked <- err
	}()

	<-begun
	stop()
	require.True(t, ended.Load())
	require.ErrorContains(t, <-asked, "canceled")
	await.True(t, func() bool {
		_, err := ask(t, nc, "hello")
		return errors.Is(err, control.ErrNobody)
	}, testTimeout)
	stop()
}

func TestAnEndpointOfNoName(t *testing.T) {
	t.Parallel()
	nc := bustest.Start(t).Connect(t).NC
	_, err := control.Serve(t.Context(), nc, topology.Resolver, "dev", echo("a"), control.Endpoint{Name: "not a name"})
	require.ErrorContains(t, err, "not a name")
	await.True(t, func() bool { // the endpoint offered before it is withdrawn
		_, err := ask(t, nc, "hello")
		return errors.Is(err, control.ErrNobody)
	}, testTimeout)
}

func TestAskEndsWithItsContext(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	serve(t, srv.Connect(t).NC, control.On(control.WorkerShow, func(ctx context.Context, _ question) (answer, error) {
		<-ctx.Done()
		return answer{}, ctx.Err()
	}))

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()

	_, err := control.Ask[answer](ctx, srv.Connect(t).NC, topology.Resolver, control.WorkerShow, question{})
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestEveryInstanceAnswers: AskAll reaches every instance of a service.
func TestEveryInstanceAnswers(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	ask := func() map[string]bool {
		answers, err := control.AskAll[answer](t.Context(), srv.Connect(t).NC, topology.Resolver, control.WorkerShow, question{"hello"})
		require.NoError(t, err)

		from := map[string]bool{}
		for _, a := range answers {
			from[a.From] = true
		}

		require.Len(t, from, len(answers))

		return from
	}
	require.Empty(t, ask(), "nobody is there")

	for _, name := range []string{"a", "b", "c"} {
		serve(t, srv.Connect(t).NC, control.OnEvery(control.WorkerShow, func(_ context.Context, q question) (answer, error) {
			return answer{q.Text, name}, nil
		}))
	}

	want := map[string]bool{"a": true, "b": true, "c": true}
	await.True(t, func() bool { return maps.Equal(want, ask()) }, testTimeout, "one that is late is missed")
}

// TestAServiceThatEndsWithoutABrokerTakesNoRequestsAfterwards: a service that starts again after the broker was away
// receives every request.
func TestAServiceThatEndsWithoutABrokerTakesNoRequestsAfterwards(t *testing.T) {
	t.Parallel()
	srv := bustest.Start(t)
	served := srv.Connect(t).NC
	stop := serve(t, served, echo("before"))
	reconnecting := served.StatusChanged(nats.RECONNECTING)

	srv.Down(t)
	<-reconnecting
	stop()

	connected := served.StatusChanged(nats.CONNECTED)

	srv.Up(t)
	<-connected
	serve(t, served, echo("after"))

	operator := srv.Connect(t).NC
	for answered := 0; answered < 20; {
		got, err := ask(t, operator, "hello")
		if _, stopping := errors.AsType[*control.Refusal](err); stopping {
			continue // the previous instance is still ending
		}

		require.NoError(t, err)
		require.Equal(t, "after", got.From)

		answered++
	}
}
