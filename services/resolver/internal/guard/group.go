package guard

// This file defines a hold: the users whose changes wait for a person.

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"bobosync/shared/erase"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// Group is a hold: the users of one mass change, who are decided about together. Its JSON form is stored.
type Group struct {
	ID    string    `json:"id"`
	Kind  Kind      `json:"kind"`
	Since time.Time `json:"since"`
	// Last is when members were last added, and Seq counts the additions. Tripped is when an unusual change was last
	// added, other than one that joined (Trip.Joins); it is zero in what an earlier version has stored.
	Last    time.Time `json:"last"`
	Tripped time.Time `json:"tripped,omitzero"`
	Seq     int       `json:"seq"`
	// Sent, Allowed, Usual and OnDuty are those of the Trip that began the hold.
	Sent    int `json:"sent"`
	Allowed int `json:"allowed"`
	Usual   int `json:"usual"`
	OnDuty  int `json:"on_duty"`
	// Rows are the rows of the members' latest events, by file, so that they are recognized when the files are read
	// again.
	Rows map[string]event.RowSet `json:"rows,omitempty"`
	// Users are the unmanaged users, by topology.NormalUsername, with the start of their stale duty in Unix seconds.
	Users map[string]int64 `json:"users,omitempty"`
	// Decision is nil as long as it is awaited.
	Decision *Decision `json:"decision,omitempty"`
}

// Decision is what was decided about a hold.
type Decision struct {
	// Outcome is one of the words below.
	Outcome string    `json:"verdict"`
	At      time.Time `json:"at"`
	By      string    `json:"by,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	// Users is how many members it was about.
	Users int `json:"users"`
}

// The outcomes of a hold.
const (
	Approved = "approved"
	Rejected = "rejected"
	// Requeued: rejected at first, and accepted after all.
	Requeued = "requeued"
	// Overtaken: newer events have superseded all of it.
	Overtaken = "overtaken"
)

// Is reports whether the hold was decided with this outcome or, for "", whether its decision is still awaited. It is
// false for nil.
func (g *Group) Is(outcome string) bool {
	if g == nil || g.Decision == nil {
		return g != nil && outcome == ""
	}
	return g.Decision.Outcome == outcome
}

// Holds reports whether the bookings in the hold must not count, because nobody has approved them. It is false for a
// hold about clearing, which contains no bookings: the duty itself was sent before. It is false for nil.
func (g *Group) Holds() bool {
	return g != nil && !g.Kind.Clears() && !g.Is(Approved) && !g.Is(Requeued)
}

// Takes reports whether an unusual change belongs to this hold instead of beginning a new one. A hold that awaits its
// decision takes changes of its kind until a whole window has passed without an unusual one. Two kinds of change belong
// to it however late they come: the clearing of duty that a silent feed has booked, since more of it is found for as
// long as the feed is silent; and a change that is not unusual by itself.
func (g *Group) Takes(t Trip, now time.Time, window time.Duration) bool {
	last := g.Tripped
	if last.IsZero() {
		last = g.Last
	}

	return g.Is("") && g.Kind == t.Kind && (t.Joins || t.Kind == Silent || now.Sub(last) < window)
}

// Add notes that the users of a change are added to the hold.
func (g *Group) Add(t Trip, now time.Time) {
	g.Last, g.Seq = now.UTC(), g.Seq+1
	if !t.Joins {
		g.Tripped = g.Last
	}
}

// Clone returns a copy that shares no mutable state with the original.
func (g *Group) Clone() *Group {
	c := *g
	c.Rows, c.Users = map[string]event.RowSet{}, map[string]int64{}
	for file, rows := range g.Rows {
		var own event.RowSet
		own.Merge(rows)
		c.Rows[file] = own
	}

	maps.Copy(c.Users, g.Users)

	return &c
}

// Without returns the group without a person, or the group itself if it does not mention that person. Its rows are
// numbers and name nobody.
func (g *Group) Without(n erase.Names) *Group {
	named := func(user string, _ int64) bool {
		return n.Are(user) || slices.ContainsFunc(n.Users, func(u string) bool { return topology.NormalUsername(u) == user })
	}
	users := maps.Clone(g.Users)
	maps.DeleteFunc(users, named)

	said := g.Decision != nil && n.Within(g.Decision.Reason)
	if len(users) == len(g.Users) && !said {
		return g
	}

	without := *g
	without.Users = users
	if said {
		d := *g.Decision
		d.Reason, without.Decision = erase.Gone, &d
	}

	return &without
}

// AddRow adds the row of a latest event.
func (g *Group) AddRow(file string, row int) {
	rows := g.Rows[file]
	rows.Add(row)
	g.Rows[file] = rows
}

// TakeOut removes the rows that another hold has. What stays are the rows of the other members, and of those who had
// left the hold before, so that they too are recognized when their files are read again.
func (g *Group) TakeOut(other *Group) {
	for file := range other.Rows {
		var stay event.RowSet
		all := g.Rows[file]
		for first, last := range all.Runs() {
			for row := first; row <= last; row++ {
				if !other.Has(file, row) {
					stay.Add(row)
				}
			}
		}

		g.Rows[file] = stay
	}

	maps.DeleteFunc(g.Rows, func(_ string, rows event.RowSet) bool { return rows.Len() == 0 })
}

// Has reports whether the hold contains a row.
func (g *Group) Has(file string, row int) bool {
	rows := g.Rows[file]
	return rows.Has(row)
}

// Member is a member of a hold.
type Member struct {
	Employee, User string
	Version        event.Version
	// Seq is Group.Seq when the member was added.
	Seq int
}

// Token returns a token that identifies exactly these members, in any order.
func Token(all []Member) string {
	lines, last := make([]string, 0, len(all)), 0
	for _, m := range all {
		lines = append(lines, fmt.Sprintf("%q %q %+v", m.Employee, m.User, m.Version))
		last = max(last, m.Seq)
	}

	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))

	return fmt.Sprintf("%d-%d-%s", len(all), last, hex.EncodeToString(sum[:12]))
}

// Since compares the present members of a hold with the token of the members who were shown, and returns how many came
// and how many left; both are 0 if the set is the same. ok is false if the token is malformed, or if the set differs in
// a way that cannot be counted.
func Since(token string, now []Member) (came, left int, ok bool) {
	parts := strings.Split(token, "-")
	if len(parts) != 3 {
		return 0, 0, false
	}

	shown, err := strconv.Atoi(parts[0])
	last, err2 := strconv.Atoi(parts[1])
	if err != nil || err2 != nil {
		return 0, 0, false
	}

	for _, m := range now {
		if m.Seq > last {
			came++
		}
	}

	left = max(0, shown-(len(now)-came))

	return came, left, came+left > 0 || Token(now) == token
}
