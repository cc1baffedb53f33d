package auth

// The identity provider where people log in by OpenID Connect: what it says of itself, and how far to believe what it
// says of users.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"bobosync/shared/athoc"
	"bobosync/shared/text"
)

const (
	// providerTimeout is how long the provider may take for one answer, and maxAnswer how long an answer may be, in
	// bytes.
	providerTimeout = 10 * time.Second
	maxAnswer       = 1 << 20
	// findEvery is how long after a failure the provider is asked for its configuration again.
	findEvery = 3 * time.Second
)

// provider is where people log in. Its configuration is fetched at the first login, so that the console needs the
// provider for nothing else. It may be used by several goroutines.
type provider struct {
	cfg   Config
	web   *http.Client
	clock func() time.Time

	mu      sync.Mutex
	known   *endpoints
	failure error
	failed  time.Time
}

// endpoints is what a provider says of itself.
type endpoints struct {
	login  *oauth2.Config
	tokens *oidc.IDTokenVerifier
	// end is where browsers log out; empty if they cannot.
	end string
}

// newProvider returns a provider that is reached the way that is set for all calls out of this network.
func newProvider(cfg Config, clock func() time.Time) (*provider, error) {
	web, err := athoc.NewWeb(athoc.Config{
		CACertPath: cfg.SSLCertPath, HTTPProxy: cfg.HTTPProxy, HTTPSProxy: cfg.HTTPSProxy, NoProxy: cfg.NoProxy, Timeout: providerTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("the way to CONSOLE_OIDC_ISSUER: %w", err)
	}

	web.Timeout, web.Transport = providerTimeout, bounded{web.Transport}

	return &provider{cfg: cfg, web: web, clock: clock}, nil
}

// bounded makes reading an answer fail if the answer is too long.
type bounded struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxAnswer)
	}

	return res, err
}

// mark returns a text that changes with the provider, and with which groups have which role.
func (p *provider) mark() string {
	return markOf(strings.Join([]string{
		p.cfg.Issuer, p.cfg.ClientID, p.cfg.GroupsClaim, strings.Join(p.cfg.Operators, "\n"), strings.Join(p.cfg.Approvers, "\n"),
	}, "\n\n"))
}

// find returns the provider's configuration. While the provider does not answer, requests ask it one at a time, and not
// again before findEvery has passed.
func (p *provider) find(ctx context.Context) (*endpoints, error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if p.known == nil && (p.failure == nil || p.clock().Sub(p.failed) >= findEvery) {
		p.known, p.failure = p.ask(context.WithoutCancel(ctx)) // others wait for it too
		p.failed = p.clock()
	}

	return p.known, p.failure
}

func (p *provider) ask(ctx context.Context) (*endpoints, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.web), providerTimeout)
	defer cancel()

	found, err := oidc.NewProvider(ctx, p.cfg.Issuer)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its configuration: %w", p.cfg.Issuer, err)
	}

	var more struct {
		Keys string `json:"jwks_uri"`
		End  string `json:"end_session_endpoint"`
	}
	if err := found.Claims(&more); err != nil {
		return nil, fmt.Errorf("read the configuration of %s: %w", p.cfg.Issuer, err)
	}

	for _, address := range []string{found.Endpoint().AuthURL, found.Endpoint().TokenURL, more.Keys} {
		if !trustworthy(address) {
			return nil, fmt.Errorf("the configuration of %s names the address %q, which does not begin with https://", p.cfg.Issuer, address)
		}
	}

	e := &endpoints{tokens: found.Verifier(&oidc.Config{ClientID: p.cfg.ClientID, Now: p.clock}), login: &oauth2.Config{
		ClientID: p.cfg.ClientID, ClientSecret: p.cfg.ClientSecret.Reveal(), Endpoint: found.Endpoint(),
		RedirectURL: p.cfg.origin() + pathReturn, Scopes: strings.Fields(p.cfg.Scopes),
	}}
	if trustworthy(more.End) {
		e.end = more.End
	}

	return e, nil
}

// trustworthy reports whether nobody on the way to an address can read or change what is sent.
func trustworthy(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.User == nil && u.Hostname() != "" && (u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname()))
}

// The reasons why a login is not believed; their texts are for the user.
var (
	errAway     = errors.New("the login service does not answer as it should: the console's log says how")
	errRefuses  = errors.New("the login service does not accept what the console sends it: the console's log says why")
	errExpired  = errors.New("the login service's answer is older than it may be: compare the clocks of the two machines")
	errNotOurs  = errors.New("the login service's answer is not accepted: it is not signed by it, or not for this login; the console's log says which")
	errNameless = errors.New("the login service's answer names nobody in a way that can be recorded")
)

// person exchanges the code that a browser has brought for the identity of its user. The first error is for the user,
// the second for the log.
func (p *provider) person(ctx context.Context, code string, t *try) (who Identity, said, cause error) {
	e, err := p.find(ctx)
	if err != nil {
		return Identity{}, errAway, err
	}

	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.web), providerTimeout)
	defer cancel()

	answer, err := e.login.Exchange(ctx, code, oauth2.VerifierOption(t.Verifier))
	if refusal, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return Identity{}, errRefuses, fmt.Errorf("the token endpoint answers with %s: %s", refusal.Response.Status, shown(refusal.ErrorCode))
	}

	if err != nil {
		return Identity{}, errAway, err
	}

	raw, _ := answer.Extra("id_token").(string)

	token, err := e.tokens.Verify(ctx, raw)
	if _, ok := errors.AsType[*oidc.TokenExpiredError](err); ok {
		return Identity{}, errExpired, err
	}

	if err == nil {
		who, err = p.believe(token, t)
	}

	switch {
	case errors.Is(err, errNameless):
		return Identity{}, errNameless, err
	case err != nil:
		return Identity{}, errNotOurs, err
	}

	return who, nil, nil
}

// believe returns whom a token is about, and that user's role. The token's signature, issuer, audience and time have
// been verified.
func (p *provider) believe(token *oidc.IDToken, t *try) (Identity, error) {
	if token.Nonce != t.Nonce {
		return Identity{}, errors.New("the token is for another login: its nonce is another one")
	}

	var claims map[string]any
	if err := token.Claims(&claims); err != nil {
		return Identity{}, fmt.Errorf("read the token's claims: %w", err)
	}

	if party, there := claims["azp"]; len(token.Audience) > 1 || there {
		if party != p.cfg.ClientID {
			return Identity{}, errors.New("the token was given to another application: see its claim azp")
		}
	}

	who := Identity{Subject: token.Subject, How: howOIDC}
	if !recordable(who.Subject) {
		return Identity{}, errNameless
	}

	for _, claim := range []string{"preferred_username", "upn", "email", "sub"} {
		if name, _ := claims[claim].(string); who.Name == "" && recordable(name) {
			who.Name = name
		}
	}

	who.Role = p.cfg.roleOfGroups(texts(claims[p.cfg.GroupsClaim]))

	return who, nil
}

// recordable reports whether a name can be recorded in the audit: it is not empty or too long, hides nothing, and looks
// like nothing that the console itself writes next to it.
func recordable(name string) bool {
	return name != "" && len(name) <= maxName && text.Clean(name) == name && strings.TrimSpace(name) == name && !strings.ContainsAny(name, "()")
}

// texts returns the strings of a claim that is a string or a list of strings.
func texts(claim any) (all []string) {
	switch claim := claim.(type) {
	case string:
		return []string{claim}
	case []any:
		for _, one := range claim {
			if s, ok := one.(string); ok {
				all = append(all, s)
			}
		}
	}

	return all
}

// leave returns where a browser logs out at the provider, which then leads it back here; empty if it cannot.
func (p *provider) leave(ctx context.Context) string {
	e, err := p.find(ctx)
	if err != nil || e.end == "" {
		return ""
	}

	u, err := url.Parse(e.end)
	if err != nil {
		return ""
	}

	query := u.Query()
	query.Set("client_id", p.cfg.ClientID)
	query.Set("post_logout_redirect_uri", p.cfg.origin()+pathLogin)
	u.RawQuery = query.Encode()

	return u.String()
}
