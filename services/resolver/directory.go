package resolver

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"bobosync/services/resolver/internal/memory"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// directory is the mapping in force, in both directions. It is never changed, only replaced, under resolver.mu together with the
// mapping in the memory.
type directory struct {
	snapshot string
	// users are the usernames by employee id, as AtHoc spells them; employees are the employee ids by topology.NormalUsername.
	users     map[string]string
	employees map[string]string
}

func newDirectory(snapshot string, users map[string]string) *directory {
	d := &directory{snapshot: snapshot, users: users, employees: make(map[string]string, len(users))}
	for employee, user := range users {
		d.employees[topology.NormalUsername(user)] = employee
	}
	return d
}

// employee returns who is mapped to a user; "" if nobody is.
func (d *directory) employee(user string) string { return d.employees[topology.NormalUsername(user)] }

// loadDirectory reads the mapping in force from the memory.
func (r *resolver) loadDirectory() error {
	snapshot, err := r.memory.Snapshot()
	if err != nil {
		return err
	}
	users := map[string]string{}
	err = r.memory.View(func(v memory.View) error {
		v.EachUser("", func(employee, user string) bool {
			users[employee] = user
			return true
		})
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the mapping: %w", err)
	}
	r.directory.Store(newDirectory(snapshot, users))
	return nil
}

// pairBytes is how much of a mapping goes into one answer, well below the broker's limit of 1 MB for a message.
const pairBytes = 384 << 10

// listMapping answers with a part of the mapping in force.
func (r *resolver) listMapping(_ context.Context, req control.MappingListRequest) (control.MappingListAnswer, error) {
	answer := control.MappingListAnswer{Pairs: []control.MappingPair{}}
	text, size := strings.ToLower(req.Text), 0
	err := r.memory.View(func(v memory.View) error {
		v.EachUser(req.After, func(employee, user string) bool {
			if !strings.Contains(employee, req.Text) && !strings.Contains(strings.ToLower(user), text) {
				return true
			}
			pair := control.MappingPair{Employee: employee, User: user}
			data, _ := json.Marshal(pair) // two texts can always be written
			if size += len(data) + 1; size > pairBytes && len(answer.Pairs) > 0 {
				answer.Next = answer.Pairs[len(answer.Pairs)-1].Employee
				return false
			}
			answer.Pairs = append(answer.Pairs, pair)
			return true
		})
		return nil
	})
	return answer, err
}
