package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"bobosync/shared/athoc"
	"bobosync/shared/athocconf"
	"bobosync/shared/breaker"
	"bobosync/shared/tokens"
	"bobosync/shared/topology"
)

// errHeldBack means that AtHoc refuses the services with these very settings.
var errHeldBack = errors.New("no password is tried while the services are refused")

// errAskedOnce means that the check has already asked AtHoc for a token.
var errAskedOnce = errors.New("AtHoc is asked for one token only in a check")

// frugalTokens lets a store ask AtHoc for at most one token, and for none while AtHoc refuses the account: too many
// wrong passwords lock an account.
type frugalTokens struct {
	inner athoc.TokenStore
	// store is the same as inner if the tokens are those of the services; else nil.
	store *tokens.Store
	// held reports whether AtHoc must not be asked.
	held  bool
	asked atomic.Bool
}

// Current implements [athoc.TokenStore].
func (t *frugalTokens) Current(ctx context.Context) (athoc.Token, error) { return t.inner.Current(ctx) }

// Replace implements [athoc.TokenStore].
func (t *frugalTokens) Replace(ctx context.Context, old string, fetch func(context.Context) (athoc.Token, error)) (athoc.Token, error) {
	return t.inner.Replace(ctx, old, func(ctx context.Context) (athoc.Token, error) {
		if t.held {
			return athoc.Token{}, unasked(errHeldBack)
		}

		if t.asked.Swap(true) {
			return athoc.Token{}, unasked(errAskedOnce)
		}

		return fetch(ctx)
	})
}

// unasked turns an error into a CallError, which the client passes on unchanged.
func unasked(err error) error {
	return &athoc.CallError{Kind: athoc.Unauthorized, Op: athoc.OpToken, Detail: err.Error(), Err: err}
}

// checkToken gets an access token: that of the services if there is one, else a new one.
func checkToken(ctx context.Context, f *facts) []Result {
	shared, err := f.shareTokens(ctx)
	if err != nil {
		return bad("look at the broker", "the services' access token cannot be read: %v", err)
	}

	state := f.breakerState(ctx, shared)
	if f.paused.Stops(false, f.Now()) {
		return judgeCall(errPaused)
	}

	results := judgeBreaker(state, f.tokens.held, f.Now())
	if err := f.client.EnsureToken(ctx); err != nil {
		return append(results, f.explain(err, state)...)
	}

	if f.tokens.held {
		f.refused = &state
	}

	switch {
	case !f.tokens.asked.Load():
		return append(good("the access token of the services is in use; no new one was asked for"), results...)
	case shared:
		return append(good("AtHoc takes the account %s; the new access token is shared with the services", "of APIUSER"), results...)
	}

	return append(good("AtHoc takes the account of APIUSER (services that are running will get a new access token by themselves)"), results...)
}

// checkServices reports that AtHoc refuses the services for a reason other than the login, which the check itself may
// not run into.
func checkServices(_ context.Context, f *facts) []Result {
	if f.refused == nil {
		return nil
	}

	return bad("bobosync status says what to do; the services try again by themselves, next at "+f.refused.ProbeAt.Local().Format(time.TimeOnly),
		"AtHoc refuses the services since %s: %s", f.refused.Since.Local().Format(time.DateTime), f.refused.Cause)
}

// shareTokens uses the services' token store, if the broker is reachable and has its buckets. It reports whether it
// does.
func (f *facts) shareTokens(ctx context.Context) (bool, error) {
	if f.js == nil {
		return false, nil
	}

	for _, bucket := range []string{topology.BucketState, topology.BucketLeases} {
		ctx, cancel := f.part(ctx, askShare/2)
		_, err := f.js.KeyValue(ctx, bucket)

		cancel()

		if err != nil {
			return false, nil //nolint:nilerr // reported by the check of the buckets
		}
	}

	store, err := tokens.New(f.js, *f.AtHoc, quiet())
	if err != nil {
		return false, err
	}

	f.tokens.inner, f.tokens.store = store, store

	return true, nil
}

// breakerState reads what holds back the services' calls, without changing it. If AtHoc has refused these very
// settings, it sets tokens.held, so that no token is asked for.
func (f *facts) breakerState(ctx context.Context, shared bool) breaker.State {
	var state breaker.State
	if !shared {
		return state
	}

	ctx, cancel := f.part(ctx, askShare/2)
	defer cancel()

	kv, err := f.js.KeyValue(ctx, topology.BucketState)
	if err != nil {
		return state
	}

	f.paused, _ = breaker.LoadPause(ctx, kv) // an unreadable pause counts as none

	entry, err := kv.Get(ctx, breaker.Key)
	if err != nil || json.Unmarshal(entry.Value(), &state) != nil {
		return breaker.State{}
	}

	if state.Class == breaker.Refused {
		limits, err := athocconf.Limits(ctx, *f.AtHoc, f.Calls, f.tokens.store)
		f.tokens.held = err == nil && state.Settings == limits.Settings
	}

	return state
}

// judgeBreaker reports what the services know of AtHoc's state.
func judgeBreaker(s breaker.State, ours bool, now time.Time) []Result {
	since := "since " + s.Since.Local().Format(time.DateTime)
	switch {
	case s.Class == breaker.Refused && ours:
		return nil // the token's own result or checkServices reports it
	case s.Class == breaker.Refused:
		return named(stepServices, warn("start the services again with these settings", "AtHoc refuses the services, which have other settings, %s: %s", since, s.Cause))
	case s.Class == breaker.Outage:
		return named(stepServices, warn("they go on by themselves when AtHoc is back", "the services have found AtHoc out of order %s: %s", since, s.Cause))
	case s.Class == breaker.Throttled && now.Before(s.Next):
		return named(stepServices, warn("lower ATHOC_RATE_LIMIT if this happens often", "AtHoc has asked the services for fewer calls"))
	}

	return nil
}

// explain judges a call to AtHoc that failed.
func (f *facts) explain(err error, state breaker.State) []Result {
	if errors.Is(err, errHeldBack) {
		return bad("fix what it says; the services try again by themselves, next at "+state.ProbeAt.Local().Format(time.TimeOnly),
			"AtHoc refuses the services since %s, and no further password is tried, so that the account is not locked: %s",
			state.Since.Local().Format(time.DateTime), state.Cause)
	}

	return judgeCall(err)
}

// judgeCall says in plain words what the failure of a call means.
func judgeCall(err error) []Result {
	call, ok := errors.AsType[*athoc.CallError](err)
	switch {
	case errors.Is(err, errPaused):
		return warn("check again afterwards; bobosync status shows until when, and bobosync resume ends it now", "%v", errPaused)
	case !ok:
		return bad("", "%v", err)
	case errors.Is(err, errAskedOnce):
		return bad("check whether another program gets tokens with the same account: AtHoc has one for each organisation at a time", "AtHoc refuses the access token that it has just given")
	case errors.Is(err, context.DeadlineExceeded), call.Kind == athoc.Canceled:
		return bad("check whether AtHoc is well; give the check more time with --timeout if it is only slow", "AtHoc hangs: it takes the request and does not answer in time (%s)", call.Op)
	case call.Kind == athoc.Throttled:
		return warn("wait a minute and check again; lower ATHOC_RATE_LIMIT if this happens often", "AtHoc asks for fewer calls (status 429)")
	case call.Kind == athoc.NotFound && call.Status >= 300 && call.Status < 400:
		return bad("check ATHOC_SERVER_URL: it must be the address itself, and not one that leads there", "%s", call.Detail)
	case call.Kind == athoc.NotFound && call.Status == http.StatusProxyAuthRequired:
		return bad("put user and password into HTTPS_PROXY", "the proxy wants a login (status 407): it is the proxy that refuses, not AtHoc")
	case call.Kind == athoc.Outage && call.Status == http.StatusOK:
		return bad("check ATHOC_SERVER_URL; the login page of a proxy can answer like this too", "what answers is not AtHoc: %s", call.Detail)
	case call.Kind == athoc.Outage && call.Status != 0:
		return bad("wait until AtHoc is well again, and check again", "AtHoc is out of order: it answers with status %d%s", call.Status, said(call))
	case call.Kind == athoc.Outage:
		return bad("check the connection to AtHoc", "the call did not come through (%s): %s", call.Op, call.Detail)
	case call.Op == athoc.OpToken:
		return judgeLogin(call)
	}

	return judgeRefusal(call)
}

// judgeLogin judges a refused token request.
func judgeLogin(call *athoc.CallError) []Result {
	switch {
	case call.Kind == athoc.Forbidden:
		return bad("have the account of APIUSER unlocked, or its password renewed, in AtHoc", "AtHoc forbids the login (status 403): the account is locked, lacks the role, or its password has expired%s", said(call))
	case call.Kind == athoc.NotFound:
		return bad("check ATHOC_SERVER_URL", "there is no AtHoc at this address: it knows no token page (status %d)", call.Status)
	case strings.Contains(call.Detail, "invalid_client"):
		return bad("check CLIENT_ID and CLIENT_SECRET", "AtHoc does not know this client, or its secret is wrong (invalid_client)")
	case strings.Contains(call.Detail, "invalid_grant"):
		return bad("check PASSWORD and APIUSER, and that ORG_CODE is an organisation that the client may use; do not try many times, since that locks the account",
			"AtHoc refuses the login (invalid_grant): the password or the account is wrong, or the organisation")
	case strings.Contains(call.Detail, "invalid_scope"):
		return bad("leave SCOPE unset", "AtHoc does not know what SCOPE asks for (invalid_scope)")
	}

	return bad("check CLIENT_ID, CLIENT_SECRET, APIUSER, PASSWORD and ORG_CODE", "AtHoc refuses the login with status %d%s", call.Status, said(call))
}

// judgeRefusal judges a refused search or update.
func judgeRefusal(call *athoc.CallError) []Result {
	switch call.Kind {
	case athoc.Unauthorized:
		return bad("check that APIUSER may use the API of ORG_CODE", "AtHoc refuses the access token that it has given (status 401)")
	case athoc.Forbidden:
		return bad("give the account of APIUSER the role for it in AtHoc, and see whether its password has expired", "the account may not do this (%s, status 403)%s", call.Op, said(call))
	case athoc.NotFound:
		return bad("check ORG_CODE", "AtHoc knows no such organisation (status %d)", call.Status)
	}

	return bad("", "AtHoc does not take the request (%s, status %d)%s", call.Op, call.Status, said(call))
}

// said returns what the server wrote, as the client quotes it: without secrets and names.
func said(call *athoc.CallError) string {
	if _, quote, ok := strings.Cut(call.Detail, "the server said: "); ok {
		return fmt.Sprintf("; it says: %s", quote)
	}
	return ""
}
