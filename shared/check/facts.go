package check

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/pause"
)

// facts are what steps have found for those after them. A step writes its own part only, and reads those of steps that it
// needs or comes after, which are over by then.
type facts struct {
	Options

	// inside says that the broker is the one inside an all-in-one program.
	inside bool
	broker target
	nc     *nats.Conn
	js     jetstream.JetStream
	denied denials
	// permitted is what the broker permits, as far as it has said.
	permitted permitted
	streams   map[string]*jetstream.StreamInfo
	missing   map[string]bool // streams

	client *athoc.Client
	tokens *frugalTokens
	total  int // users in the organisation
	// refused is what AtHoc refuses the services for, though the token is good; nil if it does not.
	refused *breaker.State
	// paused is an operator's pause of the services; nil if there is none, or it is not known.
	paused *breaker.Pause

	pacing sync.Mutex
	next   time.Time // earliest moment of the next call to AtHoc
}

// close releases connections, unless a step was left behind that may be using them: the process ends then anyway.
func (f *facts) close(steps []step, outcomes map[string]*outcome) {
	for _, t := range steps {
		select {
		case <-outcomes[t.name].done:
		default:
			return
		}
	}

	if f.nc != nil {
		f.nc.Close()
	}

	if f.client != nil {
		f.client.Close()
	}
}

// part returns a context for a share of the whole time, from now on.
func (f *facts) part(ctx context.Context, share float64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(share*float64(f.Timeout)))
}

// slowestPace is the longest wait between two calls to AtHoc: the few calls of a check must come to an end.
const slowestPace = 500 * time.Millisecond

// errPaused means that an operator's pause lasts, which holds back the check as well.
var errPaused = errors.New("AtHoc is not called: an operator has paused it")

// pace waits until AtHoc may be called again, with an update or a read, within the rate that is set for the services. It fails with
// errPaused during a pause.
func (f *facts) pace(ctx context.Context, updates bool) error {
	if f.paused.Stops(updates, f.Now()) {
		return errPaused
	}

	spacing := slowestPace
	if f.Calls.RateLimit > 0 {
		spacing = min(spacing, time.Duration(float64(time.Second)/f.Calls.RateLimit))
	}

	f.pacing.Lock()

	at := f.next
	if now := time.Now(); at.Before(now) {
		at = now
	}

	f.next = at.Add(spacing)
	f.pacing.Unlock()

	return pause.For(ctx, time.Until(at))
}

// quiet discards the logs of what is used here: the results say what there is to say.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func getenv(name string) string { return os.Getenv(name) }

// pages reads the broker's monitoring pages.
var pages = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
