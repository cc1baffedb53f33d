package auth

// What a proxy in front of the console says, and which proxies are trusted.

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"bobosync/shared/text"
)

// maxName bounds a name, in bytes.
const maxName = 256

var errProxy = errors.New("the proxy in front of the console named nobody, or several at once: its settings need a look")

// proxies knows the proxies in front of the console, and how far they are believed. It may be used by several
// goroutines.
type proxies struct {
	cfg     Config
	trusted []netip.Prefix
}

// newProxies returns the proxies of valid settings.
func newProxies(cfg Config) *proxies {
	p := &proxies{cfg: cfg}
	for _, text := range cfg.TrustedProxies {
		if one, err := prefix(text); err == nil {
			p.trusted = append(p.trusted, one)
		}
	}

	return p
}

// identify returns the user whom a trusted proxy names, and removes the headers from all other requests. It returns
// errProxy if a proxy names a user in a way that cannot be believed.
func (p *proxies) identify(r *http.Request) (asker, error) {
	if p.cfg.Mode != ModeProxy {
		return asker{}, nil
	}

	if !p.trusts(peerOf(r)) {
		r.Header.Del(p.cfg.Header)

		if p.cfg.GroupsHeader != "" {
			r.Header.Del(p.cfg.GroupsHeader)
		}

		return asker{}, nil
	}

	names := r.Header.Values(p.cfg.Header)
	if len(names) == 0 {
		return asker{}, nil
	}

	name := strings.TrimSpace(names[0])
	if len(names) > 1 || name == "" || len(name) > maxName || !utf8.ValidString(name) || text.Clean(name) != name {
		return asker{}, errProxy
	}

	return asker{Identity: Identity{Name: name, Role: p.cfg.roleOfGroups(p.groups(r)), How: howProxy}}, nil
}

func (p *proxies) groups(r *http.Request) (groups []string) {
	if p.cfg.GroupsHeader == "" {
		return nil
	}

	for _, list := range r.Header.Values(p.cfg.GroupsHeader) {
		for group := range strings.SplitSeq(list, ",") {
			groups = append(groups, strings.TrimSpace(group))
		}
	}

	return groups
}

// roleOfGroups returns the highest role that one of the groups gives, and Viewer if none gives a role. A group has a
// name, so a stray comma in a setting, or in what a proxy lists, names none.
func (c Config) roleOfGroups(groups []string) Role {
	in := func(of []string) bool {
		return slices.ContainsFunc(of, func(g string) bool {
			g = strings.TrimSpace(g)
			return g != "" && slices.Contains(groups, g)
		})
	}
	switch {
	case in(c.Approvers):
		return Approver
	case in(c.Operators):
		return Operator
	default:
		return Viewer
	}
}

func (p *proxies) trusts(peer netip.Addr) bool {
	return slices.ContainsFunc(p.trusted, func(network netip.Prefix) bool { return network.Contains(peer) })
}

// peerOf returns the address at the other end of the connection.
func peerOf(r *http.Request) netip.Addr {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr) // an invalid address is in no network
	return peer.Addr().Unmap().WithZone("")
}

// addressOf returns where a request comes from: the other end of the connection or, while that is a trusted proxy, the
// address that the proxy reports. X-Forwarded-For is followed from its last address to the first that is not a trusted
// proxy.
func (p *proxies) addressOf(r *http.Request) string {
	addr := peerOf(r)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !p.trusts(addr) {
			break
		}

		next, err := hopOf(strings.TrimSpace(hop))
		if err != nil {
			break
		}

		addr = next.Unmap().WithZone("")
	}

	return addr.String()
}

// hopOf parses an address as proxies write it; some, such as IIS, add a port.
func hopOf(text string) (netip.Addr, error) {
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr(), nil
	}
	return netip.ParseAddr(strings.Trim(text, "[]"))
}
