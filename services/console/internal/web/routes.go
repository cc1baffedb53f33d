// Package web holds the console's pages.
package web

import (
	"net/http"

	"bobosync/services/console/internal/auth"
)

// Route is an address of the console: which requests it takes, and the least role that may send them. There is no other address but
// those of logging in.
type Route struct {
	// Pattern is as [http.ServeMux] takes it, with its method.
	Pattern string
	Least   auth.Role
	handle  http.HandlerFunc
}

// Routes lists all addresses.
func (s *Site) Routes() []Route {
	return []Route{
		{"GET /help/{page}", auth.Nobody, s.help},
	}
}

// Handler serves all addresses, each to those who may.
func (s *Site) Handler() http.Handler {
	mux := http.NewServeMux()
	for _, route := range s.Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if auth.From(r.Context()).Role < route.Least {
				s.Auth.Refuse(w, r)
				return
			}
			route.handle(w, r)
		})
	}
	s.Auth.Routes(mux)
	return s.Auth.Protect(mux)
}
