package athoc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"
)

// Client talks to one organisation of one AtHoc server. It is safe for concurrent use, and all its callers share one
// access token.
type Client struct {
	cfg       Config
	log       *slog.Logger
	exchanger *exchanger
	tokens    *tokens

	tokenURL, updateURL, searchURL string
}

// New validates the whole configuration and returns a client. It does not connect.
func New(cfg Config) (*Client, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configuring the AtHoc client: %w", err)
	}

	httpClient, err := newHTTPClient(cfg)
	if err != nil {
		return nil, fmt.Errorf("configuring the AtHoc client: %w", err)
	}

	c := &Client{cfg: cfg, log: cfg.Logger.With("component", "athoc"), tokenURL: cfg.ServerURL + "/AuthServices/Auth/connect/token"}
	secrets := append(proxyPasswords(cfg), cfg.ClientSecret, cfg.Password)
	c.exchanger = &exchanger{cfg: cfg, log: c.log, http: httpClient, scrub: newScrubber(secrets...)}
	users := cfg.ServerURL + "/api/v2/orgs/" + url.PathEscape(cfg.OrgCode) + "/users"
	c.searchURL = users + "/search/basic"
	c.updateURL = users + "/SyncByCommonNames" + updateQuery(cfg.SourceIdentifier)
	c.tokens = &tokens{store: cfg.Tokens, fetch: c.fetchToken, now: cfg.Now}
	warnOfUnsafe(cfg, c.log)

	return c, nil
}

// warnOfUnsafe logs a warning for each setting that is allowed but unsafe.
func warnOfUnsafe(cfg Config, log *slog.Logger) {
	if cfg.InsecureSkipVerify {
		log.Warn("the certificate of AtHoc is not verified: unset DISABLE_SSL_VERIFY, and name the CA in SSL_CERT_PATH")
	}

	if strings.HasPrefix(cfg.ServerURL, "http://") {
		log.Warn("AtHoc is called without TLS, passwords travel in the clear: give ATHOC_SERVER_URL an https address")
	}
}

// String describes the client without its secrets.
func (c *Client) String() string { return "athoc.Client" + c.cfg.String() }

// GoString keeps secrets out of %#v.
func (c *Client) GoString() string { return c.String() }

// LogValue keeps secrets out of logs.
func (c *Client) LogValue() slog.Value { return c.cfg.LogValue() }

// Location returns the zone of AtHoc's wall clock.
func (c *Client) Location() *time.Location { return c.cfg.Location }

// Close releases idle connections. Calls under way are not disturbed, and the client stays usable.
func (c *Client) Close() { c.exchanger.http.CloseIdleConnections() }

// EnsureToken gets an access token unless there is a usable one already, so that the next call does not spend its
// deadline, or the lease of its caller, on that. Its error is a [*CallError].
func (c *Client) EnsureToken(ctx context.Context) error {
	_, err := c.tokens.get(ctx)
	return err
}

// authorized carries out the exchange with the current token. If AtHoc refuses that token, authorized gets another one
// and repeats the exchange.
func (c *Client) authorized(ctx context.Context, x exchange) error {
	token, err := c.tokens.get(ctx)
	if err != nil {
		return err
	}

	x.token = token

	err = c.exchanger.do(ctx, x)
	if call, ok := errors.AsType[*CallError](err); !ok || call.Kind != Unauthorized {
		return err
	}

	// The store may return a token that another replica got, and that one may have been revoked too. So a refusal is
	// final only once this process has asked AtHoc for a token.
	for asked := c.tokens.fetches.Load(); ; {
		c.log.DebugContext(ctx, "athoc refused the access token", "token_fingerprint", x.token.Fingerprint(), "operation", x.op)

		old := x.token.Fingerprint()
		if x.token, err = c.tokens.renew(ctx, old); err != nil {
			return err
		}

		if x.repeat != nil {
			if err := x.repeat(ctx); err != nil {
				return &CallError{Kind: Canceled, Op: x.op, Detail: "the call was not repeated with a new access token", Err: err}
			}
		}

		err = c.exchanger.do(ctx, x)
		call, ok := errors.AsType[*CallError](err)
		if !ok || call.Kind != Unauthorized || c.tokens.fetches.Load() != asked || x.token.Fingerprint() == old {
			return err
		}
	}
}
