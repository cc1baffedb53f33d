package guard

// This file is a hold: those whose change waits for a person.

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

// Group is the users of one mass change, who are decided about together. Its JSON form is stored.
type Group struct {
	ID    string    `json:"id"`
	Kind  Kind      `json:"kind"`
	Since time.Time `json:"since"`
	// Last is when members were last added, and Seq counts how often that was. Tripped is when more than are allowed were last added;
	// zero in what an earlier version has stored.
	Last    time.Time `json:"last"`
	Tripped time.Time `json:"tripped,omitzero"`
	Seq     int       `json:"seq"`
	// Sent, Allowed, Usual and OnDuty are those of the Trip that began it.
	Sent    int `json:"sent"`
	Allowed int `json:"allowed"`
	Usual   int `json:"usual"`
	OnDuty  int `json:"on_duty"`
	// Rows are the rows of their latest events, by file, so that they are known again when the files are read again.
	Rows map[string]event.RowSet `json:"rows,omitempty"`
	// Users are the unmanaged users, by normal username, with the moment of their stale duty in Unix seconds.
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
	// Users counts whom it was about.
	Users int `json:"users"`
}

// The verdicts on a hold.
const (
	Approved = "approved"
	Rejected = "rejected"
	// Requeued: rejected at first.
	Requeued = "requeued"
	// Overtaken: newer events have superseded all of it.
	Overtaken = "overtaken"
)

// Is reports whether that was decided; with "" whether the decision is awaited.
func (g *Group) Is(outcome string) bool {
	if g == nil || g.Decision == nil {
		return g != nil && outcome == ""
	}
	return g.Decision.Outcome == outcome
}

// Holds reports whether nobody has approved what its bookings say. One that is about clearing holds no booking: its duty was sent; nil holds
// none either.
func (g *Group) Holds() bool {
	return g != nil && !g.Kind.Clears() && !g.Is(Approved) && !g.Is(Requeued)
}

// Takes reports whether an unusual change belongs to this one, or begins another: it goes on as long as no window has passed without
// it. What a silent feed has booked goes on to be found for as long as it is silent, so it belongs together until it is decided about; and
// a change that is not unusual by itself belongs to what waits.
func (g *Group) Takes(t Trip, now time.Time, window time.Duration) bool {
	last := g.Tripped
	if last.IsZero() {
		last = g.Last
	}

	return g.Is("") && g.Kind == t.Kind && (t.Joins || t.Kind == Silent || now.Sub(last) < window)
}

// Add notes that those of an unusual change are added.
func (g *Group) Add(t Trip, now time.Time) {
	g.Last, g.Seq = now.UTC(), g.Seq+1
	if !t.Joins {
		g.Tripped = g.Last
	}
}

// Clone returns a copy that shares nothing that changes.
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

// Without returns the group without a person: the group itself if the person is not in it. Its rows are numbers, and name nobody.
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

// AddRow adds a row of a latest event.
func (g *Group) AddRow(file string, row int) {
	rows := g.Rows[file]
	rows.Add(row)
	g.Rows[file] = rows
}

// TakeOut removes the rows that another hold has. What stays are those of the others and of those who had left the hold before, so that they
// too are known again when their files are read again.
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

// Has reports whether a row is in it.
func (g *Group) Has(file string, row int) bool {
	rows := g.Rows[file]
	return rows.Has(row)
}

// Member is a member of a hold.
type Member struct {
	Employee, User string
	Version        event.Version
	// Seq is Group.Seq when it was added.
	Seq int
}

// Token names exactly the members that were shown.
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

// Since compares the present members of a hold with a token of those who were shown, and returns how many came and how many left; both
// are 0 if it is the same set. ok is false if it is not a token, or the set differs in a way that cannot be counted.
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
