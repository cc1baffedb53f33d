package web

import (
	"net/http"

	"bobosync/docs"
	"bobosync/services/console/internal/auth"
)

// Site is what the pages are made of.
type Site struct {
	Auth *auth.Auth
}

// help shows a page of the documentation.
func (s *Site) help(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	http.ServeFileFS(w, r, docs.Pages, r.PathValue("page")+".md")
}
