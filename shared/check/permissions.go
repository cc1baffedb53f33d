package check

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"bobosync/shared/topology"
)

// permitted is what the broker permits a user, as $SYS.REQ.USER.INFO reports it: a missing list means no bound.
type permitted struct {
	Publish   *bounds `json:"publish"`
	Subscribe *bounds `json:"subscribe"`
}

type bounds struct {
	Allow []string `json:"allow"`
	Deny  []string `json:"deny"`
}

// mayAsk reports whether the broker permits a request; what it has not reported counts as permitted.
func (f *facts) mayAsk(subject string) bool { return f.permitted.Publish.permit(subject) }

// checkPermissions asks the broker what this user may do, and compares the answer with what the service does. Trying it
// out would mean publishing.
func checkPermissions(ctx context.Context, f *facts) []Result {
	const subject = "$SYS.REQ.USER.INFO"

	ctx, cancel := f.part(ctx, askShare/2)
	defer cancel()

	answer, err := f.nc.RequestWithContext(ctx, subject, nil)
	if err != nil {
		return skipped("the broker does not report this user's permissions: allow it to publish to %s to have them checked", subject)
	}

	var info struct {
		Data struct {
			Account     string     `json:"account"`
			Permissions *permitted `json:"permissions"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		return skipped("the broker's word on this user's permissions cannot be read")
	}

	if info.Data.Permissions == nil {
		return good("this user may do everything in account %s", info.Data.Account)
	}

	f.permitted = *info.Data.Permissions
	if f.Running && f.inside {
		return good("the services have the rights of their own at the broker inside")
	}

	return judgePermissions(f.Service, f.permitted, f.nc.NewInbox())
}

// judgePermissions compares what is permitted with what the service's user needs. For the all-in-one program the rights
// of any one user are enough, because operators run the check with their own credentials.
func judgePermissions(service topology.Service, p permitted, inbox string) []Result {
	users := slices.DeleteFunc(topology.Users(), func(u topology.User) bool { return u.Account == topology.AccountSystem })
	if service != topology.Everyone {
		users = slices.DeleteFunc(users, func(u topology.User) bool { return u.Name != string(service) })
	}

	var rights []string
	var lacking []missingRights
	for _, u := range users {
		missing := missingOf(u, p, inbox)
		if len(missing.work) == 0 {
			rights = append(rights, u.Name)
		} else if isService(u.Name) {
			lacking = append(lacking, missing)
		}
	}

	switch {
	case len(lacking) == 0 && len(rights) > 1:
		return good("this user may do all that the services do")
	case len(rights) > 0:
		text := fmt.Sprintf("this user has the rights of %s", strings.Join(rights, ", "))
		if service == topology.Everyone {
			text += "; give each service its own credentials, and check them with --service"
		}

		return good("%s", text)
	}

	var results []Result
	for _, m := range lacking {
		results = append(results, m.judge()...)
	}

	return results
}

func isService(name string) bool {
	return slices.Contains([]topology.Service{topology.Ingest, topology.Resolver, topology.Publisher, topology.Janitor}, topology.Service(name))
}

// missingRights are the rights that a user needs and lacks.
type missingRights struct {
	user string
	work []string
}

// missingOf lists which rights a user lacks. Answers arrive at an inbox of any name.
func missingOf(u topology.User, p permitted, inbox string) missingRights {
	m := missingRights{user: u.Name}
	if !p.Subscribe.permit(inbox) {
		m.work = append(m.work, "subscribe to "+inbox) // nothing works without answers
	}

	for _, subject := range u.Publish {
		if !p.Publish.permit(subject) {
			m.work = append(m.work, "publish to "+subject)
		}
	}

	for _, subject := range u.Subscribe {
		if !strings.HasPrefix(subject, topology.Inbox(u.Name)+".") && !p.Subscribe.permit(subject) {
			m.work = append(m.work, "subscribe to "+subject)
		}
	}

	return m
}

// maxNamed is how many missing rights a message names.
const maxNamed = 4

func (m missingRights) judge() []Result {
	return bad("allow it in the broker's configuration: deploy/nats/accounts.conf shows what each user needs",
		"%s cannot work with these credentials: they may not %s", m.user, some(m.work))
}

// some names the first few of a list.
func some(all []string) string {
	if len(all) <= maxNamed {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:maxNamed], ", "), len(all)-maxNamed)
}

// permit reports whether all subjects of a pattern are within the bounds. It does not combine several allowed patterns.
func (b *bounds) permit(subject string) bool {
	if b == nil {
		return true
	}

	matches := func(pattern string) bool { return covers(pattern, subject) }
	if slices.ContainsFunc(b.Deny, matches) {
		return false
	}

	return len(b.Allow) == 0 || slices.ContainsFunc(b.Allow, matches)
}

// covers reports whether a pattern with NATS wildcards matches a subject, or everything that another pattern matches.
// It ignores a queue name after the pattern.
func covers(pattern, subject string) bool {
	pattern, _, _ = strings.Cut(pattern, " ")

	want, have := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i, token := range want {
		switch {
		case token == ">":
			return len(have) > i
		case i >= len(have), have[i] == ">", token != "*" && token != have[i]:
			return false
		}
	}

	return len(want) == len(have)
}
