// Package mapping assembles the mapping of employee ids to AtHoc users from the chunks in which it travels.
package mapping

import (
	"maps"

	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// Assembler assembles mappings from their chunks, which may arrive in any order and more than once. A chunk of another
// snapshot discards the chunks before it: only the last snapshot counts. The zero value is ready to use. It is not safe
// for concurrent use.
type Assembler struct {
	snapshot string
	have     map[int]bool
	users    map[string]string
}

// Add adds a chunk. If no chunk is missing any more, Add returns the whole mapping, as employee ids to usernames, and
// starts over; otherwise it returns nil.
func (a *Assembler) Add(chunk event.MappingChunk) map[string]string {
	if a.users == nil || chunk.Snapshot != a.snapshot {
		a.snapshot, a.have, a.users = chunk.Snapshot, map[int]bool{}, map[string]string{}
	}

	a.have[chunk.Index] = true
	maps.Copy(a.users, chunk.Users)

	if len(a.have) < chunk.Chunks {
		return nil
	}

	whole := a.users
	*a = Assembler{}

	return whole
}

// Index is a mapping that can be looked up in both directions. It never changes.
type Index struct {
	snapshot  string
	users     map[string]string
	employees map[string]string
}

// NewIndex returns the index of the snapshot with that name. It keeps users, which must not be changed afterwards.
func NewIndex(snapshot string, users map[string]string) *Index {
	x := &Index{snapshot: snapshot, users: users, employees: make(map[string]string, len(users))}
	for employee, user := range users {
		x.employees[topology.NormalUsername(user)] = employee
	}

	return x
}

// Snapshot returns the name of the snapshot; "" if there is no mapping.
func (x *Index) Snapshot() string { return x.snapshot }

// Len returns the number of employee ids.
func (x *Index) Len() int { return len(x.users) }

// User returns the username that an employee id is mapped to, as AtHoc spells it; "" if none.
func (x *Index) User(employee string) string { return x.users[employee] }

// Employee returns the worker who is mapped to a user, whatever the letter case of the username; "" if nobody is.
func (x *Index) Employee(user string) string { return x.employees[topology.NormalUsername(user)] }

// Added lists the employee ids that are in other but not in x.
func (x *Index) Added(other *Index) []string {
	var added []string
	for employee := range other.users {
		if x.users[employee] == "" {
			added = append(added, employee)
		}
	}

	return added
}

// Difference counts the employee ids that were added, changed and removed on the way from x to other.
func (x *Index) Difference(other *Index) (added, changed, removed int) {
	for employee, user := range other.users {
		switch x.users[employee] {
		case "":
			added++
		case user:
		default:
			changed++
		}
	}

	return added, changed, x.Len() + added - other.Len()
}
