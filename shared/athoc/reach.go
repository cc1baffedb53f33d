package athoc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// OpReach is the Op of a [CallError] of [Client.Reach].
const OpReach = "reach"

// Reached describes what answered at AtHoc's address.
type Reached struct {
	// Status is the HTTP status, which says nothing: AtHoc promises no page at its base address.
	Status int
	// TLS is the TLS state of the connection; nil for a connection without TLS.
	TLS *tls.ConnectionState
	// Date is the server's clock, in whole seconds; zero if the answer does not say.
	Date time.Time
}

// Reach requests the headers of AtHoc's base address, without credentials, through the same proxy and with the same
// trust as the other calls. It is for finding out where a connection fails: give ctx an
// [net/http/httptrace.ClientTrace] to see how far it got. Its error is a [*CallError] that wraps the cause.
func (c *Client) Reach(ctx context.Context) (Reached, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()

	req, err := http.NewRequestWithContext(ctx, http.MethodHead, c.cfg.ServerURL+"/", nil)
	if err != nil {
		return Reached{}, &CallError{Kind: NotFound, Op: OpReach, Detail: "ATHOC_SERVER_URL is no address", Err: err}
	}

	req.Header.Set("User-Agent", c.cfg.UserAgent)

	resp, err := c.exchanger.http.Do(req)
	if err != nil {
		return Reached{}, c.exchanger.failed(ctx, exchange{op: OpReach}, &sending{ctx: ctx}, err)
	}

	resp.Body.Close()

	reached := Reached{Status: resp.StatusCode, TLS: resp.TLS}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		reached.Date = date
	}

	return reached, nil
}

// ProxyHost returns host and port of the proxy that calls go through, without its password; "" if they use none.
func (c *Client) ProxyHost() (string, error) {
	choose, err := newProxy(c.cfg)
	if err != nil {
		return "", err
	}

	req, err := http.NewRequest(http.MethodHead, c.cfg.ServerURL, nil) //nolint:noctx // it is not sent
	if err != nil {
		return "", fmt.Errorf("choosing a proxy: %w", err)
	}

	proxy, err := choose(req)
	if err != nil || proxy == nil {
		return "", err
	}

	return proxy.Host, nil
}

// ProxyRefusal reports whether an error means that a proxy refused to open a tunnel, and with which HTTP status.
func ProxyRefusal(err error) (status int, ok bool) {
	if refusal, is := errors.AsType[*proxyRefusal](err); is {
		return refusal.status, true
	}
	return 0, false
}

// Ping searches for one user: the smallest call that shows whether AtHoc answers. Its error is a [*CallError].
func (c *Client) Ping(ctx context.Context) error {
	for _, err := range c.SearchUsers(ctx, Query{PageSize: 1}) {
		return err
	}
	return nil
}
