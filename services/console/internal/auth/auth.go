// Package auth says who looks at the console, and what he may see.
package auth

import (
	"context"
	"errors"
	"net"
	"net/http"
)

// Role is what somebody may do; each one may do what those before it may.
type Role int

// The roles.
const (
	// Nobody has not logged in.
	Nobody Role = iota
	// Wall sees the verdict and figures, on a screen that all can see.
	Wall
	// Viewer sees everything but persons and what stands in files.
	Viewer
	// Operator sees persons and gives orders.
	Operator
	// Approver decides what is held.
	Approver
)

// Identity is who sends a request.
type Identity struct {
	Name string
	Role Role
	// How says how he logged in, Address where he is.
	How     string
	Address string
}

type key struct{}

// From returns who sends a request; it is nobody if the request did not come by Protect.
func From(ctx context.Context) Identity {
	id, _ := ctx.Value(key{}).(Identity)
	return id
}

// Config are the settings of logging in.
type Config struct{}

// Validate reports what is wrong with the settings, for a console that listens on addr.
func (Config) Validate(addr string) error {
	host, _, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("CONSOLE_ADDR: must be an address of this machine alone, such as 127.0.0.1:8470")
	}
	return nil
}

// Auth lets people in.
type Auth struct{}

// New makes one.
func New(context.Context, Config) (*Auth, error) { return &Auth{}, nil }

// Routes adds the pages of logging in and out.
func (*Auth) Routes(*http.ServeMux) {}

// Protect finds out who sends each request, before next gets it.
func (*Auth) Protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := Identity{Address: r.RemoteAddr}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, who)))
	})
}

// Refuse answers a request that needs more than its sender may.
func (*Auth) Refuse(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "You may not see this page.", http.StatusForbidden)
}
