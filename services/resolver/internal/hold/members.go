package hold

// This file knows which workers are in which hold, as they were saved.

import (
	"strings"

	"bobosync/services/resolver/internal/latest"
)

// Members are the workers who are in holds; unmanaged users are in guard.Group.Users. Callers must hold the roster's lock.
type Members struct {
	// of are who is in each hold, by employee id, and in is the hold that a worker is in.
	of map[string]map[string]member
	in map[string]string
}

// member is a worker's entry in a hold.
type member struct {
	// seq is the count of its additions by then.
	seq int
	// file is that of the latest event, if its row awaits an outcome.
	file string
}

func newMembers() *Members {
	return &Members{of: map[string]map[string]member{}, in: map[string]string{}}
}

// note notes a worker as it was saved. It reports whether the worker is in a hold, or was.
func (m *Members) note(employee string, w latest.Worker) bool {
	before, group := m.in[employee], ""
	if w.Hold != nil {
		group = w.Hold.Group
	}

	if before == "" && group == "" {
		return false
	}

	if before != group {
		delete(m.of[before], employee)
		delete(m.in, employee)
	}

	if group != "" {
		employee = strings.Clone(employee) // it may be a part of a whole message

		if m.of[group] == nil {
			m.of[group] = map[string]member{}
		}

		p := member{seq: w.Hold.Seq}
		if w.Open {
			p.file = w.Latest.File
		}

		m.of[group][employee], m.in[employee] = p, group
	}

	return true
}

// Of are the present members of a hold, by employee id, with guard.Member.Seq.
func (m *Members) Of(group string) map[string]int {
	all := make(map[string]int, len(m.of[group]))
	for employee, p := range m.of[group] {
		all[employee] = p.seq
	}

	return all
}

// Count is how many workers are in a hold.
func (m *Members) Count(group string) int { return len(m.of[group]) }
