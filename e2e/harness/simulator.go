//go:build unix

package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"bobosync/cmd/athocsim/sim"
)

// Simulator is a client of the simulator's admin pages. It is safe for concurrent use.
type Simulator struct {
	base   string
	client *http.Client
}

func newSimulator(address string) *Simulator {
	return &Simulator{base: "http://" + address, client: &http.Client{Timeout: 10 * time.Second}}
}

// do sends a request with a JSON body (nil for none) and decodes the JSON response into answer (nil to ignore it).
func (s *Simulator) do(ctx context.Context, method, path string, body, answer any) error {
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return err
		}

		in = bytes.NewReader(data)
	}

	req, err := http.NewRequestWithContext(ctx, method, s.base+path, in)
	if err != nil {
		return err
	}

	resp, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the simulator: %w", err)
	}
	defer resp.Body.Close()

	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("ask the simulator: %w", err)
	}

	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: the simulator says %s: %s", method, path, resp.Status, data)
	}

	if answer == nil {
		return nil
	}

	return json.Unmarshal(data, answer)
}

// Fault switches a fault on and returns its ID.
func (s *Simulator) Fault(ctx context.Context, f sim.Fault) (int, error) {
	var begun sim.Fault // not f, whose slices are read by other stacks that play the same fault
	err := s.do(ctx, http.MethodPost, "/sim/faults", f, &begun)
	return begun.ID, err
}

// Calm switches off all faults except those with the given IDs.
func (s *Simulator) Calm(ctx context.Context, but ...int) error {
	var faults []sim.Fault
	if err := s.do(ctx, http.MethodGet, "/sim/faults", nil, &faults); err != nil {
		return err
	}

	for _, f := range faults {
		if slices.Contains(but, f.ID) {
			continue
		}

		// A fault that has ended meanwhile is not found.
		_ = s.do(ctx, http.MethodDelete, fmt.Sprintf("/sim/faults/%d", f.ID), nil, nil)
	}

	return nil
}

// Set changes settings, named as in the simulator's JSON.
func (s *Simulator) Set(ctx context.Context, settings map[string]any) error {
	return s.do(ctx, http.MethodPatch, "/sim/settings", settings, nil)
}

// Revoke revokes all tokens.
func (s *Simulator) Revoke(ctx context.Context) error {
	return s.do(ctx, http.MethodPost, "/sim/revoke", nil, nil)
}

// Remove removes users from AtHoc.
func (s *Simulator) Remove(ctx context.Context, logins ...string) error {
	return s.do(ctx, http.MethodDelete, "/sim/users", logins, nil)
}

// Edit sets an attribute of users, as somebody would by hand. Values are by LOGIN_ID.
func (s *Simulator) Edit(ctx context.Context, attribute string, values map[string]string) error {
	users := make([]sim.User, 0, len(values))
	for login, value := range values {
		users = append(users, sim.User{LoginID: login, Attributes: map[string]string{attribute: value}})
	}

	return s.do(ctx, http.MethodPost, "/sim/users", users, nil)
}

// Forget empties the duty status of users, as a restored backup would.
func (s *Simulator) Forget(ctx context.Context, logins ...string) error {
	if len(logins) == 0 {
		return nil
	}
	return s.do(ctx, http.MethodDelete, "/sim/state?"+url.Values{"user": logins}.Encode(), nil, nil)
}

// Value returns the value of a user's attribute.
func (s *Simulator) Value(ctx context.Context, login, attribute string) (string, error) {
	var u sim.User
	err := s.do(ctx, http.MethodGet, "/sim/users/"+url.PathEscape(login), nil, &u)
	return u.Attributes[attribute], err
}

// Users returns all users' attributes, by LOGIN_ID.
func (s *Simulator) Users(ctx context.Context) (map[string]map[string]string, error) {
	var answer struct{ Users []sim.User }
	if err := s.do(ctx, http.MethodGet, "/sim/users?limit=0", nil, &answer); err != nil {
		return nil, err
	}

	users := map[string]map[string]string{}
	for _, u := range answer.Users {
		users[u.LoginID] = u.Attributes
	}

	return users, nil
}

// Stats returns the simulator's counts.
func (s *Simulator) Stats(ctx context.Context) (st sim.Stats, err error) {
	err = s.do(ctx, http.MethodGet, "/sim/stats", nil, &st)
	return st, err
}
