package breaker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bobosync/shared/athoc"
)

// settleTime is how long storing the outcome of a call may take after its caller was stopped.
const settleTime = 5 * time.Second

// Classify returns what the error of a call by an [athoc.Client] means to the circuit breaker, the cause to report to
// the operator, and how long AtHoc asks to wait (0 if it does not say).
//
// A request that AtHoc refused for its content (400, 413) is no trouble: AtHoc was there and answered. A cancelled call
// is no trouble either, but it proves nothing, so it must not be reported: see [Breaker.Settle].
func Classify(err error) (class FailureClass, cause string, retryAfter time.Duration) {
	if err == nil {
		return None, "", 0
	}

	call, ok := errors.AsType[*athoc.CallError](err)
	if !ok {
		return Outage, fmt.Sprintf("a call failed in an unknown way (%T)", err), 0 // its text may name a person
	}

	switch call.Kind {
	case athoc.Throttled:
		return Throttled, call.Error(), call.RetryAfter
	case athoc.Unauthorized, athoc.Forbidden, athoc.NotFound:
		return Refused, call.Error(), call.RetryAfter
	case athoc.BadRequest, athoc.TooLarge, athoc.Canceled:
		return None, "", 0
	default:
		return Outage, call.Error(), call.RetryAfter
	}
}

// Settle ends what [Breaker.Wait] began: it reports the outcome of the call by its error, or releases the permit if the
// call was cancelled. It does so even if ctx has ended, since a probe without an outcome holds up all replicas.
func (b *Breaker) Settle(ctx context.Context, p Permit, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()

	if call, ok := errors.AsType[*athoc.CallError](err); ok && call.Kind == athoc.Canceled {
		return b.Release(ctx, p)
	}

	class, cause, retryAfter := Classify(err)

	return b.Report(ctx, p, class, cause, retryAfter)
}
