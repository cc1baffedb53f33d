package web

// What can be ordered, and what each order would do.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/breaker"
	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/control"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

// orders lists everything that can be ordered.
var orders = []order{
	{"pause", auth.Operator, planPause},
	{"resume", auth.Operator, planResume},
	{"mute", auth.Operator, planMute},
	{"check", auth.Operator, planCheck},
	{"refresh", auth.Operator, planRefresh},
	{"approve-mapping", auth.Approver, planApproveMapping},
	{"requeue", auth.Operator, planRequeue},
	{"drop", auth.Operator, planDrop},
	{"replay", auth.Operator, planReplay},
	{"replay-stop", auth.Operator, planStop},
	{"compare", auth.Operator, planCompare},
	{"apply", auth.Operator, planApply},
	{"approve", auth.Approver, planApprove},
	{"reject", auth.Approver, planReject},
	{"take-in", auth.Approver, planTakeIn},
}

// mayOrder returns a link to an order's form, for users who may give the order.
func (q *Request) mayOrder(least auth.Role, words, name string, pairs ...string) []Link {
	if q.who.Role < least {
		return nil
	}
	return []Link{{Text: words, Href: address(pathOrders+name, pairs...)}}
}

// only returns the values of a form that have these names and are not empty.
func only(form url.Values, names ...string) url.Values {
	named := url.Values{}
	for _, name := range names {
		for _, value := range form[name] {
			if value != "" {
				named.Add(name, value)
			}
		}
	}

	return named
}

// lasting returns the field for how long something lasts.
func lasting(preset string, choices ...string) Field {
	f := Field{Label: "For how long", Name: "for", Value: preset}
	for _, c := range choices {
		d, _ := time.ParseDuration(c) // the choices are constants of this file
		f.Options = append(f.Options, Link{Text: text.Ago(d), Href: c})
	}

	return f
}

// lasts reads that field. A value that the form did not offer may give zero, which the services refuse.
func lasts(form url.Values) time.Duration {
	d, _ := time.ParseDuration(form.Get("for"))
	return d
}

func planPause(q *Request, _ url.Values) (*plan, error) {
	f := q.facts()
	p := &plan{
		title: "Pause sending to AtHoc", back: Link{Text: "Now", Href: "/"}, button: "Pause", reason: true, level: verdict.Warning,
		forecast: text.Count(verdict.Waiting(f), "worker") + " wait already",
		fields: []Field{
			lasting("1h", "15m", "30m", "1h", "2h", "4h", "8h", "24h"),
			{Label: "What is held back", Name: "all", Options: []Link{{Text: "updates", Href: ""}, {Text: "updates, and what the janitor reads", Href: "yes"}}},
		},
		give: func(ctx context.Context, conn *bus.Conn, o client.Order, form url.Values) error {
			_, err := client.Pause(ctx, conn, o, control.PauseRequest{Reason: o.Reason, Seconds: int(lasts(form).Seconds()), All: form.Get("all") != ""})
			return err
		},
	}
	p.intro = "Nothing is sent to AtHoc until the pause ends, which it does by itself. Files are read meanwhile; afterwards each worker is sent once."
	p.blocks = []Block{{Facts: []Fact{{"Already waiting", words(text.Count(verdict.Waiting(f), "worker"))}, {"In force now", pauseCell(q, f.Pause)}}}}

	return p, nil
}

func pauseCell(q *Request, pause *breaker.Pause) Cell {
	if !pause.InForce(q.now()) {
		return words("no pause")
	}
	return words(fmt.Sprintf("a pause until %s by %s: %s. Another one takes its place", text.When(pause.Until), pause.By, pause.Reason))
}

func planResume(q *Request, _ url.Values) (*plan, error) {
	p := &plan{title: "Send to AtHoc again", back: Link{Text: "Now", Href: "/"}, intro: "There is no pause: nothing is held back."}
	pause := q.facts().Pause
	if !pause.InForce(q.now()) {
		return p, nil
	}

	waiting := text.Count(verdict.Waiting(q.facts()), "worker")
	p.intro, p.forecast = "The pause ends now: each worker who waits is sent once, with the latest status.", waiting+" to be sent"
	p.blocks = []Block{{Facts: []Fact{{"Waiting", words(waiting)}, {"In force", pauseCell(q, pause)}}}}
	p.set, p.reason, p.button = []string{pause.At.String(), pause.By}, true, "End the pause"
	p.give = func(ctx context.Context, conn *bus.Conn, o client.Order, _ url.Values) error {
		_, err := client.Resume(ctx, conn, o)
		return err
	}

	return p, nil
}

func planMute(q *Request, form url.Values) (*plan, error) {
	name := form.Get("feed")
	for _, in := range q.facts().Ingest {
		for _, f := range in.Feeds {
			if f.Name != name {
				continue
			}

			return &plan{
				title: "Mute the feed " + text.Clean(name), back: Link{Text: "Feeds", Href: "/feeds"}, named: only(form, "feed"), button: "Mute", reason: true,
				intro:    "Findings about what is unusual in this feed are muted until then. What is read and sent stays the same.",
				blocks:   []Block{{Facts: []Fact{{"State", words(client.FeedWords(f))}, {"Last file", moment(f.LastFile, q.now())}}}},
				forecast: "the feed is " + client.FeedWords(f),
				fields:   []Field{lasting("8h", "1h", "8h", "24h", "72h", "168h")},
				give: func(ctx context.Context, conn *bus.Conn, o client.Order, form url.Values) error {
					_, err := client.Mute(ctx, conn, o, control.FeedMuteRequest{Name: name, Seconds: int64(lasts(form).Seconds()), Reason: o.Reason})
					return err
				},
			}, nil
		}
	}

	return &plan{title: "Mute a feed", back: Link{Text: "Feeds", Href: "/feeds"}, intro: "No such feed is known: " + text.Dash(text.Clean(name)) + "."}, nil
}

func planRefresh(q *Request, _ url.Values) (*plan, error) {
	return &plan{
		title: "Refresh the mapping", back: Link{Text: "Mapping", Href: "/mapping"}, button: "Refresh",
		intro: "All of AtHoc's users are fetched. A mapping that would lose many employee ids is held back.",
		give: func(ctx context.Context, conn *bus.Conn, o client.Order, _ url.Values) error {
			_, err := client.Give[control.Begun](ctx, conn, o, topology.Janitor, control.MappingRefresh, control.RunRequest{})
			return err
		},
	}, nil
}

func planCheck(*Request, url.Values) (*plan, error) {
	return &plan{
		title: "Run check", back: Link{Text: "System", Href: "/system"}, button: "Run check",
		intro: "Each service looks at what it needs: directories, disk, broker, AtHoc. It takes some seconds, and changes nobody's status.",
		give: func(ctx context.Context, conn *bus.Conn, o client.Order, _ url.Values) error {
			_, err := client.Check(ctx, conn, o)
			return err
		},
	}, nil
}

func planApproveMapping(q *Request, _ url.Values) (*plan, error) {
	r, err := ask[control.MappingReport](q, topology.Janitor, control.MappingShow, control.Nothing{})
	if err != nil {
		return nil, err
	}

	p := &plan{title: "Approve a mapping", back: Link{Text: "Mapping", Href: "/mapping"}, intro: "No mapping is held back."}
	if h := r.Held; h != nil {
		p.intro, p.level = fmt.Sprintf("%s would lose their AtHoc user, and get no updates any more.", text.Count(h.Removed, "employee id")), verdict.Warning
		p.forecast = fmt.Sprintf("%d employee ids instead of %d: %d added, %d changed, %d removed", h.After, h.Before, h.Added, h.Changed, h.Removed)
		p.blocks = []Block{heldMapping(q, *h), {Text: []string{"AtHoc is asked again: if it gives something else than this, that is held back again."}}, mappingDifference(q, h.ID)}
		p.set, p.size, p.reason, p.button = []string{h.ID}, h.Removed, true, "Approve"
		p.give = func(ctx context.Context, conn *bus.Conn, o client.Order, _ url.Values) error {
			_, err := client.Give[control.Begun](ctx, conn, o, topology.Janitor, control.MappingApprove, control.ApproveRequest{ID: h.ID})
			return err
		}
	}

	return p, nil
}

// mappingDifference lists the employee ids that would lose their AtHoc user, or get another one.
func mappingDifference(q *Request, id string) Block {
	d, err := askWith[control.MappingDifference](q, q.orders, topology.Janitor, control.MappingHeld, control.Nothing{})
	if err == nil && d.ID != id {
		err = errors.New("another mapping is held back by now: load this page again")
	}

	if err != nil {
		return Block{Alert: "Who that is cannot be found out: " + sentence(err)}
	}

	t := &Table{Caption: "Who would lose an AtHoc user, or get another one", Plain: true, Columns: columns("Employee id", "AtHoc user now", "Then"), Empty: "Nobody."}
	for _, c := range append(d.Removed, d.Changed...) {
		t.Rows = append(t.Rows, []Cell{words(c.Employee), words(c.Before), words(cmp.Or(c.After, "nobody: no updates any more"))})
	}

	if len(d.Removed) == control.MaxMappingChanges || len(d.Changed) == control.MaxMappingChanges {
		t.Note = fmt.Sprintf("No more than %d of each are listed.", control.MaxMappingChanges)
	}

	return Block{Table: t}
}

// maxLetters is the most dead letters that one order is about.
const maxLetters = 1000

// lettersMeant returns the dead letters that were chosen: by id, by a part of their reason, or all.
func lettersMeant(q *Request, form url.Values) ([]client.Letter, error) {
	conn, err := q.connection(q.reads)
	if err != nil {
		return nil, err
	}

	all, err := client.DeadLetters(q.ctx, conn.JS)
	if err != nil {
		return nil, err
	}

	query := client.LetterQuery{Reason: form.Get("why")}
	for _, value := range form["id"] {
		id, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return nil, &notFound{"No dead letter has such an id: " + text.Clean(value)}
		}

		query.IDs = append(query.IDs, id)
	}

	if len(query.IDs) == 0 && query.Reason == "" && form.Get("all") == "" {
		return nil, nil
	}

	return query.Of(all), nil
}

// planLetters makes what both orders about dead letters share.
func planLetters(q *Request, form url.Values, title, button, endpoint string) (*plan, error) {
	letters, err := lettersMeant(q, form)
	if err != nil {
		return nil, err
	}

	p := &plan{title: title, back: Link{Text: "Dead letters", Href: "/dead"}, intro: "None is chosen, or none is left.", named: only(form, "id", "why", "all")}
	if len(letters) > maxLetters {
		letters = letters[:maxLetters]
		p.blocks = []Block{{Text: []string{fmt.Sprintf("There are more: this is about the oldest %d.", maxLetters)}}}
	}

	p.size = len(letters)
	if p.size == 0 {
		return p, nil
	}

	ids := client.IDs(letters)
	p.ids = ids
	for _, id := range ids {
		p.set = append(p.set, strconv.FormatUint(id, 10))
	}

	p.forecast, p.button = text.Count(p.size, "dead letter"), fmt.Sprintf("%s %d", button, p.size)
	p.blocks = append(p.blocks, Block{Table: byReason(q, letters, false)})
	p.give = func(ctx context.Context, conn *bus.Conn, o client.Order, _ url.Values) error {
		_, err := client.Letters(ctx, conn, o, endpoint, ids)
		return err
	}

	return p, nil
}

func planRequeue(q *Request, form url.Values) (*plan, error) {
	p, err := planLetters(q, form, "Requeue dead letters", "Requeue", control.DeadRequeue)
	if err != nil || p.button == "" {
		return p, err
	}

	p.intro = "They are tried again. Of whom a newer booking has won meanwhile, nothing is sent."

	conn, err := q.connection(q.orders)
	if err != nil {
		return nil, err
	}

	would, err := client.ForecastRequeue(q.ctx, conn, p.ids)
	if err != nil {
		p.blocks = append(p.blocks, Block{Alert: "What would become of them cannot be found out: " + sentence(err)})
		return p, nil
	}

	p.forecast += ": " + client.RequeueWords(would)
	p.blocks = append(p.blocks, Block{Text: []string{"As it is now, " + client.RequeueWords(would) + "."}})

	return p, nil
}

func planDrop(q *Request, form url.Values) (*plan, error) {
	p, err := planLetters(q, form, "Drop dead letters", "Drop", control.DeadDrop)
	if err == nil && p.button != "" {
		p.intro, p.level, p.reason, p.typed = "What they hold is never sent, and their files stay among the failed ones.", verdict.Warning, true, true
	}

	return p, err
}

// manyUsers is the most users that a replay may have without a reason.
const manyUsers = 100

// planReplay asks first whom to replay.
func planReplay(q *Request, form url.Values) (*plan, error) {
	back := Link{Text: "Replays", Href: "/replay"}
	req, named, err := replayRequest(q, form)
	if err != nil || named == nil {
		p := &plan{title: "Replay", back: back, intro: "The latest status of whom is to be sent again?", blocks: []Block{{Form: whomForm(form)}}}
		if err != nil {
			p.blocks = append([]Block{{Alert: upper(text.Clean(err.Error())) + "."}}, p.blocks...)
		}

		return p, nil
	}

	state, err := askWith[control.ReplayState](q, q.orders, topology.Resolver, control.ReplayForecast, req)
	if err != nil {
		return nil, err
	}

	sending, sendErr := ask[control.SendingState](q, topology.Publisher, control.Sending, control.Nothing{})

	calls, lasts := client.Effort(state.Users, sending)
	p := &plan{
		title: "Replay", back: back, named: named, size: state.Users, set: []string{named.Encode()}, reason: state.Users > manyUsers,
		intro: fmt.Sprintf("The latest status of %s (%s) would be sent again. Newer bookings win.", text.Count(state.Users, "user"), text.Clean(state.What)),
		blocks: []Block{{Facts: []Fact{
			{"Users", number(state.Users)}, {"Calls", number(calls)}, {"Takes about", words(text.Ago(lasts))}, {"Left out, since they are held", number(state.Held)},
			{"When", words(client.WhenSent(calls, lasts, sending, sendErr, q.now()))},
		}}},
		forecast: fmt.Sprintf("%s, %s, about %s", text.Count(state.Users, "user"), text.Count(calls, "call"), lasts.Round(time.Second)),
	}
	if state.Users > 0 {
		p.button = fmt.Sprintf("Replay %d", state.Users)
	}

	p.give = func(ctx context.Context, conn *bus.Conn, o client.Order, _ url.Values) error {
		_, err := client.Replay(ctx, conn, o, req)
		return err
	}

	return p, nil
}

// whomForm returns the form that asks whom to replay.
func whomForm(form url.Values) *Form {
	return &Form{
		Action: pathOrders + "replay", Label: "Which (for all: nothing)", Name: "which", Value: form.Get("which"), Button: "Show the forecast",
		Hint: "Several ids or usernames have commas between them. A time is like 2026-06-17 14:30, or how long ago, like 90m.",
		More: []Field{{Label: "Whom", Name: "whom", Value: form.Get("whom"), Options: []Link{
			{Text: "these employee ids", Href: "workers"}, {Text: "these AtHoc users", Href: "users"}, {Text: "everybody in this file", Href: "file"},
			{Text: "whose status changed since", Href: "since"}, {Text: "everybody", Href: "all"},
		}}},
	}
}

// replayRequest reads whom a form means; named is nil if the form does not say. For a time that is given as how long
// ago, named has the moment.
func replayRequest(q *Request, form url.Values) (req control.ReplayRequest, named url.Values, err error) {
	whom, which := form.Get("whom"), strings.TrimSpace(form.Get("which"))
	if whom == "" || which == "" && whom != "all" {
		return req, nil, nil
	}

	switch whom {
	case "workers":
		req.Workers = list(which)
	case "users":
		req.Users = list(which)
	case "since":
		if req.Since, err = client.Moment(which, q.now().Local()); err == nil {
			which = req.Since.Format(time.RFC3339)
			req.Since, err = time.Parse(time.RFC3339, which)
		}
	case "file":
		conn, failure := q.connection(q.reads)
		if err = failure; err == nil {
			req.File, err = client.FileID(q.ctx, conn, which)
			which = req.File
		}
	case "all":
		req.All, which = true, ""
	default:
		err = fmt.Errorf("nobody is chosen by %q", whom)
	}

	return req, url.Values{"whom": {whom}, "which": {which}}, err
}

// list splits names that are separated by commas, semicolons or blanks.
func list(names string) []string {
	return strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' || r == ';' })
}

func planStop(q *Request, form url.Values) (*plan, error) {
	all, err := ask[[]control.ReplayState](q, topology.Resolver, control.Replays, control.Nothing{})
	if err != nil {
		return nil, err
	}

	p := &plan{title: "Stop a replay", back: Link{Text: "Replays", Href: "/replay"}, intro: "That replay is not under way."}
	for _, r := range all {
		if r.ID != form.Get("id") || !r.Ended.IsZero() {
			continue
		}

		p.intro, p.named, p.set, p.reason, p.button = "What is not published yet is not sent.", only(form, "id"), []string{r.ID}, true, "Stop it"
		p.forecast = fmt.Sprintf("%d of %d users are not published", r.Left, r.Users)
		p.blocks = []Block{{Facts: []Fact{{"Not published yet", number(r.Left)}, {"Of", number(r.Users)}, {"Begun by", words(r.By)}}}}
		p.give = func(ctx context.Context, conn *bus.Conn, o client.Order, _ url.Values) error {
			_, err := client.StopReplay(ctx, conn, o, r.ID)
			return err
		}
	}

	return p, nil
}

func giveReconcile(req control.ReconcileRequest) func(context.Context, *bus.Conn, client.Order, url.Values) error {
	return func(ctx context.Context, conn *bus.Conn, o client.Order, _ url.Values) error {
		_, err := client.Give[control.Begun](ctx, conn, o, topology.Janitor, control.Reconcile, req)
		return err
	}
}

func planCompare(*Request, url.Values) (*plan, error) {
	return &plan{
		title: "Compare with AtHoc", back: Link{Text: "Comparison", Href: "/reconcile"}, button: "Compare",
		intro: "What AtHoc holds for each user is compared with the latest bookings. Nothing is sent.", give: giveReconcile(control.ReconcileRequest{}),
	}, nil
}

// planApply is for exactly the comparison that was shown. If that was held back, or would be, an approver has to give
// the order.
func planApply(q *Request, _ url.Values) (*plan, error) {
	conn, err := q.connection(q.reads)
	if err != nil {
		return nil, err
	}

	r, err := client.LastReport(q.ctx, conn)
	if err != nil {
		return nil, err
	}

	p := &plan{title: "Send what differs", back: Link{Text: "Comparison", Href: "/reconcile"}, intro: "The last comparison found nobody who differs."}
	if r.Differing == r.Applied {
		return p, nil
	}

	force := r.TooMany != "" || r.Held != "" // the janitor may be of a version that reports only what it has held back
	p.intro = fmt.Sprintf("AtHoc is compared again, and users who differ then are sent the right status. In the last comparison that were %d of %s.", r.Differing, text.Count(r.Compared, "user"))
	p.set, p.size, p.reason, p.typed = []string{r.Entry}, r.Differing, force, force
	p.forecast, p.button = text.Count(r.Differing, "user")+" differ", fmt.Sprintf("Send %d", r.Differing)
	if force {
		p.least, p.level = auth.Approver, verdict.Warning

		words := "It would be held back: "
		if r.Held != "" {
			words = "It was held back: "
		}

		p.blocks = []Block{{Alert: words + text.Clean(cmp.Or(r.Held, r.TooMany)) + ". With this it is sent all the same."}}
	}

	t := differing(r)
	t.Plain = true
	if more := len(t.Rows) - rowsAtOnce; more > 0 {
		t.Rows, t.Note = t.Rows[:rowsAtOnce], fmt.Sprintf("and %d more, whom the comparison lists", more)
	}

	p.blocks = append(p.blocks, Block{Table: t})
	p.give = giveReconcile(control.ReconcileRequest{Apply: true, Force: force})

	return p, nil
}

func planApprove(q *Request, form url.Values) (*plan, error) {
	return planDecision(q, form, true)
}

func planReject(q *Request, form url.Values) (*plan, error) {
	return planDecision(q, form, false)
}

// planDecision is for exactly those users of a mass change who were shown.
func planDecision(q *Request, form url.Values, approve bool) (*plan, error) {
	conn, err := q.connection(q.orders)
	if err != nil {
		return nil, err
	}

	set, err := client.HeldSet(q.ctx, conn, form.Get("id"))
	if err != nil {
		return nil, err
	}

	p := &plan{
		title: "Reject a mass change", back: Link{Text: "Decision", Href: "/decisions/" + set.ID}, level: verdict.Warning, named: only(form, "id"),
		set: []string{set.Token}, size: set.Users, typed: true, reason: true, button: fmt.Sprintf("Reject %d", set.Users),
		intro:    fmt.Sprintf("%s would never %s: AtHoc goes on showing what it shows, and their file goes to the failed ones.", text.Count(set.Users, "user"), client.WouldWords(set.Kind)),
		forecast: fmt.Sprintf("on duty %d now and after it", set.OnDutyNow),
		fields:   []Field{{Label: "These stay held (employee ids, with commas between)", Name: "except"}},
	}
	if approve {
		p.title, p.button = "Approve a mass change", fmt.Sprintf("Approve %d", set.Users)
		p.intro = fmt.Sprintf("%s will %s. On duty: %d now, %d after it%s.", text.Count(set.Users, "user"), client.WouldWords(set.Kind), set.OnDutyNow, set.OnDutyAfter, client.UsualWords(set))
		p.forecast = fmt.Sprintf("on duty %d now, %d after it", set.OnDutyNow, set.OnDutyAfter)
	}

	p.blocks = []Block{{Facts: fromFiles(set, client.FileNames(q.ctx, conn, slices.Sorted(maps.Keys(set.Files))))}}
	p.give = func(ctx context.Context, conn *bus.Conn, o client.Order, form url.Values) error {
		_, err := client.Decide(ctx, conn, o, control.HeldDecision{ID: set.ID, Token: set.Token, Approve: approve, Except: list(form.Get("except")), Reason: o.Reason})
		return err
	}

	return p, nil
}

func planTakeIn(q *Request, form url.Values) (*plan, error) {
	held, err := ask[control.HeldAnswer](q, topology.Resolver, control.Held, control.Nothing{})
	if err != nil {
		return nil, err
	}

	p := &plan{title: "Take in what was rejected", back: Link{Text: "Decisions", Href: "/decisions"}, intro: "No such mass change was rejected."}
	for _, g := range held.Decided {
		if g.ID != form.Get("id") || g.Decision != "rejected" {
			continue
		}

		p.intro, p.level = "The status of each of these is sent, unless a newer booking has won meanwhile.", verdict.Warning
		p.named, p.set, p.size, p.typed, p.reason, p.button = only(form, "id"), []string{g.ID, g.Decided.String()}, g.Users, true, true, fmt.Sprintf("Take in %d", g.Users)
		p.forecast = text.Count(g.Users, "user")
		p.blocks = []Block{{Facts: []Fact{{"Users", number(g.Users)}, {"Rejected by", words(g.By)}, {"Reason", words(cmp.Or(g.Reason, "–"))}}}}
		p.give = func(ctx context.Context, conn *bus.Conn, o client.Order, _ url.Values) error {
			_, err := client.TakeIn(ctx, conn, o, control.HeldDecision{ID: g.ID, Reason: o.Reason})
			return err
		}
	}

	return p, nil
}
