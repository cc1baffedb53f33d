package broker

// Clients that connect over the port: they have an account of their own, and no rights except those that are lent to
// it.

import (
	"cmp"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/nats-io/nats-server/v2/server"
)

// Guests are the clients that present a token of their own. They cannot reach what is not lent to them, neither by the
// body of a request nor by its reply subject.
type Guests struct {
	// Name is the name of their account, Token what they present.
	Name, Token string
	// Publish lists the subjects that they may send to; answers go to their inboxes.
	Publish []string
	Lent    []Lent
}

// Lent is a subject for requests to another account.
type Lent struct {
	Subject string
	// As is the subject under which guests know it; the same one if empty.
	As string
	// ManyAnswers is set if a request may get more than one answer.
	ManyAnswers bool
	// System is set if the subject belongs to the servers' own account.
	System bool
}

// doorkeeper identifies the clients by their tokens.
type doorkeeper struct {
	token  string
	guests Guests
	// guest is the user that guests become; nil as long as it has no account.
	guest atomic.Pointer[server.User]
}

// Check implements server.Authentication.
func (d *doorkeeper) Check(c server.ClientAuthentication) bool {
	token := c.GetOpts().Token
	if same(token, d.token) {
		return true // in the account of the streams, like the services in this process
	}

	guest := d.guest.Load()
	if guest == nil || !same(token, d.guests.Token) {
		return false
	}

	c.RegisterUser(guest)

	return true
}

func same(token, want string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(token), []byte(want)) == 1
}

// letIn makes the guests' account, once JetStream has set up the account of the streams. Until then, guests are turned
// away.
func (d *doorkeeper) letIn(ns *server.Server) error {
	account, err := ns.RegisterAccount(d.guests.Name)
	if err != nil {
		return fmt.Errorf("make the account of clients over the port: %w", err)
	}

	to := []*server.Account{account}
	user := server.User{Username: d.guests.Name, Account: account, Permissions: &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: d.guests.Publish},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
	}}
	var errs []error
	for _, l := range d.guests.Lent {
		lender, answers := ns.GlobalAccount(), server.Singleton
		if l.System {
			lender = ns.SystemAccount()
		}

		if l.ManyAnswers {
			answers = server.Streamed
		}

		errs = append(errs, lender.AddServiceExportWithResponse(l.Subject, answers, to),
			account.AddServiceImport(lender, cmp.Or(l.As, l.Subject), l.Subject))
	}

	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lend what is to be lent over the port: %w", err)
	}

	d.guest.Store(&user)

	return nil
}
