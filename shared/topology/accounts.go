// What is lent and borrowed between the accounts of a broker that keeps its users apart.

package topology

import (
	"slices"
	"strings"
)

// The accounts that are not one user's own.
const (
	// AccountStore holds the streams, consumers and buckets, and who makes them.
	AccountStore = "BOBO"
	// AccountSystem is the servers' own.
	AccountSystem = "SYS"
)

// questionServers is what all servers answer with the state of their JetStream, in the system account.
const questionServers = "$SYS.REQ.SERVER.PING.JSZ"

// Account is a NATS account. Accounts are the boundary between the users, and permissions alone are none: JetStream acts with
// the rights of the account that it is asked from, and sends its answer to whatever subject a request names for it. In an
// account of its own a user reaches no subject but those that are lent to it, neither by a request's body nor by the subject
// for its answer.
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
	// Messages are sent to the others; otherwise the others send requests.
	Messages bool
	// To are the accounts that it is lent to.
	To []string
}

// Import is what an account borrows from another.
type Import struct {
	From, Subject string
	Messages      bool
	// As is the subject under which the borrower knows it; the same one if empty.
	As string
	// Share makes the server add to a request from which connection it comes. It does so in a header, and takes away whatever
	// the client has written there.
	Share bool
}

// accountOf names the account that is a user's own.
func accountOf(user string) string { return strings.ToUpper(user) }

// UserOf names the user whose own account this is.
func UserOf(account string) string { return strings.ToLower(account) }

// Accounts lists the accounts of the broker, with their users, and with the operators who have a key of their own. What is lent
// and borrowed follows from what the users may do.
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

// Needs lists what a user has to be lent by other accounts.
func (u User) Needs() []Import { return u.borrows() }

// AnsweredByMany reports whether a request for it has more than one message for an answer.
func (i Import) AnsweredByMany() bool { return Export{Subject: i.Subject}.answeredByMany() }

// lend adds a borrower to an export, and makes the export if it is the first.
func (a *Account) lend(need Import, to string) {
	for i, e := range a.Exports {
		if e.Subject == need.Subject {
			a.Exports[i].To = append(e.To, to)
			return
		}
	}

	a.Exports = append(a.Exports, Export{Subject: need.Subject, Messages: need.Messages, To: []string{to}})
}

// borrows lists what a user needs of other accounts. Of subjects of which one covers the other only the wider is borrowed: a
// message that fits two imports would be taken over twice.
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

// lenderOf returns the account that a subject belongs to. It has no lender if each account has its own.
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
