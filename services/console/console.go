// Package console is the service that shows the status in a browser. It asks the services what the commands ask, judges
// the answers in the same words, and stores nothing itself. Any number of instances may run.
//
// This file runs the process; internal has the rest: auth (who may see what), snapshot (the status) and web (the
// pages).
package console

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"bobosync/services/console/internal/auth"
	"bobosync/services/console/internal/snapshot"
	"bobosync/services/console/internal/web"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/program"
)

const (
	// headerTimeout is how long the head of a request may take, readTimeout the whole request, and writeTimeout the
	// answer; a page that stays open lifts readTimeout, and gives each event a deadline in place of writeTimeout.
	// idleTimeout is how long a connection may wait for the next request. closeTimeout is how long requests under way
	// may still take when the console ends.
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = time.Minute
	idleTimeout   = 2 * time.Minute
	closeTimeout  = 3 * time.Second
	// brokerTimeout is how long the console tries to reach a broker that is away before pages say so. It tries again a
	// second later.
	brokerTimeout = 2 * time.Second
	// maxHeader is the most bytes in the head of a request.
	maxHeader = 16 << 10
)

// Run serves the console until ctx ends. It needs no connection in deps: it makes its own, and goes on without one.
func Run(ctx context.Context, cfg Config, deps program.Deps) error {
	if cfg.Addr == "" {
		return errors.New("CONSOLE_ADDR: not set; it says where the console listens, such as 127.0.0.1:8470")
	}

	log := deps.Log.With("service", "console")

	state := &stateBucket{cfg: cfg}
	defer state.close()

	reads := &client.Observer{Settings: client.Settings{Broker: cfg.Broker, Data: cfg.Data}, Timeout: brokerTimeout}
	defer reads.Close()

	orders := reads
	if cfg.OperatorCreds != "" {
		orders = &client.Observer{Settings: reads.Settings, Timeout: brokerTimeout}
		orders.Broker.Creds = cfg.OperatorCreds
		defer orders.Close()
	}

	var site *web.Site

	logins, err := auth.New(ctx, cfg.Auth, auth.Options{
		Clock: deps.Clock(), Log: log, Addr: cfg.Addr, Directory: cfg.Data.Directory, State: state.open, MayWrite: state.mayWrite(),
		Notify: func(ctx context.Context, e auth.Emergency) error {
			conn, err := orders.Conn(ctx)
			if err != nil {
				return err
			}

			return client.NotifyEmergencyLogin(ctx, conn, client.Order{By: e.Who.By()}, control.EmergencyLoginRequest{Role: e.Who.Role.String(), At: e.At.UTC()})
		},
		Page: func(w http.ResponseWriter, r *http.Request, status int, title string, body template.HTML) {
			site.Page(w, r, status, title, body) // site is set before the first request
		},
	})
	if err != nil {
		return err
	}

	facts := snapshot.New(reads.Observe)

	site, err = web.New(web.Options{Auth: logins, Facts: facts, Reads: reads.Conn, Orders: orders.Conn, Version: deps.Version, Log: log})
	if err != nil {
		return fmt.Errorf("make the console's pages: %w", err)
	}

	listener, err := listen(ctx, cfg, log)
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return facts.Run(ctx) })
	group.Go(func() error { return logins.Run(ctx) })
	group.Go(func() error { return serve(ctx, listener, site.Handler(), log) })

	return group.Wait()
}

// listen opens CONSOLE_ADDR, with TLS if the console has a certificate.
func listen(ctx context.Context, cfg Config, log *slog.Logger) (net.Listener, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on CONSOLE_ADDR: %w", err)
	}

	guarded, err := cfg.Auth.Guard(listener, log)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}

	log.Info("the console listens", "address", cfg.Auth.Scheme()+"://"+listener.Addr().String()+"/")

	return guarded, nil
}

// serve answers requests until ctx ends.
func serve(ctx context.Context, listener net.Listener, pages http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler: pages, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what strangers send deserves no higher level
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()

	select {
	case err := <-ended:
		return fmt.Errorf("serve the console: %w", err)
	case <-ctx.Done():
	}

	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()

	if server.Shutdown(closing) != nil {
		_ = server.Close() // connections that are still open have had their time
	}

	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the console: %w", err)
	}

	return nil
}
