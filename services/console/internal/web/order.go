package web

// Orders. All follow one pattern: a form that says what the order would do and to whom exactly, the order itself, and a
// page that stays and shows the result.

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bobosync/services/console/internal/auth"
	"bobosync/shared/audit"
	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/verdict"
)

const (
	// orderTimeout is how long an order may take. An order goes on even if the browser is gone.
	orderTimeout = 5 * time.Minute
	// maxReason is the longest reason, in bytes.
	maxReason = 500

	pathOrders = "/orders/"
	pathGiven  = "/given/"
)

// order is something that can be ordered, at /orders/NAME.
type order struct {
	name  string
	least auth.Role
	// plan returns what the order would do, given the values of the address or the form. It changes nothing.
	plan func(*Request, url.Values) (*plan, error)
}

// plan is an order that could be given.
type plan struct {
	title, intro string
	level        verdict.Level
	// blocks show the forecast; forecast is the forecast for the audit.
	blocks   []Block
	forecast string
	// named are the values that name what is meant; they are sent with the form.
	named url.Values
	// set is exactly what the order is about: if it has changed when the order arrives, nothing is done. size counts
	// whom or what it affects, and typed says that this number has to be typed.
	set   []string
	ids   []uint64 // of dead letters
	size  int
	typed bool
	// reason says that a reason has to be given.
	reason bool
	fields []Field
	// least is the role that the order needs, if that is more than what its form needs.
	least auth.Role
	back  Link
	// button is the button's text; if it is empty, there is nothing to order here.
	button string
	give   func(context.Context, *bus.Conn, client.Order, url.Values) error
}

// token returns a hash of the set.
func (p *plan) token() string {
	sum := sha256.Sum256([]byte(strings.Join(p.set, "\n")))
	return hex.EncodeToString(sum[:16])
}

// The fields of every form of an order; all others are the order's own.
const (
	fieldOnce, fieldSet, fieldSize = "once", "set", "size"
	fieldReason, fieldNumber       = "reason", "number"
)

// view returns the page with the order's form.
func (o order) view() view {
	return view{path: pathOrders + o.name, least: o.least, render: func(q *Request) (*Page, error) {
		p, err := o.plan(q, q.url.Query())
		if err != nil {
			return nil, err
		}

		return orderPage(q, o, p, url.Values{}, ""), nil
	}}
}

// orderPage returns the page with the form and what was typed; wrong says why the order was not given.
func orderPage(q *Request, o order, p *plan, typed url.Values, wrong string) *Page {
	page := &Page{Title: p.title, Intro: p.intro, Level: p.level, Blocks: p.blocks}
	if p.back.Href != "" {
		page.Subs = []Link{{Text: "Back to " + p.back.Text, Href: p.back.Href}}
	}

	if wrong != "" {
		page.Blocks = append([]Block{{Alert: wrong}}, page.Blocks...)
	}

	switch {
	case p.button == "":
		return page
	case q.who.Role < p.least:
		page.Blocks = append(page.Blocks, Block{Text: []string{"This is for somebody with the role " + p.least.String() + " to order."}})
		return page
	}

	once := typed.Get(fieldOnce)
	if once == "" {
		once = audit.NewFamily()
	}

	f := p.form(o.name, once)
	for name, values := range p.named {
		for _, value := range values {
			f.Hidden = append(f.Hidden, Field{Name: name, Value: value})
		}
	}

	for _, field := range p.fields {
		if typed.Has(field.Name) {
			field.Value = typed.Get(field.Name)
		}

		f.More = append(f.More, field)
	}

	if p.reason {
		f.More = append(f.More, Field{Label: "Reason, for the record and without personal data", Name: fieldReason, Value: typed.Get(fieldReason), Required: true})
	}

	if p.typed {
		f.More = append(f.More, Field{Label: fmt.Sprintf("Type the number %d", p.size), Name: fieldNumber, Value: typed.Get(fieldNumber), Number: true, Required: true})
	}

	page.Blocks = append(page.Blocks, Block{Form: f})

	return page
}

// form returns the form of an order without the order's own fields.
func (p *plan) form(name, once string) *Form {
	return &Form{Post: true, Action: pathOrders + name, Button: p.button, Hidden: []Field{
		{Name: fieldOnce, Value: once}, {Name: fieldSet, Value: p.token()}, {Name: fieldSize, Value: strconv.Itoa(p.size)},
	}}
}

// oneClick returns a form that gives an order from another page than the order's own, for users who may give it. The
// order is about nothing in particular, so that there is no forecast to read first.
func oneClick(q *Request, name, button string) *Form {
	if !q.operator() {
		return nil
	}
	return (&plan{button: button}).form(name, audit.NewFamily())
}

// give gives the order that a form sends: once, however often the form is sent. It leads to the page with the result.
func (s *Site) give(o order) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := s.request(r, r.URL, "")
		if r.ParseForm() != nil {
			s.write(w, r, q, http.StatusBadRequest, &Page{Title: "Nothing was ordered", Level: verdict.Warning, Intro: "The form cannot be read, or is too long."})
			return
		}

		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), orderTimeout)
		defer cancel()

		status, page := s.order(ctx, q, o, r.PostForm)
		if page == nil {
			http.Redirect(w, r, pathGiven+r.PostForm.Get(fieldOnce), http.StatusSeeOther)
			return
		}

		s.write(w, r, q, status, page)
	}
}

// order gives an order, unless it was given before. If it returns no page, the order is recorded.
func (s *Site) order(ctx context.Context, q *Request, o order, form url.Values) (int, *Page) {
	nothing := func(err error) (int, *Page) {
		return http.StatusServiceUnavailable, &Page{Title: "Nothing was ordered", Level: verdict.Problem, Intro: sentence(err)}
	}
	p, err := o.plan(q, form)
	status, wrong := 0, ""
	if err == nil {
		status, wrong = p.wrong(q.who, form)
	}

	// This is asked after the plan was made: whatever another click has changed by then was recorded before.
	given, failure := wasGiven(ctx, q, form.Get(fieldOnce))
	switch {
	case failure != nil:
		return nothing(failure)
	case given:
		return 0, nil
	case err != nil:
		return nothing(err)
	case wrong != "":
		return status, orderPage(q, o, p, form, "Nothing was done: "+wrong)
	}

	if err = s.follow(ctx, q, p, form); err == nil {
		return 0, nil
	}

	if given, failure := wasGiven(ctx, q, form.Get(fieldOnce)); failure == nil && given {
		return 0, nil
	}

	return nothing(err)
}

// follow gives the order over the operator's connection.
func (s *Site) follow(ctx context.Context, q *Request, p *plan, form url.Values) error {
	conn, err := q.connection(q.orders)
	if err != nil {
		return err
	}

	err = p.give(ctx, conn, client.Order{
		By: q.who.By(), Once: form.Get(fieldOnce), Selection: p.token(), Forecast: p.forecast, Reason: strings.TrimSpace(form.Get(fieldReason)),
		Warn: func(err error) { s.log.Warn("an order was given, and the journal has no note of it", "error", err) },
	}, form)

	s.facts.Changed()

	return err
}

// wasGiven reports whether an order was given before.
func wasGiven(ctx context.Context, q *Request, once string) (bool, error) {
	conn, err := q.connection(q.reads)
	if err != nil {
		return false, err
	}

	found, err := audit.Find(ctx, conn.JS, once)

	return len(found) > 0, err
}

// wrong returns why an order is not given as it was sent; why is empty if nothing is wrong.
func (p *plan) wrong(who auth.Identity, form url.Values) (status int, why string) {
	reason, number := strings.TrimSpace(form.Get(fieldReason)), strings.TrimSpace(form.Get(fieldNumber))
	switch {
	case p.button == "":
		return http.StatusConflict, "there is nothing to order here any more."
	case who.Role < p.least:
		return http.StatusForbidden, "it needs the role " + p.least.String() + "."
	case form.Get(fieldSet) != p.token():
		return http.StatusConflict, changed(form.Get(fieldSize), p.size)
	case p.reason && reason == "":
		return http.StatusUnprocessableEntity, "give a reason."
	case len(reason) > maxReason:
		return http.StatusUnprocessableEntity, fmt.Sprintf("the reason is longer than %d characters.", maxReason)
	case p.typed && number != strconv.Itoa(p.size):
		return http.StatusUnprocessableEntity, fmt.Sprintf("type the number %d, to show that you know how many it is about.", p.size)
	default:
		return 0, ""
	}
}

// changed says how a set differs from the one that was shown.
func changed(before string, now int) string {
	then, err := strconv.Atoi(before)
	switch {
	case err == nil && now > then:
		return fmt.Sprintf("%d more came since you looked. This is how it is now.", now-then)
	case err == nil && now < then:
		return fmt.Sprintf("%d went since you looked. This is how it is now.", then-now)
	default:
		return "it has changed since it was shown to you. This is how it is now."
	}
}
