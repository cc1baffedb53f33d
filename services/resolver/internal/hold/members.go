package hold

// This file keeps track of which workers are in which hold, according to their saved records.

import (
	"strings"

	"bobosync/services/resolver/internal/latest"
)

// Members are the workers who are in holds; unmanaged users are in guard.Group.Users instead. Callers must hold the
// roster's lock.
type Members struct {
	// of has the members of each hold, by employee id; in has the hold that a worker is in.
	of map[string]map[string]member
	in map[string]string
}

// member is a worker's entry in a hold.
type member struct {
	// seq is guard.Group.Seq when the worker was added.
	seq int
	// file is the latest event's file if its row awaits an outcome; otherwise empty.
	file string
}

func newMembers() *Members {
	return &Members{of: map[string]map[string]member{}, in: map[string]string{}}
}

// note takes over a worker as it was saved, and reports whether the worker is in a hold or was in one.
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
		employee = strings.Clone(employee) // it may share the memory of a whole message

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

// Of returns the present members of a hold, by employee id, each with guard.Member.Seq.
func (m *Members) Of(group string) map[string]int {
	all := make(map[string]int, len(m.of[group]))
	for employee, p := range m.of[group] {
		all[employee] = p.seq
	}

	return all
}

// Count returns how many workers are in a hold.
func (m *Members) Count(group string) int { return len(m.of[group]) }
