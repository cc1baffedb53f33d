package auth

// What a proxy in front of the console says, and which proxies are trusted.

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"bobosync/shared/text"
)

// maxName bounds a name that a proxy gives, in bytes.
const maxName = 256

// fromProxy returns the user whom a trusted proxy names, and removes the headers from all other requests.
func (a *Auth) fromProxy(r *http.Request) (asker, error) {
	if a.cfg.Mode != ModeProxy {
		return asker{}, nil
	}
	if !a.trusts(peerOf(r)) {
		r.Header.Del(a.cfg.Header)
		if a.cfg.GroupsHeader != "" {
			r.Header.Del(a.cfg.GroupsHeader)
		}
		return asker{}, nil
	}
	names := r.Header.Values(a.cfg.Header)
	if len(names) == 0 {
		return asker{}, nil
	}
	name := strings.TrimSpace(names[0])
	if len(names) > 1 || name == "" || len(name) > maxName || !utf8.ValidString(name) || text.Clean(name) != name {
		return asker{}, errProxy
	}
	return asker{Identity: Identity{Name: name, Role: a.cfg.roleOfGroups(a.groups(r)), How: howProxy}}, nil
}

func (a *Auth) groups(r *http.Request) (groups []string) {
	if a.cfg.GroupsHeader == "" {
		return nil
	}
	for _, list := range r.Header.Values(a.cfg.GroupsHeader) {
		for group := range strings.SplitSeq(list, ",") {
			groups = append(groups, strings.TrimSpace(group))
		}
	}
	return groups
}

// roleOfGroups is the highest role that one of the groups gives; without any it is Viewer.
func (c Config) roleOfGroups(groups []string) Role {
	in := func(of []string) bool {
		return slices.ContainsFunc(of, func(g string) bool { return slices.Contains(groups, strings.TrimSpace(g)) })
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

func (a *Auth) trusts(peer netip.Addr) bool {
	return slices.ContainsFunc(a.proxies, func(p netip.Prefix) bool { return p.Contains(peer) })
}

// peerOf is who is at the other end of the connection.
func peerOf(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

// addressOf is where a request comes from: the other end of the connection, or what trusted proxies say, the last first, up to the first
// that is not one of them.
func (a *Auth) addressOf(r *http.Request) string {
	addr := peerOf(r)
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !a.trusts(addr) {
			break
		}
		next, err := netip.ParseAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		addr = next.Unmap().WithZone("")
	}
	return addr.String()
}
