package show

import (
	"encoding/json"
	"strings"

	"bobosync/services/resolver/internal/store"
	"bobosync/shared/control"
)

// pairBytes is the most bytes of a mapping in one answer, well below the broker's limit of 1 MB for a message.
const pairBytes = 384 << 10

// Mapping returns a part of the mapping in force.
func Mapping(s *store.Store, req control.MappingListRequest) (control.MappingListAnswer, error) {
	answer := control.MappingListAnswer{Pairs: []control.MappingPair{}}
	text, size := strings.ToLower(req.Text), 0
	err := s.View(func(v store.View) error {
		v.EachUser(req.After, func(employee, user string) bool {
			if !strings.Contains(employee, req.Text) && !strings.Contains(strings.ToLower(user), text) {
				return true
			}

			pair := control.MappingPair{Employee: employee, User: user}
			data, _ := json.Marshal(pair) // two strings can always be encoded
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
