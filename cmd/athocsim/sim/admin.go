package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// maxAdminBody allows for a few hundred thousand users in one request.
const maxAdminBody = 256 << 20

// route is one admin page. GET /sim/ shows the same list, so the two cannot differ.
type route struct {
	Method string `json:"method"`
	Path   string `json:"path"`
	What   string `json:"what"`
	serve  func(r *http.Request) (any, error)
}

// adminError is an error with the HTTP status to answer it with.
type adminError struct {
	status int
	err    error
}

func (e adminError) Error() string { return e.err.Error() }
func (e adminError) Unwrap() error { return e.err }

func (s *Simulator) routes() []route {
	return []route{
		{"GET", "/sim/users", "users by USER_ID; ?offset= rows, ?limit= (default 1000, 0 = all)", s.adminUsers},
		{"POST", "/sim/users", "create or change users: [{\"login_id\":..., \"attributes\":{...}}]", s.adminPutUsers},
		{"DELETE", "/sim/users", "remove users: [\"login\", ...]", s.adminRemoveUsers},
		{"GET", "/sim/users/{login}", "one user with the history of changes", s.adminUser},
		{"PUT", "/sim/users/{login}", "create or change one user: {\"attribute\":\"value\", ...}", s.adminPutUser},
		{"DELETE", "/sim/users/{login}", "remove one user", s.adminRemoveUser},
		{"GET", "/sim/attributes", "the organization's attributes", func(*http.Request) (any, error) { return s.Attributes(), nil }},
		{"POST", "/sim/attributes", "define attributes: [{\"name\":..., \"type\":\"string\" or \"date\"}]", s.adminDefine},
		{"GET", "/sim/state", "value by username, for users with a value; ?attribute= (default: duty)", s.adminState},
		{"DELETE", "/sim/state", "empty an attribute; ?attribute= (default: duty), ?user= (default: all, may be repeated)", s.adminClear},
		{"GET", "/sim/faults", "faults that are on", func(*http.Request) (any, error) { return s.Faults(), nil }},
		{"POST", "/sim/faults", "switch a fault on", s.adminAddFault},
		{"DELETE", "/sim/faults", "switch all faults off", s.adminClearFaults},
		{"DELETE", "/sim/faults/{id}", "switch one fault off", s.adminClearFault},
		{"GET", "/sim/settings", "latency, throttling, token lifetime and the like", func(*http.Request) (any, error) { return s.Settings(), nil }},
		{"PATCH", "/sim/settings", "change the settings named in the body", s.adminSettings},
		{"GET", "/sim/calls", "finished calls; ?after= sequence number, ?endpoint=, ?user=, ?limit= (default 1000, 0 = all)", s.adminCalls},
		{"DELETE", "/sim/calls", "forget the calls held and the counts", s.adminForget},
		{"GET", "/sim/stats", "counts since the last reset", func(*http.Request) (any, error) { return s.Stats(), nil }},
		{"POST", "/sim/revoke", "revoke all tokens", func(*http.Request) (any, error) { return counted("revoked", s.RevokeTokens()), nil }},
		{"POST", "/sim/reset", "faults off, tokens revoked, calls forgotten, settings and users as at the start; ?only= one of faults, tokens, calls, settings, users", s.adminReset},
	}
}

func (s *Simulator) adminHandler() http.Handler {
	mux := http.NewServeMux()
	routes := s.routes()
	mux.HandleFunc("GET /sim/{$}", admin(func(*http.Request) (any, error) { return routes, nil }))

	for _, r := range routes {
		mux.HandleFunc(r.Method+" "+r.Path, admin(r.serve))
	}

	return mux
}

// admin answers in JSON, indented for people.
func admin(serve func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)

		result, err := serve(r)
		if err != nil {
			status = http.StatusBadRequest
			if coded, ok := errors.AsType[adminError](err); ok {
				status = coded.status
			}

			result = map[string]string{"error": err.Error()}
		}

		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(status)
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		_ = enc.Encode(result) // a client that has gone cannot be answered
	}
}

func counted(what string, n int) map[string]int { return map[string]int{what: n} }

func notFound(what string) error {
	return adminError{http.StatusNotFound, errors.New("there is no such " + what)}
}

// decode reads a whole JSON body. An unknown name is an error: a misspelt field of a fault must not be ignored
// silently.
func decode(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()

	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("the body cannot be read: %w", err)
	}

	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON value")
	}

	return nil
}

func number(r *http.Request, name string, unset int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return unset, nil
	}

	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%s must be a whole number of at least 0", name)
	}

	return n, nil
}

func (s *Simulator) adminUsers(r *http.Request) (any, error) {
	offset, err := number(r, "offset", 0)
	if err != nil {
		return nil, err
	}

	limit, err := number(r, "limit", 1000)
	if err != nil {
		return nil, err
	}

	users, total := s.users.users(offset, limit)

	return map[string]any{"total": total, "users": users}, nil
}

func (s *Simulator) adminUser(r *http.Request) (any, error) {
	u, changes, ok := s.users.user(r.PathValue("login"))
	if !ok {
		return nil, notFound("user")
	}

	return struct {
		User
		History []Change `json:"history"`
	}{u, changes}, nil
}

func (s *Simulator) adminPutUsers(r *http.Request) (any, error) {
	var users []User
	if err := decode(r, &users); err != nil {
		return nil, err
	}

	return counted("put", len(users)), s.PutUsers(users...)
}

func (s *Simulator) adminPutUser(r *http.Request) (any, error) {
	u := User{LoginID: r.PathValue("login")}
	if err := decode(r, &u.Attributes); err != nil {
		return nil, err
	}

	if err := s.PutUsers(u); err != nil {
		return nil, err
	}

	return s.adminUser(r)
}

func (s *Simulator) adminRemoveUsers(r *http.Request) (any, error) {
	var logins []string
	if err := decode(r, &logins); err != nil {
		return nil, err
	}

	n, err := s.RemoveUsers(logins...)

	return counted("removed", n), err
}

func (s *Simulator) adminRemoveUser(r *http.Request) (any, error) {
	n, err := s.RemoveUsers(r.PathValue("login"))
	if err == nil && n == 0 {
		err = notFound("user")
	}

	return counted("removed", n), err
}

func (s *Simulator) adminDefine(r *http.Request) (any, error) {
	var defs []Attribute
	if err := decode(r, &defs); err != nil {
		return nil, err
	}

	if err := s.DefineAttributes(defs...); err != nil {
		return nil, err
	}

	return s.Attributes(), nil
}

func (s *Simulator) attributeOf(r *http.Request) string {
	if name := r.URL.Query().Get("attribute"); name != "" {
		return name
	}
	return s.opts.DutyAttribute
}

func (s *Simulator) adminState(r *http.Request) (any, error) { return s.State(s.attributeOf(r)) }

func (s *Simulator) adminClear(r *http.Request) (any, error) {
	n, err := s.ClearAttribute(s.attributeOf(r), r.URL.Query()["user"]...)
	return counted("cleared", n), err
}

func (s *Simulator) adminAddFault(r *http.Request) (any, error) {
	var f Fault
	if err := decode(r, &f); err != nil {
		return nil, err
	}

	conn, _ := r.Context().Value(connKey{}).(net.Conn)

	return s.addFault(f, conn)
}

func (s *Simulator) adminClearFaults(*http.Request) (any, error) {
	n := len(s.Faults())
	s.ClearFaults()
	return counted("cleared", n), nil
}

func (s *Simulator) adminClearFault(r *http.Request) (any, error) {
	id, err := strconv.Atoi(r.PathValue("id"))
	if err != nil || !s.ClearFault(id) {
		return nil, notFound("fault")
	}

	return counted("cleared", 1), nil
}

func (s *Simulator) adminSettings(r *http.Request) (any, error) {
	set := s.Settings()
	if err := decode(r, &set); err != nil {
		return nil, err
	}

	if err := s.SetSettings(set); err != nil {
		return nil, err
	}

	return s.Settings(), nil
}

func (s *Simulator) adminCalls(r *http.Request) (any, error) {
	q := r.URL.Query()
	f := CallFilter{Endpoint: q.Get("endpoint"), User: q.Get("user")}
	var err error
	if f.Limit, err = number(r, "limit", 1000); err != nil {
		return nil, err
	}

	after, err := number(r, "after", 0)
	if err != nil {
		return nil, err
	}

	f.After = uint64(after)

	return s.Calls(f), nil
}

func (s *Simulator) adminForget(*http.Request) (any, error) {
	n := s.Stats().CallsHeld
	s.ResetCalls()
	return counted("forgotten", n), nil
}

func (s *Simulator) adminReset(r *http.Request) (any, error) {
	parts := []struct {
		name  string
		reset func() error
	}{
		{"faults", func() error { s.ClearFaults(); return nil }},
		{"tokens", func() error { s.RevokeTokens(); return nil }},
		{"calls", func() error { s.ResetCalls(); return nil }},
		{"settings", func() error { return s.SetSettings(s.opts.Settings) }},
		{"users", s.ResetUsers},
	}
	only := r.URL.Query().Get("only")
	done := []string{}
	for _, p := range parts {
		if only != "" && only != p.name {
			continue
		}

		if err := p.reset(); err != nil {
			return nil, fmt.Errorf("resetting %s: %w", p.name, err)
		}

		done = append(done, p.name)
	}

	if len(done) == 0 {
		return nil, fmt.Errorf("only=%s: use faults, tokens, calls, settings or users", only)
	}

	return map[string]string{"reset": strings.Join(done, ", ")}, nil
}
