// Package guests defines what a client may do that connects over the port of the broker inside the all-in-one program.
package guests

import (
	"bobosync/shared/broker"
	"bobosync/shared/topology"
)

// Of returns the Guests that let a user in over the port, with a token.
func Of(token string, u topology.User) *broker.Guests {
	g := &broker.Guests{Name: u.Name, Token: token, Publish: u.Publish}
	for _, need := range u.Needs() {
		g.Lent = append(g.Lent, broker.Lent{
			Subject: need.Subject, As: need.As, ManyAnswers: need.AnsweredByMany(), System: need.From == topology.AccountSystem,
		})
	}

	return g
}
