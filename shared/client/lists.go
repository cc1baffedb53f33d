package client

// Lists that arrive in parts.

import (
	"context"
	"errors"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// LastReport asks for the last comparison, page by page.
func LastReport(ctx context.Context, conn *bus.Conn) (control.ReconcileAnswer, error) {
	whole := control.ReconcileAnswer{Users: []control.DifferingUser{}} // JSON's null is not a list
	for page := (control.Page{}); ; {
		answer, err := Ask[control.ReconcileAnswer](ctx, conn, topology.Janitor, control.ReconcileReport, page)
		if err != nil {
			return whole, err
		}

		if page.After > 0 && answer.Entry != whole.Entry {
			return whole, errors.New("another comparison was made meanwhile; ask again")
		}

		users := append(whole.Users, answer.Users...)
		next := answer.Next
		whole = answer
		whole.Users, whole.Next = users, 0
		if next <= page.After {
			return whole, nil
		}

		page.After = next
	}
}

// MappingPairs asks for the mapping in parts.
func MappingPairs(ctx context.Context, conn *bus.Conn, req control.MappingListRequest) ([]control.MappingPair, error) {
	all := []control.MappingPair{} // JSON's null is not a list
	for {
		answer, err := Ask[control.MappingListAnswer](ctx, conn, topology.Resolver, control.MappingList, req)
		if err != nil {
			return nil, err
		}

		all = append(all, answer.Pairs...)
		if answer.Next == "" || answer.Next == req.After {
			return all, nil
		}

		req.After = answer.Next
	}
}
