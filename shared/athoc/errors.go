package athoc

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Kind says what a failed call means, and so what its caller may do.
type Kind int

// The kinds of failure. The zero Kind is none of them.
const (
	// BadRequest (400): AtHoc does not accept the body or the parameters. The same request would always fail; an update
	// is halved until the offending user is found. (A body that is too large can get a 400 as well.)
	BadRequest Kind = iota + 1
	// Unauthorized: the credentials were refused, or a new token got a 401 too. Stop, and raise an alarm.
	Unauthorized
	// Forbidden (403): the operator lacks the role, or its password has expired. Stop, and raise an alarm; nothing is
	// lost.
	Forbidden
	// NotFound (404, also 405, 407, 410 and redirects): the address, the organisation or the proxy is configured
	// wrongly. Stop, and raise an alarm; nothing is lost.
	NotFound
	// TooLarge (413): too many users in one call; none of it was applied. Continue with smaller calls.
	TooLarge
	// Throttled (429): every replica has to slow down, for [CallError.RetryAfter] if that is set.
	Throttled
	// Outage: a 5xx, a connection that failed, a timeout, an answer that cannot be understood, or one that the API does
	// not document. Back off and keep everything: it passes by itself.
	Outage
	// Canceled: the caller's context was cancelled, or its [Guard] refused. It says nothing about AtHoc.
	Canceled
)

// String returns a fixed snake_case word, fit for a log or a metric label.
func (k Kind) String() string {
	names := [...]string{
		BadRequest: "bad_request", Unauthorized: "unauthorized", Forbidden: "forbidden", NotFound: "not_found",
		TooLarge: "too_large", Throttled: "throttled", Outage: "outage", Canceled: "canceled",
	}
	if k < BadRequest || int(k) >= len(names) {
		return "kind_" + strconv.Itoa(int(k))
	}

	return names[k]
}

// Op names of a [CallError].
const (
	OpToken  = "get access token"
	OpUpdate = "update users"
	OpSearch = "search users"
)

// MaxRetryAfter is the longest wait that [CallError.RetryAfter] passes on, whatever the server asks for: a wrong date
// in a header must not stop the service for days.
const MaxRetryAfter = 15 * time.Minute

// CallError is the failure of a whole call. Every error of a [Client]'s methods is one (use [errors.As]).
type CallError struct {
	// Kind is what the failure means.
	Kind Kind
	// Op is what was being done: one of [OpToken], [OpUpdate] and [OpSearch]. An update that found no token fails as
	// OpToken.
	Op string
	// Status is the HTTP status, or 0 if there was no answer.
	Status int
	// RetryAfter is how long the server asks to wait, at most [MaxRetryAfter]; 0 means that it did not say.
	RetryAfter time.Duration
	// Detail says what happened and what to look at. It is shortened and holds neither secrets nor usernames.
	Detail string
	// Err is the cause, if there is one. It prints without its request's address.
	Err error

	mayHaveApplied, begun bool
}

// Error names the operation, the kind, the status and the detail.
func (e *CallError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "athoc: %s: %s", e.Op, e.Kind)

	if e.Status != 0 {
		b.WriteString(strings.TrimRight(fmt.Sprintf(" (%d %s", e.Status, http.StatusText(e.Status)), " ") + ")")
	}

	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}

	return b.String()
}

// Unwrap returns the cause, so that errors.Is finds context.DeadlineExceeded and the like.
func (e *CallError) Unwrap() error { return e.Err }

// MayHaveApplied reports whether AtHoc may have carried out, or may still be carrying out, the update that failed: the
// whole request was handed to the network, and no answer says that it was refused. When in doubt it is true. It is
// always false for searches and for tokens.
func (e *CallError) MayHaveApplied() bool { return e.mayHaveApplied }

// Begun reports whether any part of the request's body was handed to the network, or an answer arrived. If neither is
// so, the connection or the caller is to blame, and never the content of the request. It is meant for requests with a
// body.
func (e *CallError) Begun() bool { return e.begun || e.Status != 0 }

// kindOf classifies an HTTP status other than success. A status that the API does not document is an Outage: nothing is
// lost, and no user is blamed for it.
func kindOf(status int) Kind {
	switch {
	case status == http.StatusBadRequest:
		return BadRequest
	case status == http.StatusUnauthorized:
		return Unauthorized
	case status == http.StatusForbidden:
		return Forbidden
	case status == http.StatusNotFound, status == http.StatusMethodNotAllowed, status == http.StatusGone,
		status == http.StatusProxyAuthRequired, status >= 300 && status < 400:
		return NotFound
	case status == http.StatusRequestEntityTooLarge:
		return TooLarge
	case status == http.StatusTooManyRequests:
		return Throttled
	}

	return Outage
}

// kindOfError returns the kind of a call's error, or 0 if there is none. An error that is not a CallError is an Outage.
func kindOfError(err error) Kind {
	if err == nil {
		return 0
	}

	if call, ok := errors.AsType[*CallError](err); ok {
		return call.Kind
	}

	return Outage
}

// advice returns what an operator should check; "" if there is nothing to suggest.
func advice(op string, kind Kind, status int) string {
	switch kind {
	case Unauthorized:
		if op == OpToken {
			return "AtHoc refused the credentials: check CLIENT_ID, CLIENT_SECRET, APIUSER, PASSWORD and ORG_CODE"
		}

		return "AtHoc refused a new access token too: check that APIUSER may use the API of ORG_CODE, " +
			"and that nothing else gets tokens with the same account"
	case Forbidden:
		return "the operator APIUSER lacks the role for this, or its password has expired: check both in AtHoc"
	case NotFound:
		if status == http.StatusProxyAuthRequired {
			return "the proxy wants a login: check HTTP_PROXY and HTTPS_PROXY"
		}
		return "check ATHOC_SERVER_URL and ORG_CODE"
	}

	return ""
}

// parseRetryAfter reads a Retry-After header (seconds or an HTTP date) and caps it at MaxRetryAfter. A value that
// cannot be understood, or a date in the past, yields 0.
func parseRetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}

	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(MaxRetryAfter/time.Second) {
			return MaxRetryAfter
		}

		return time.Duration(seconds) * time.Second
	}

	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}

	return min(max(at.Sub(now), 0), MaxRetryAfter)
}
