// Package auth identifies the users of the console, and refuses requests that should not reach it: those from other
// sites, those to hosts that are not this console, and those whose body or headers are too large. A user's Role decides
// what they may see or order; each page names the role that it needs. The broker, which knows nothing of this package,
// decides what an order does.
package auth

import (
	"cmp"
	"context"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/login"
	"bobosync/shared/pause"
)

// Role is what a user may do; each role includes those below it.
type Role int

// The roles. A Wall sees the wall page alone, a Viewer everything but persons, an Operator persons and orders too, an
// Approver decisions too.
const (
	Nobody Role = iota
	Wall
	Viewer
	Operator
	Approver
)

var roleNames = [...]string{"nobody", "wall", "viewer", "operator", "approver"}

func (r Role) String() string { return roleNames[r] }

// roleOf returns the role that a word of login.Roles names; the word was checked where it was read.
func roleOf(word string) Role { return Role(max(slices.Index(roleNames[:], word), 0)) }

// Identity is the sender of a request. The zero Identity is nobody.
type Identity struct {
	Name string
	Role Role
	// How is how the sender logged in: password, link, proxy, oidc, or wall.
	How string
	// Subject is the sender's id at the identity provider, unique there; empty if the sender logged in otherwise.
	Subject string
	// Address is where the sender's requests come from, without the port.
	Address string
}

// By returns how orders name the sender in the audit and the journal.
func (i Identity) By() string {
	return fmt.Sprintf("%s (console, %s, %s)", i.Name, strings.TrimSpace(i.How+" "+i.Subject), i.Address)
}

// asker is what the context of a request holds.
type asker struct {
	Identity
	session *session
}

type askerKey struct{}

func askerOf(ctx context.Context) asker {
	a, _ := ctx.Value(askerKey{}).(asker)
	return a
}

// From returns the sender of the request, as identified by Protect.
func From(ctx context.Context) Identity { return askerOf(ctx).Identity }

// SessionEnds returns when the sender's session ends if they do nothing, and when it ends in any case. Both are zero
// for a user who has no session here, because a proxy keeps it or because they need none.
func SessionEnds(ctx context.Context) (idle, whole time.Time) {
	s := askerOf(ctx).session
	if s == nil {
		return time.Time{}, time.Time{}
	}

	return s.idleEnds(), s.wholeEnds()
}

// Options is what the console provides.
type Options struct {
	Clock func() time.Time
	Log   *slog.Logger
	// State opens the bucket that has the list of ended sessions.
	State func(context.Context) (jetstream.KeyValue, error)
	// MayWrite says that the list may be written there. Otherwise a session that is ended at this console is ended at
	// this console alone.
	MayWrite bool
	// Addr is where the console listens: host and port.
	Addr string
	// Directory is the data directory, which has the key of links.
	Directory string
	// Notify notifies people of an emergency login. It is called again until it succeeds.
	Notify func(context.Context, Emergency) error
	// Page writes a page around a body. Without it, pages have no more than they need.
	Page func(w http.ResponseWriter, r *http.Request, status int, title string, body template.HTML)
}

// Auth controls access to the console. It may be used by several goroutines.
type Auth struct {
	cfg      Config
	opt      Options
	csrf     *http.CrossOriginProtection
	proxies  *proxies
	wall     *wall
	sessions *sessions
	pages    *pages
	// byPassword, byLink and byProvider are the ways to log in; those that the settings leave out are nil.
	byPassword *passwordLogin
	byLink     *linkLogin
	byProvider *providerLogin
	unnotified unnotified
}

// New makes the access control with these settings, which must be valid. Run must be called as well.
func New(ctx context.Context, cfg Config, opt Options) (*Auth, error) {
	a := &Auth{cfg: cfg, opt: opt, csrf: http.NewCrossOriginProtection(), proxies: newProxies(cfg)}
	a.pages = &pages{frame: opt.Page, mode: cfg.Mode, emergency: cfg.Mode == ModeOIDC && cfg.UsersFile != ""}
	if opt.Page == nil {
		a.pages.frame = barePage
	}

	if cfg.URL != "" {
		if err := a.csrf.AddTrustedOrigin(cfg.origin()); err != nil {
			return nil, fmt.Errorf("CONSOLE_URL: %w", err)
		}
	}

	sealer, err := newSealer(cfg.SessionKey)
	if err != nil {
		return nil, err
	}

	a.wall = &wall{token: cfg.WallToken, cookie: sealer.cookie("bobosync-wall", cfg.secure())}
	s := &sessions{cookie: sealer.cookie("bobosync-session", cfg.secure()), clock: opt.Clock, log: opt.Log}
	common, throttle := way{pages: a.pages, sessions: s, clock: opt.Clock, log: opt.Log}, newThrottle(opt.Clock)
	if cfg.UsersFile != "" {
		if s.users, err = openUsers(cfg.UsersFile, opt.Log); err != nil {
			return nil, err
		}

		a.byPassword = &passwordLogin{way: common, users: s.users, throttle: throttle, hashing: make(chan struct{}, 2)}
		if a.pages.emergency {
			a.byPassword.unnotified = &a.unnotified
		}
	}

	if cfg.Mode == ModeLink {
		if s.links, err = login.NewLinks(opt.Directory, cfg.linkURL(opt.Addr)); err != nil {
			return nil, err
		}

		a.byLink = &linkLogin{way: common, links: s.links}
	}

	if cfg.Mode == ModeOIDC {
		if s.provider, err = newProvider(cfg, opt.Clock); err != nil {
			return nil, err
		}

		a.byProvider = &providerLogin{way: common, provider: s.provider, throttle: throttle, cookie: sealer.cookie("bobosync-login", cfg.secure())}
	}

	s.ended = readEnded(ctx, opt)
	a.sessions = s

	return a, nil
}

// Run reads, again and again until ctx ends, which sessions were ended at other consoles, and notifies people of
// emergency logins.
func (a *Auth) Run(ctx context.Context) error {
	return pause.Every(ctx, endedEvery, func() error {
		a.sessions.ended.refresh(ctx)
		a.unnotified.notify(ctx, a.opt)
		return nil
	})
}

// maxBody bounds the body of a request, in bytes.
const maxBody = 64 << 10

// Protect identifies the sender, for From, and lets nothing through that a browser on this console's pages would not
// send. It must wrap everything that the console serves.
func (a *Auth) Protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header(), a.cfg.secure())

		if status, why := a.refused(r); why != "" {
			a.pages.say(w, r, status, "Refused", why)
			return
		}

		r.Body = http.MaxBytesReader(w, r.Body, maxBody)

		who, err := a.identify(r)
		if err != nil {
			a.pages.say(w, r, http.StatusForbidden, "Refused", err.Error())
			return
		}

		if who.How == howWall && r.Method == http.MethodGet {
			a.wall.keep(w, r, a.opt.Clock())
		}

		ctx, cancel := context.WithValue(r.Context(), askerKey{}, who), context.CancelFunc(func() {})
		if who.session != nil {
			if isStream(r) {
				ctx, cancel = a.sessions.whileLasts(ctx, who.session)
			} else if renewed := who.session.renewed(a.opt.Clock()); renewed != nil && !isByItself(r) {
				a.sessions.cookie.set(w, renewed, 0)
				ctx = context.WithValue(ctx, askerKey{}, asker{who.Identity, renewed})
			}
		}
		defer cancel()

		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// Refuse answers a request that needs a higher role: a user without a session is sent to the login, others are refused.
func (a *Auth) Refuse(w http.ResponseWriter, r *http.Request) {
	who := From(r.Context())
	if who.Role == Nobody {
		a.pages.sendToLogin(w, r)
		return
	}

	a.pages.say(w, r, http.StatusForbidden, "Not allowed", fmt.Sprintf("%s may not see or do this: the role here is %s.", cmp.Or(who.Name, "This screen"), who.Role))
}

// isByItself reports whether a page sends the request without a user's action: to ask how long its session lasts, or to
// reload itself.
func isByItself(r *http.Request) bool {
	return r.Method == http.MethodGet && (r.URL.Path == pathSession || r.URL.Query().Has("refresh"))
}

// isStream reports whether a request is for a stream of events, which stays open.
func isStream(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// isFragment reports whether a script of the console sends the request: a script shows an answer rather than following
// a redirect.
func isFragment(r *http.Request) bool {
	return isStream(r) || r.Header.Get("Hx-Request") != "" || r.Header.Get("Sec-Fetch-Mode") == "cors"
}

// refused returns why a request is not even considered; why is empty if it is.
func (a *Auth) refused(r *http.Request) (status int, why string) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		return http.StatusMethodNotAllowed, "The console takes GET, HEAD and POST."
	}

	if !a.hostIsOurs(r.Host) {
		return http.StatusMisdirectedRequest, "This is not the address of this console. If a proxy is in front of it, set CONSOLE_URL to the address that browsers show."
	}

	if err := a.csrf.Check(r); err != nil {
		a.opt.Log.Warn("a request of another site was refused", "path", r.URL.Path, "origin", r.Header.Get("Origin"), "address", a.proxies.addressOf(r))
		return http.StatusForbidden, "This was sent from another site, and nothing was done. If it came from this console, a proxy changes the address: set CONSOLE_URL to the one that browsers show."
	}

	return 0, ""
}

// hostIsOurs reports whether a host is this console's. Where the console listens for this machine alone, it refuses
// names that somebody else has made to lead to this machine.
func (a *Auth) hostIsOurs(host string) bool {
	if !onLoopback(a.opt.Addr) {
		return true
	}

	if u, err := url.Parse(a.cfg.URL); err == nil && a.cfg.URL != "" && strings.EqualFold(u.Host, host) {
		return true
	}

	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}

	return isLoopback(name)
}

// identify identifies the sender. It returns an error if a proxy names a user in a way that cannot be believed.
func (a *Auth) identify(r *http.Request) (asker, error) {
	address := a.proxies.addressOf(r)

	who, err := a.proxies.identify(r)
	if err != nil {
		a.opt.Log.Warn("a request was refused", "error", err, "address", address)
		return asker{}, err
	}

	if who.Role == Nobody {
		who = a.sessions.identify(r)
	}

	if who.Role == Nobody {
		who = a.wall.identify(r)
	}

	who.Address = address

	return who, nil
}
