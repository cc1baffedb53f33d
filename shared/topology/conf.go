// This file writes the accounts as the configuration of a nats-server.

package topology

import (
	"fmt"
	"slices"
	"strings"
)

// AccountsConf returns the accounts, their users and what is lent between them, as configuration of a nats-server.
// Login returns how a user logs in, such as "nkey: …" or "user: …, password: …".
func AccountsConf(login func(user string) string, operators ...string) string {
	var b strings.Builder
	b.WriteString("system_account: " + AccountSystem + "\n\naccounts {\n")

	for _, a := range Accounts(operators...) {
		fmt.Fprintf(&b, "  %s {\n", a.Name)

		if a.JetStream {
			b.WriteString("    jetstream: enabled\n")
		}

		b.WriteString("    users: [\n")

		for _, u := range a.Users {
			writeUser(&b, u, login(u.Name))
		}

		b.WriteString("    ]\n")
		writeExports(&b, a.Exports)
		writeImports(&b, a.Imports)
		b.WriteString("  }\n\n")
	}

	b.WriteString("}\n")

	return b.String()
}

// answersTimeout is how long a user may take to answer a request, and maxAnswers how many answers it may give: a
// janitor offers two services, and both answer an inquiry of NATS's services framework.
const (
	answersTimeout = "1m"
	maxAnswers     = 4
)

func writeUser(b *strings.Builder, u User, login string) {
	fmt.Fprintf(b, "      # %s: %s.\n      {\n        %s\n        permissions: {\n", u.Name, u.About, login)
	writeList(b, "publish", u.Publish)
	writeList(b, "subscribe", u.Subscribe)

	if u.Answers {
		fmt.Fprintf(b, "          allow_responses: { max: %d, expires: %q }\n", maxAnswers, answersTimeout)
	}

	b.WriteString("        }\n      }\n")
}

func writeList(b *strings.Builder, name string, subjects []string) {
	fmt.Fprintf(b, "          %s: { allow: [\n", name)

	for _, s := range slices.Sorted(slices.Values(subjects)) {
		fmt.Fprintf(b, "            %q\n", s)
	}

	b.WriteString("          ] }\n")
}

func writeExports(b *strings.Builder, exports []Export) {
	if len(exports) == 0 {
		return
	}

	b.WriteString("    exports: [\n")

	for _, e := range slices.SortedFunc(slices.Values(exports), func(a, b Export) int { return strings.Compare(a.Subject, b.Subject) }) {
		to := strings.Join(slices.Sorted(slices.Values(e.To)), ", ")
		switch {
		case e.Messages:
			fmt.Fprintf(b, "      { stream: %q, accounts: [%s] }\n", e.Subject, to)
		case e.answeredByMany():
			fmt.Fprintf(b, "      { service: %q, response: stream, accounts: [%s] }\n", e.Subject, to)
		default:
			fmt.Fprintf(b, "      { service: %q, accounts: [%s] }\n", e.Subject, to)
		}
	}

	b.WriteString("    ]\n")
}

func writeImports(b *strings.Builder, imports []Import) {
	if len(imports) == 0 {
		return
	}

	b.WriteString("    imports: [\n")

	for _, i := range slices.SortedFunc(slices.Values(imports), func(a, b Import) int { return strings.Compare(a.Subject, b.Subject) }) {
		kind, as := "service", ""
		if i.Messages {
			kind = "stream"
		}

		if i.As != "" {
			as = fmt.Sprintf(", to: %q", i.As)
		}

		if i.Share {
			as += ", share: true"
		}

		fmt.Fprintf(b, "      { %s: { account: %s, subject: %q }%s }\n", kind, i.From, i.Subject, as)
	}

	b.WriteString("    ]\n")
}

// answeredByMany reports whether a request gets more than one message in answer: this is so for messages that are
// fetched or read, and for what every instance of a service, or every server, says.
func (e Export) answeredByMany() bool {
	for _, prefix := range []string{"$JS.API.CONSUMER.MSG.NEXT.", "$JS.API.DIRECT.GET.", "$SRV.", "$SYS."} {
		if strings.HasPrefix(e.Subject, prefix) {
			return true
		}
	}

	return e.Subject == controlPrefix+string(Publisher)+".state"
}
