package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"bobosync/shared/athoc"
	"bobosync/shared/breaker"
	"bobosync/shared/text"
)

// sample is how many users' attribute values are checked.
const sample = 50

// search returns the first page of the matching users; the page is empty if none match.
func (f *facts) search(ctx context.Context, q athoc.Query) (athoc.Page, error) {
	if err := f.pace(ctx, false); err != nil {
		return athoc.Page{}, &athoc.CallError{Kind: athoc.Outage, Op: athoc.OpSearch, Err: err}
	}

	for page, err := range f.client.SearchUsers(ctx, q) {
		if len(page.Users) == 0 {
			page.Total = 0 // users that AtHoc counts but does not return are of no use
		}
		return page, err
	}

	return athoc.Page{}, nil
}

// checkOrganisation searches for any user, which needs the organisation and the right to read.
func checkOrganisation(ctx context.Context, f *facts) []Result {
	page, err := f.search(ctx, athoc.Query{PageSize: 1})
	if err != nil {
		return f.explain(err, breaker.State{})
	}

	f.total = page.Total
	if len(page.Users) == 0 {
		return bad("check ORG_CODE, and which users the account of APIUSER may see", "the organisation has no user that this account can see")
	}

	pages := (page.Total + athoc.MaxPageSize - 1) / athoc.MaxPageSize

	return good("%s, fetched in %s", text.Count(page.Total, "user"), text.Count(pages, "page"))
}

// unknownAttribute judges a search that AtHoc rejects as invalid; ok is false if it failed for another reason.
func unknownAttribute(err error, variable, attribute string) ([]Result, bool) {
	call, is := errors.AsType[*athoc.CallError](err)
	if !is || call.Kind != athoc.BadRequest {
		return nil, false
	}

	return bad(fmt.Sprintf("set %s to the attribute's common name in AtHoc, letter by letter", variable),
		"AtHoc has no attribute %q that can be searched for%s", attribute, said(call)), true
}

// checkDuty checks that the duty-status attribute exists and that its values are dates.
func checkDuty(ctx context.Context, f *facts) []Result {
	field := f.AtHoc.DutyStatusField
	page, err := f.search(ctx, athoc.Query{Fields: []string{field}, Criteria: field + " pr", PageSize: sample})
	if results, ok := unknownAttribute(err, "DUTY_STATUS_FIELD", field); ok {
		return results
	}

	if err != nil {
		return f.explain(err, breaker.State{})
	}

	values := make([]string, 0, len(page.Users))
	for _, u := range page.Users {
		values = append(values, u.Attribute(field))
	}

	return judgeDuty(field, values, page.Total, f.AtHoc.Zone.Location(), f.Now())
}

// maxAhead is how far in the future a duty status may begin before the time zone is suspect.
const maxAhead = 15 * time.Minute

// judgeDuty judges a sample of the attribute's values.
func judgeDuty(field string, values []string, total int, loc *time.Location, now time.Time) []Result {
	future := 0
	for _, v := range values {
		at, err := athoc.ParseTime(v, loc)
		if err != nil {
			return bad("set DUTY_STATUS_FIELD to an attribute of the type date and time", "attribute %q holds something else than dates and times of the form dd/MM/yyyy HH:mm:ss", field)
		}

		if at.Sub(now) > maxAhead {
			future++
		}
	}

	switch {
	case future > 0:
		return warn("set ATHOC_TIMEZONE to the zone of AtHoc's clock", "attribute %q: %d of %d values checked lie in the future, if ATHOC_TIMEZONE is %s", field, future, len(values), loc)
	case len(values) == 0:
		return good("%q is there; nobody is on duty now, so no value shows whether it is a date and time", field)
	}

	return good("%q is there and a date and time; on duty now: %d", field, total)
}

// checkRight finds out whether the duty status may be written, without writing one: it sends an update for a user who
// certainly does not exist. The call sets syncExistingUsersOnly, with which AtHoc creates nobody; the services make
// such calls whenever the mapping is stale. The update clears the attribute rather than setting it, so that not even a
// time is sent.
//
// The answer shows whether the account may use the call at all: without the role AtHoc answers 403. Whether AtHoc
// checks the attribute before the user is not documented, so an answer that complains only about the user says nothing
// about the right to this attribute.
func checkRight(ctx context.Context, f *facts) []Result {
	if err := f.pace(ctx, true); err != nil {
		return judgeCall(&athoc.CallError{Kind: athoc.Outage, Op: athoc.OpUpdate, Err: err})
	}

	nobody := "bobosync-check-" + strings.ToLower(rand.Text())

	results, err := f.client.UpdateDutyStatus(ctx, []athoc.DutyStatus{{Username: nobody}})
	if err != nil {
		return f.explain(err, breaker.State{})
	}

	return judgeRight(results[0], f.AtHoc.DutyStatusField)
}

func judgeRight(r athoc.Result, field string) []Result {
	detail := ""
	if r.Detail != "" {
		detail = "; it says: " + r.Detail
	}

	switch r.Outcome {
	case athoc.UnknownUser:
		return good("the account may call for updates (tried with a user who does not exist, nobody was changed)")
	case athoc.Invalid:
		return bad("check in AtHoc that DUTY_STATUS_FIELD is a date and time that the API may write", "AtHoc does not take the attribute %q in an update%s", field, detail)
	case athoc.ForbiddenUser:
		return warn("give the account of APIUSER the right to change users and this attribute", "AtHoc denies the right to write%s", detail)
	case athoc.Applied:
		return bad("stop the services, remove the user in AtHoc whose name begins with bobosync-check-, and ask AtHoc's support",
			"AtHoc took an update of a user who cannot exist: it does not keep to syncExistingUsersOnly")
	}

	return warn("check again; if it stays, ask AtHoc's support", "AtHoc's answer to an update of a user who does not exist does not show whether the right is there%s", detail)
}

// checkCollar checks that the attribute with the employee id exists, and how many users have one. It also checks the
// other attributes that are fetched with the users.
func checkCollar(ctx context.Context, f *facts) []Result {
	page, err := f.search(ctx, athoc.Query{Fields: []string{f.CollarField}, Criteria: f.CollarField + " pr", PageSize: 1})
	if results, ok := unknownAttribute(err, "COLLAR_ID_FIELD", f.CollarField); ok {
		return results
	}

	if err != nil {
		return f.explain(err, breaker.State{})
	}

	results := judgeCollar(f.CollarField, page.Total, f.total)
	if len(f.UserAttributes) == 0 {
		return results
	}

	_, err = f.search(ctx, athoc.Query{Fields: f.UserAttributes, PageSize: 1})
	if missing, ok := unknownAttribute(err, "USER_ATTRIBUTES", strings.Join(f.UserAttributes, ",")); ok {
		return append(results, named("user attributes", missing)...)
	}

	if err != nil {
		return append(results, named("user attributes", f.explain(err, breaker.State{}))...)
	}

	return results
}

func judgeCollar(field string, with, all int) []Result {
	const advice = "set COLLAR_ID_FIELD to the attribute that holds the workers' numbers in BOBO, or have it filled in in AtHoc"
	switch {
	case with == 0:
		return bad(advice, "%q is there, but no user has a value: no worker can be found", field)
	case with*2 < all:
		return warn(advice, "only %d of %d users have a value of %q: the others' bookings go nowhere", with, all, field)
	}

	return good("%q is there; %d of %d users have one", field, with, all)
}
