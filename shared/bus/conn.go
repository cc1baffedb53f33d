// Package bus carries Watermill messages over NATS JetStream.
//
// A service calls Connect, NewPublisher, NewSubscriber with a Source, and NewRouter, and adds its handlers. Streams and
// consumers are provisioned elsewhere; this package binds to them. Delivery is at least once: a handler must be
// prepared to get a message twice.
package bus

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/pause"
)

// JetStream API levels as the server reports them, named after a feature that they bring.
const (
	LevelAtomicBatch   = 3 // nats-server 2.12: atomic batches, counters
	LevelResetConsumer = 4 // nats-server 2.14: fast batches, consumer reset
)

// ErrServerTooOld means that the broker lacks a feature; the text names the feature and what to upgrade.
var ErrServerTooOld = errors.New("broker is too old")

// State is a change of the connection.
type State struct {
	// Connected is true after the first connect and each reconnect, false after a loss.
	Connected bool
	// Err is why the connection was lost; nil if it was closed on purpose.
	Err error
}

// Config says how to reach the broker. URL or InProcess is required.
type Config struct {
	// URL is one or more comma-separated NATS addresses. Credentials in it are never logged.
	URL string
	// InProcess connects to a broker inside this process instead of URL.
	InProcess nats.InProcessConnProvider
	// Token is the token for a broker inside this process; for any other broker it is part of the URL.
	Token string
	// CredsFile is a user's credentials file (JWT and seed), or a file with a bare nkey seed. A line "# inbox: PREFIX"
	// in it gives the prefix of the subjects on which the user may receive answers, for a broker that does not allow
	// the usual ones.
	CredsFile string
	// CAFile holds the PEM certificates that the broker's certificate is checked against; default the system's.
	CAFile string
	// Name shows up in the broker's connection list.
	Name string
	// Logger, default slog.Default.
	Logger *slog.Logger
	// OnState is called at each change, in order, from the connection's own goroutine: it must not block.
	OnState func(State)
	// ReconnectWait is the pause between two attempts, at the start and later, plus up to half of it at random; default
	// 1 s.
	ReconnectWait time.Duration
}

// Conn is a connection that reconnects for ever. Its methods may be called from several goroutines.
type Conn struct {
	// NC is the connection itself, JS its JetStream side, for callers that need more than this package offers.
	NC *nats.Conn
	JS jetstream.JetStream

	logger *slog.Logger
	closed chan struct{}
	level  atomic.Int64 // highest API level seen
	// unstored is what the broker fails to store, judging by its answers to the publishers on this connection.
	unstored unstored
	// asking holds the pending requests that a refusal of the broker ends.
	asking refusals
}

// Connect waits for the broker, however long, and returns once JetStream answers. It logs one line when it starts to
// wait, one a minute while it waits, and one when it is connected. It fails at once on what waiting cannot fix: a bad
// address, an unreadable file, refused credentials, an untrusted certificate; and when ctx ends.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}

	if cfg.ReconnectWait <= 0 {
		cfg.ReconnectWait = time.Second
	}

	c := &Conn{closed: make(chan struct{}), logger: cfg.Logger.With("component", "bus")}

	target, err := redact(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to broker: %w", err)
	}

	opts, err := c.options(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to broker %s: %w", target, err)
	}

	if err := c.await(ctx, cfg, target, opts); err != nil {
		if c.NC != nil {
			c.Close()
		}
		return nil, fmt.Errorf("connect to broker %s: %w", target, err)
	}

	c.logger.Info("connected to broker", "url", target, "server_version", c.NC.ConnectedServerVersion())
	notify(cfg, State{Connected: true})

	return c, nil
}

// redact returns the hosts of the URL without anything secret. For a bad URL it returns an error that does not quote
// it.
func redact(cfg Config) (string, error) {
	if cfg.InProcess != nil {
		return "in-process", nil
	}

	if strings.TrimSpace(cfg.URL) == "" {
		return "", errors.New("no address given: set the broker's URL, for example nats://localhost:4222")
	}

	var hosts []string
	for i, part := range strings.Split(cfg.URL, ",") {
		part = strings.TrimSpace(part)
		if !strings.Contains(part, "://") {
			part = "nats://" + part
		}

		u, err := url.Parse(part)
		if err != nil || u.Host == "" {
			return "", fmt.Errorf("address %d of the broker's URL is not valid: expected nats://host:port", i+1)
		}

		u.User = nil
		hosts = append(hosts, u.String())
	}

	return strings.Join(hosts, ","), nil
}

func (c *Conn) options(cfg Config) ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.Timeout(5 * time.Second),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(cfg.ReconnectWait),
		nats.ReconnectJitter(cfg.ReconnectWait/2, cfg.ReconnectWait/2),
		// Refused credentials may be fixed on the server; giving up for ever may not.
		nats.IgnoreAuthErrorAbort(),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			if nc.IsClosed() || nc.IsDraining() {
				return
			}

			c.logger.Warn("connection to broker lost, reconnecting", "error", err)
			notify(cfg, State{Err: err})
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.logger.Info("reconnected to broker")
			c.unstored.reconnected(nc.ConnectedServerId())
			notify(cfg, State{Connected: true})
		}),
		nats.ClosedHandler(func(*nats.Conn) {
			notify(cfg, State{})
			close(c.closed)
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}

			c.asking.notify(err)
			c.logger.Warn("broker reported an error", "subject", subject, "error", err)
		}),
	}
	if cfg.InProcess != nil {
		opts = append(opts, nats.InProcessServer(cfg.InProcess))
	}

	if cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(cfg.CAFile))
	}

	if cfg.Token != "" {
		opts = append(opts, nats.Token(cfg.Token))
	}

	if cfg.CredsFile == "" {
		return opts, nil
	}

	creds, err := credentials(cfg.CredsFile)

	return append(opts, creds...), err
}

// inboxLine begins the line of a credentials file that gives the prefix of the user's inbox.
const inboxLine = "# inbox:"

// credentials returns the options for a file; by its content it distinguishes a credentials file from a bare seed.
func credentials(file string) ([]nats.Option, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	defer clear(content)

	var opts []nats.Option
	for line := range bytes.Lines(content) {
		if prefix, found := bytes.CutPrefix(line, []byte(inboxLine)); found {
			opts = append(opts, nats.CustomInboxPrefix(string(bytes.TrimSpace(prefix))))
		}
	}

	if bytes.Contains(content, []byte("BEGIN NATS USER JWT")) {
		return append(opts, nats.UserCredentials(file)), nil
	}

	key, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		return nil, fmt.Errorf("%s holds neither NATS credentials nor an nkey seed", file)
	}

	return append(opts, key), nil
}

func notify(cfg Config, s State) {
	if cfg.OnState != nil {
		cfg.OnState(s)
	}
}

// await dials until the broker and its JetStream answer.
func (c *Conn) await(ctx context.Context, cfg Config, target string, opts []nats.Option) error {
	var lastLine time.Time
	for {
		err := c.dial(ctx, cfg.URL, opts)
		if err == nil {
			return nil
		}

		if hopeless(err) {
			return advise(cfg, err)
		}

		if time.Since(lastLine) >= time.Minute {
			lastLine = time.Now()

			c.logger.Warn("waiting for the broker", "url", target, "error", err)
		}

		if pause.For(ctx, cfg.ReconnectWait+rand.N(cfg.ReconnectWait/2+1)) != nil {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// dial connects if there is no connection yet, and asks JetStream for its state.
func (c *Conn) dial(ctx context.Context, url string, opts []nats.Option) error {
	if c.NC == nil {
		nc, err := nats.Connect(url, opts...)
		if err != nil {
			return err
		}

		js, err := jetstream.New(nc)
		if err != nil {
			nc.Close()
			return err
		}

		c.NC, c.JS, c.unstored.server = nc, watched{js, &c.unstored}, nc.ConnectedServerId()
	}

	if _, err := c.apiLevel(ctx); err != nil {
		return fmt.Errorf("JetStream does not answer (is it enabled for this account, and may this user ask it?): %w", err)
	}

	return nil
}

// hopeless reports whether an error does not go away by waiting.
func hopeless(err error) bool {
	var cert *tls.CertificateVerificationError
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrSecureConnWanted) || errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) || errors.As(err, &cert)
}

// advise adds to a hopeless error what an operator can do about it.
func advise(cfg Config, err error) error {
	var cert *tls.CertificateVerificationError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var advice string
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		advice = "its certificate has expired, or is not valid yet: have it renewed; if its dates look right, set this machine's clock"
	case errors.As(err, &host):
		advice = "its certificate is for other names: use one of them in NATS_URL, or give the broker a certificate with this name"
	case errors.As(err, &cert) && cfg.CAFile == "":
		advice = "its certificate is not trusted: name the certificate of the authority that has signed it in NATS_CA"
	case errors.As(err, &cert):
		advice = "its certificate is not trusted: is the file of NATS_CA that of the authority that has signed it?"
	case errors.Is(err, nats.ErrSecureConnWanted):
		advice = "it offers no TLS, which NATS_URL (tls://) or NATS_CA asks for: switch TLS on at the broker"
	case errors.Is(err, nats.ErrAuthorization) && cfg.CredsFile == "":
		advice = "it does not let this program in: name the file with this program's key in NATS_CREDS"
	case errors.Is(err, nats.ErrAuthorization):
		advice = "it does not know the key in " + cfg.CredsFile + " (NATS_CREDS): is it this broker's, and has the broker read its users' keys again since it was made?"
	default:
		return err
	}

	return fmt.Errorf("%s: %w", advice, err)
}

// apiLevel asks the server for its API level. Each answer is remembered, and the highest wins: servers are not
// downgraded while connected.
func (c *Conn) apiLevel(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()

	info, err := c.JS.AccountInfo(ctx)
	if err != nil {
		return 0, err
	}

	level := int64(info.API.Level)
	c.level.Store(max(level, c.level.Load()))

	return level, nil
}

// RequireAPILevel returns an error that wraps ErrServerTooOld unless the broker has the given JetStream API level (see
// the Level constants). Older brokers do not refuse newer settings, they drop them silently: so ask first.
func (c *Conn) RequireAPILevel(ctx context.Context, level int, feature string) error {
	if c.level.Load() >= int64(level) {
		return nil
	}

	have, err := c.apiLevel(ctx)
	if err != nil {
		return fmt.Errorf("ask the broker for its API level: %w", err)
	}

	if have < int64(level) {
		return fmt.Errorf("%w: %s needs JetStream API level %d, nats-server %s has %d: upgrade the broker to 2.12 or later",
			ErrServerTooOld, feature, level, c.NC.ConnectedServerVersion(), have)
	}

	return nil
}

// Connected reports whether the broker is connected right now.
func (c *Conn) Connected() bool { return c.NC.IsConnected() }

// Drain sends what is buffered and closes the connection. Close publishers and subscribers first. If ctx ends before
// that is done, the connection is closed hard and the context's error returned.
func (c *Conn) Drain(ctx context.Context) error {
	if err := c.NC.Drain(); err != nil && !errors.Is(err, nats.ErrConnectionClosed) {
		c.Close() // a connection that is just reconnecting cannot be drained
		return fmt.Errorf("drain broker connection: %w", err)
	}

	select {
	case <-c.closed:
		return nil
	case <-ctx.Done():
		c.Close()
		return fmt.Errorf("drain broker connection: %w", ctx.Err())
	}
}

// Close ends the connection at once and waits until that is done.
func (c *Conn) Close() {
	c.NC.Close()
	<-c.closed
}
