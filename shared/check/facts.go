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

// facts is what steps have found for later steps. A step writes only its own fields. It reads only those of steps that
// it needs or comes after, which have finished by then.
type facts struct {
	Options

	// inside reports whether the broker is the one inside an all-in-one program.
	inside bool
	broker target
	nc     *nats.Conn
	js     jetstream.JetStream
	denied denials
	// permitted is what the broker permits, if it has reported that.
	permitted permitted
	streams   map[string]*jetstream.StreamInfo
	missing   map[string]bool // streams

	client *athoc.Client
	tokens *frugalTokens
	total  int // users in the organisation
	// refused is why AtHoc refuses the services although the token is valid; nil if it does not refuse them.
	refused *breaker.State
	// paused is an operator's pause of the services; nil if there is none or it is not known.
	paused *breaker.Pause

	pacing sync.Mutex
	next   time.Time // earliest moment of the next call to AtHoc
}

// close closes the connections, unless a step was left behind that may be using them: the process ends then anyway.
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

// part returns a context that ends after a share of the total time, counted from now.
func (f *facts) part(ctx context.Context, share float64) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, time.Duration(share*float64(f.Timeout)))
}

// slowestPace is the longest wait between two calls to AtHoc, so that the few calls of a check come to an end.
const slowestPace = 500 * time.Millisecond

// errPaused means that an operator's pause is in effect, which also stops the check.
var errPaused = errors.New("AtHoc is not called: an operator has paused it")

// pace waits until AtHoc may be called again within the rate that is set for the services; updates says whether the
// call is an update rather than a read. It fails with errPaused during a pause.
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

// quiet returns a logger that discards everything: the results say all there is to say.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func getenv(name string) string { return os.Getenv(name) }

// pages reads the broker's monitoring pages. It does not follow redirects.
var pages = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
