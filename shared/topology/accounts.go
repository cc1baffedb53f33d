// What is lent and borrowed between the accounts of a broker that keeps its users apart.

package topology

import (
	"slices"
	"strings"
)

// The accounts that are not one user's own.
const (
	// AccountStore holds the streams, consumers and buckets, and the users who make them and back them up.
	AccountStore = "BOBO"
	// AccountSystem is the servers' own.
	AccountSystem = "SYS"
)

// questionServers is the subject on which all servers report the state of their JetStream, in the system account.
const questionServers = "$SYS.REQ.SERVER.PING.JSZ"

// Account is a NATS account. Accounts are the boundary between the users; permissions alone are none, because JetStream
// acts with the rights of the account from which it is asked, and sends its answer to whatever subject a request names
// for it. A user in an account of its own reaches no subject but those that are lent to it, neither by a request's body
// nor by its reply subject.
type Account struct {
	Name string
	// JetStream reports whether the account has streams.
	JetStream bool
	Users     []User
	Exports   []Export
	Imports   []Import
}

// Export is what an account lends to others.
type Export struct {
	Subject string
	// Messages is set if messages are sent to the others; otherwise the others send requests.
	Messages bool
	// To lists the accounts to which it is lent.
	To []string
}

// Import is what an account borrows from another.
type Import struct {
	From, Subject string
	Messages      bool
	// As is the subject under which the borrower knows it; the same one if empty.
	As string
	// Share makes the server add to each request, in a header, the connection that it comes from. The server removes
	// whatever the client has written there.
	Share bool
}

// accountOf returns the name of a user's own account.
func accountOf(user string) string { return strings.ToUpper(user) }

// UserOf returns the user to whom an account belongs.
func UserOf(account string) string { return strings.ToLower(account) }

// Accounts lists the accounts of the broker with their users, including the given operators, who have a key of their
// own. What is lent and borrowed follows from what the users may do.
func Accounts(operators ...string) []Account {
	all := map[string]*Account{}

	names := []string{AccountStore, AccountSystem}
	users := Users(operators...)
	for _, u := range users {
		if !slices.Contains(names, u.Account) {
			names = append(names, u.Account)
		}
	}

	for _, name := range names {
		all[name] = &Account{Name: name, JetStream: name == AccountStore}
	}

	for _, u := range users {
		borrower := all[u.Account]
		borrower.Users = append(borrower.Users, u)
		for _, need := range u.borrows() {
			lender := all[need.From]
			lender.lend(need, borrower.Name)
			borrower.Imports = append(borrower.Imports, need)
		}
	}

	list := make([]Account, 0, len(names))
	for _, name := range names {
		list = append(list, *all[name])
	}

	return list
}

// Needs lists what other accounts must lend to the user.
func (u User) Needs() []Import { return u.borrows() }

// AnsweredByMany reports whether a request for it gets more than one message in answer.
func (i Import) AnsweredByMany() bool { return Export{Subject: i.Subject}.answeredByMany() }

// lend adds a borrower to an export, and makes the export for the first borrower.
func (a *Account) lend(need Import, to string) {
	for i, e := range a.Exports {
		if e.Subject == need.Subject {
			a.Exports[i].To = append(e.To, to)
			return
		}
	}

	a.Exports = append(a.Exports, Export{Subject: need.Subject, Messages: need.Messages, To: []string{to}})
}

// borrows lists what a user needs of other accounts. If one subject covers another, only the wider one is borrowed: a
// message that fits two imports would be imported twice.
func (u User) borrows() []Import {
	var needs []Import
	for _, subject := range u.Publish {
		covered := slices.ContainsFunc(u.Publish, func(other string) bool { return other != subject && covers(other, subject) })
		if need := lenderOf(subject); !covered && need.From != "" && need.From != u.Account {
			needs = append(needs, need)
		}
	}

	if slices.Contains(u.Subscribe, SubjectWake) {
		needs = append(needs, Import{From: accountOf(string(Resolver)), Subject: SubjectWake, Messages: true})
	}

	return needs
}

// lenderOf returns the import of a subject from the account that it belongs to. If each account has its own such
// subject, the import names no lender.
func lenderOf(subject string) Import {
	for _, service := range []Service{Ingest, Resolver, Publisher, Janitor} {
		if strings.HasPrefix(subject, controlPrefix+string(service)+".") || strings.HasSuffix(subject, ".bobosync-"+string(service)) {
			return Import{From: accountOf(string(service)), Subject: subject, Share: strings.HasPrefix(subject, controlPrefix)}
		}
	}

	switch {
	case subject == userInfo, subject == SubjectWake, strings.HasPrefix(subject, "$SYS."):
		return Import{}
	case subject == SubjectServers:
		return Import{From: AccountSystem, Subject: questionServers, As: SubjectServers}
	default:
		return Import{From: AccountStore, Subject: subject}
	}
}

// covers reports whether every subject that fits the second pattern fits the first.
func covers(wide, narrow string) bool {
	w, n := strings.Split(wide, "."), strings.Split(narrow, ".")
	for i, token := range w {
		if token == ">" {
			return len(n) > i
		}

		if i >= len(n) || n[i] == ">" || token != "*" && token != n[i] {
			return false
		}
	}

	return len(w) == len(n)
}
