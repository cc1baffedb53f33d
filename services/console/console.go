// Package console is the service that shows people how it goes, in a browser. It asks the services what commands ask, judges it with
// the same words, and keeps nothing itself; any number of it may run.
//
// This file holds the life of the process; internal has the rest: auth (who may see what) and web (the pages).
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
	collect "bobosync/services/console/internal/look"
	"bobosync/services/console/internal/web"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/program"
)

const (
	// headerWait is how long the head of a request may take, readWait all of it, and writeWait the answer; a page that stays open lifts the
	// last. idleWait is how long a connection may wait for the next request, and closeWait how long what is being answered gets at the end.
	headerWait = 5 * time.Second
	readWait   = 15 * time.Second
	writeWait  = time.Minute
	idleWait   = 2 * time.Minute
	closeWait  = 3 * time.Second
	// brokerWait is how long a broker that is away is tried before pages say that it is. It is tried again a second later.
	brokerWait = 2 * time.Second
	// mostHeader is the most bytes of a request's head.
	mostHeader = 16 << 10
)

// Run serves the console until ctx ends. It needs no connection in deps: it makes its own, and goes on without.
func Run(ctx context.Context, cfg Config, deps program.Deps) error {
	if cfg.Addr == "" {
		return errors.New("CONSOLE_ADDR: not set; it says where the console listens, such as 127.0.0.1:8470")
	}
	log := deps.Log.With("service", "console")
	state := &stateBucket{cfg: cfg}
	defer state.close()
	look := &client.Observer{Settings: client.Settings{Broker: cfg.Broker, Data: cfg.Data}, Patience: brokerWait}
	defer look.Close()
	order := look
	if cfg.OperatorCreds != "" {
		order = &client.Observer{Settings: look.Settings, Patience: brokerWait}
		order.Broker.Creds = cfg.OperatorCreds
		defer order.Close()
	}
	var site *web.Site
	logins, err := auth.New(ctx, cfg.Auth, auth.Options{
		Clock: deps.Clock(), Log: log, Addr: cfg.Addr, Directory: cfg.Data.Directory, State: state.open, MayWrite: state.mayWrite(),
		Tell: func(ctx context.Context, e auth.Emergency) error {
			conn, err := order.Conn(ctx)
			if err != nil {
				return err
			}
			return client.TellEmergencyLogin(ctx, conn, client.Order{By: e.Who.By()}, control.EmergencyLoginRequest{Role: e.Who.Role.String(), At: e.At.UTC()})
		},
		Page: func(w http.ResponseWriter, r *http.Request, status int, title string, body template.HTML) {
			site.Page(w, r, status, title, body) // whoever asks, it is there by then
		},
	})
	if err != nil {
		return err
	}
	facts := collect.New(look.Observe)
	site, err = web.New(web.Options{Auth: logins, Facts: facts, Look: look.Conn, Order: order.Conn, Version: deps.Version, Log: log})
	if err != nil {
		return fmt.Errorf("make the console's pages: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", cfg.Addr)
	if err != nil {
		return fmt.Errorf("listen on CONSOLE_ADDR: %w", err)
	}
	guarded, err := cfg.Auth.Guard(listener, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	log.Info("the console listens", "address", cfg.Auth.Scheme()+"://"+listener.Addr().String()+"/")
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return facts.Run(ctx) })
	group.Go(func() error { return logins.Run(ctx) })
	group.Go(func() error { return serve(ctx, guarded, site.Handler(), log) })
	return group.Wait()
}

// serve answers requests until ctx ends.
func serve(ctx context.Context, listener net.Listener, pages http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler: pages, ReadHeaderTimeout: headerWait, ReadTimeout: readWait, WriteTimeout: writeWait, IdleTimeout: idleWait, MaxHeaderBytes: mostHeader,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(log.Handler(), slog.LevelDebug), // what strangers send is no news
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the console: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWait)
	defer cancel()
	if server.Shutdown(closing) != nil {
		_ = server.Close() // what still listens has had its time
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the console: %w", err)
	}
	return nil
}
