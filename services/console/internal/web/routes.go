// Package web holds the console's pages. A function makes each page from the known facts; one table gives each its
// address and the role that it needs.
package web

import (
	"net/http"
	"strings"

	"bobosync/services/console/internal/auth"
)

// Route is an address of the console: which requests it takes, and the least role that may send them. There are no
// other addresses except those for logging in and out.
type Route struct {
	// Pattern is a pattern of [http.ServeMux], with its method.
	Pattern string
	Least   auth.Role
	handle  http.HandlerFunc
}

// view makes a page. The path below its address is in the request.
type view struct {
	path   string
	least  auth.Role
	render func(*Request) (*Page, error)
	// list says that the page's table is also available as CSV and JSON; below says that there is a page for each path
	// below this one.
	list, below bool
	// live says that the page may keep itself up to date. A page that is recorded for each user who looks at it may
	// not.
	live bool
}

// views lists the pages, in the order of their paths, then the forms of orders.
var views = append([]view{
	{path: "/", least: auth.Viewer, render: nowPage, live: true},
	{path: "/wall", least: auth.Wall, render: wallPage, live: true},
	{path: "/files", least: auth.Viewer, render: filesPage, list: true, live: true},
	{path: "/files/", least: auth.Viewer, render: filePage, list: true, below: true, live: true},
	{path: "/receipt/", least: auth.Operator, render: receiptPage, list: true, below: true},
	{path: "/decisions", least: auth.Viewer, render: decisionsPage, list: true, live: true},
	{path: "/decisions/", least: auth.Operator, render: decisionPage, list: true, below: true},
	{path: "/worker", least: auth.Operator, render: workerPage},
	{path: "/onduty", least: auth.Operator, render: onDutyPage, list: true},
	{path: "/dead", least: auth.Viewer, render: deadPage, list: true},
	{path: "/replay", least: auth.Viewer, render: replaysPage, list: true, live: true},
	{path: "/reconcile", least: auth.Viewer, render: reconcilePage, list: true},
	{path: "/feeds", least: auth.Viewer, render: feedsPage, list: true},
	{path: "/mapping", least: auth.Viewer, render: mappingPage},
	{path: "/journal", least: auth.Viewer, render: journalPage, list: true},
	{path: "/report", least: auth.Viewer, render: reportPage},
	{path: "/audit", least: auth.Operator, render: auditPage, list: true},
	{path: "/system", least: auth.Viewer, render: systemPage, list: true},
	{path: "/help", least: auth.Nobody, render: helpPage},
	{path: "/help/", least: auth.Nobody, render: helpPage, below: true},
	{path: pathGiven, least: auth.Operator, render: givenPage, below: true, live: true},
}, forms()...)

// forms returns the views of all orders.
func forms() (all []view) {
	for _, o := range orders {
		all = append(all, o.view())
	}
	return all
}

// Routes lists all addresses.
func (s *Site) Routes() []Route {
	routes := []Route{
		{"GET /assets/{name}", auth.Nobody, s.assets.serve},
		{"POST /look", auth.Nobody, setPreferences},
		{"GET /live", auth.Wall, s.live},
	}
	for _, o := range orders {
		routes = append(routes, Route{"POST " + pathOrders + o.name, o.least, s.give(o)})
	}

	for _, v := range views {
		switch {
		case v.below:
			routes = append(routes, Route{"GET " + v.path + "{id}", v.least, s.show(v)})
		case v.path == "/":
			routes = append(routes, Route{"GET /{$}", v.least, s.show(v)})
		default:
			routes = append(routes, Route{"GET " + v.path, v.least, s.show(v)})
		}

		if v.list && !v.below {
			routes = append(routes, Route{"GET " + v.path + ".csv", v.least, s.show(v)}, Route{"GET " + v.path + ".json", v.least, s.show(v)})
		}
	}

	return routes
}

// findView returns the view of a path, with the part of the path below the view's address.
func findView(path string) (v view, id string, found bool) {
	for _, v := range views {
		if v.path == path {
			return v, "", true
		}

		if id, below := strings.CutPrefix(path, v.path); v.below && below && id != "" && !strings.Contains(id, "/") {
			return v, id, true
		}
	}

	return view{}, "", false
}

// Handler serves all addresses, each to those who may use it.
func (s *Site) Handler() http.Handler {
	mux := s.mux()
	s.auth.Routes(mux)
	mux.HandleFunc("GET /", s.nothing)
	return s.auth.Protect(mux)
}

// mux routes each address to its handler, for senders who may.
func (s *Site) mux() *http.ServeMux {
	mux := http.NewServeMux()
	for _, route := range s.Routes() {
		mux.HandleFunc(route.Pattern, func(w http.ResponseWriter, r *http.Request) {
			if s.who(r.Context()).Role < route.Least {
				s.refuse(w, r)
				return
			}

			route.handle(w, r)
		})
	}

	return mux
}

// nothing answers requests to addresses that do not exist.
func (s *Site) nothing(w http.ResponseWriter, r *http.Request) {
	q := s.request(r, r.URL, "")
	s.write(w, r, q, http.StatusNotFound, &Page{Title: "Not found", Intro: "There is no such page."})
}
