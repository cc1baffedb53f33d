package athoc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// DutyStatus is the duty status that a user should have.
type DutyStatus struct {
	// Username is the user's LOGIN_ID.
	Username string
	// Since is when the user booked on. The zero time means off duty, and clears the attribute.
	Since time.Time
}

// Outcome is what became of one user in an update. The zero Outcome is none of them.
type Outcome int

// The outcomes, from the best to the worst: if AtHoc reports on a user twice, the worse report counts.
const (
	// Applied: AtHoc holds the value now.
	Applied Outcome = iota + 1
	// UnknownUser: the organisation has no such user. Trying again is of no use.
	UnknownUser
	// ForbiddenUser: the operator may not change this user. Trying again is of no use.
	ForbiddenUser
	// Invalid: the attribute is unknown or the value is not valid. The same call would fail for ever.
	Invalid
	// Transient: a partial success, an error of another sort, or no report at all. Try again, this user alone.
	Transient
)

// String returns a fixed snake_case word, fit for a log or a metric label.
func (o Outcome) String() string {
	names := [...]string{
		Applied: "applied", UnknownUser: "unknown_user", ForbiddenUser: "forbidden_user",
		Invalid: "invalid", Transient: "transient",
	}
	if o < Applied || int(o) >= len(names) {
		return fmt.Sprintf("outcome_%d", int(o))
	}

	return names[o]
}

// Result is what became of one user.
type Result struct {
	// Username is the username as the caller gave it.
	Username string
	Outcome  Outcome
	// Detail is what AtHoc said, shortened and without the username; empty if it said nothing.
	Detail string
}

// Guard is asked at the last moment before an update goes onto the network, when the token and the connection are
// ready, and again before a repeat. If it returns an error, nothing is sent, and the call fails as [Canceled] with that
// error inside. It runs in a goroutine other than the call's, and must return soon once its context ends.
type Guard func(ctx context.Context) error

// UpdateOption changes one update.
type UpdateOption func(*exchange)

// WithGuard makes the update ask g before it sends anything, for instance whether the caller still holds its lease.
func WithGuard(g Guard) UpdateOption { return func(x *exchange) { x.guard = g } }

// WithRepeat makes the update ask g before it is repeated with another access token: AtHoc counts that as a separate
// call.
func WithRepeat(g Guard) UpdateOption { return func(x *exchange) { x.repeat = g } }

// updateQuery returns the query that makes the safety rules part of the address: update only users that exist, and none
// of them in part.
func updateQuery(source string) string {
	const rules = "?syncExistingUsersOnly=true&AllowPartialUpdate=false"
	if source == "" {
		return rules
	}

	return rules + "&sourceIdentifier=" + url.QueryEscape(source)
}

// UpdateDutyStatus writes the duty status of users that exist, in one request, and returns what became of each: one
// result for each user, in the order of users. A username may occur in users only once, whatever its letter case: AtHoc
// would apply the two in an order of its own. Usernames that cannot be sent (empty, or not UTF-8) are [Invalid] and are
// left out of the call.
//
// The error is a [*CallError]; there are no results then, but values may have been written all the same, as
// [CallError.MayHaveApplied] reports. Repeating an update does no harm. Nothing is retried, except once after a 401.
func (c *Client) UpdateDutyStatus(ctx context.Context, users []DutyStatus, opts ...UpdateOption) ([]Result, error) {
	if strings.TrimSpace(c.cfg.DutyStatusField) == "" {
		// Not a BadRequest: no user is to blame.
		return nil, &CallError{Kind: NotFound, Op: OpUpdate, Detail: "DUTY_STATUS_FIELD is not set, so there is nothing to write to"}
	}

	report, err := newReport(users)
	if err != nil {
		return nil, &CallError{Kind: BadRequest, Op: OpUpdate, Detail: err.Error(), Err: err}
	}

	if len(report.index) == 0 {
		return report.results, nil
	}

	body, err := encodeUpdate(sendable(users), c.cfg.DutyStatusField, c.cfg.Location)
	if err != nil {
		return nil, &CallError{Kind: BadRequest, Op: OpUpdate, Detail: err.Error(), Err: err}
	}

	x := exchange{
		op:          OpUpdate,
		method:      http.MethodPost,
		url:         c.updateURL,
		contentType: "application/json",
		body:        body,
		writes:      true,
		limit:       answerLimit(len(users), 1),
		read: func(answer io.Reader, scrub scrubber) error {
			return report.read(answer, c.cfg.DutyStatusField, scrub)
		},
		usernames: usernames(users),
	}
	for _, opt := range opts {
		opt(&x)
	}

	if err := c.authorized(ctx, x); err != nil {
		return nil, err
	}

	return report.results, nil
}

func usernames(users []DutyStatus) []string {
	names := make([]string, len(users))
	for i, u := range users {
		names[i] = u.Username
	}

	return names
}

// encodeUpdate writes the body: LOGIN_ID and the duty status, and nothing else, since AtHoc would write that too.
func encodeUpdate(users []DutyStatus, field string, loc *time.Location) ([]byte, error) {
	objects := make([]map[string]string, len(users))
	for i, u := range users {
		objects[i] = map[string]string{loginID: u.Username, field: FormatTime(u.Since, loc)}
	}

	body, err := json.Marshal(objects)
	if err != nil {
		return nil, fmt.Errorf("encoding the update: %w", err)
	}

	return body, nil
}

// report gathers the outcomes of one update.
type report struct {
	results []Result
	// index maps a username, with its case folded, to its position in results. It lacks users that are not sent.
	index map[string]int
	// reported holds, for each result, whether AtHoc has reported on that user.
	reported []bool
}

// newReport gives each user the outcome that applies if AtHoc says nothing about that user. It fails if users names one
// twice.
func newReport(users []DutyStatus) (*report, error) {
	r := &report{
		results:  make([]Result, len(users)),
		index:    make(map[string]int, len(users)),
		reported: make([]bool, len(users)),
	}
	for i, u := range users {
		if detail := unsendable(u.Username); detail != "" {
			r.results[i] = Result{Username: u.Username, Outcome: Invalid, Detail: detail}
			continue
		}

		key := foldCase(u.Username)
		if _, twice := r.index[key]; twice {
			return nil, errors.New("an update names the same user twice: only the latest status may be sent")
		}

		r.index[key] = i
		r.results[i] = Result{Username: u.Username, Outcome: Transient, Detail: "AtHoc's answer does not mention the user"}
	}

	return r, nil
}

// unsendable returns why AtHoc cannot know the username; "" if it may.
func unsendable(username string) string {
	switch {
	case strings.TrimSpace(username) == "":
		return "the username is empty"
	case !utf8.ValidString(username):
		// JSON would replace the bad bytes, and so name somebody else.
		return "the username is not valid UTF-8"
	}

	return ""
}

// sendable returns the users that can be sent.
func sendable(users []DutyStatus) []DutyStatus {
	return slices.DeleteFunc(slices.Clone(users), func(u DutyStatus) bool { return unsendable(u.Username) != "" })
}

// answerUser is one object of an answer. A value that is neither a string nor a number is read as empty: the user then
// counts as not reported.
type answerUser struct {
	LoginID lenient `json:"LOGIN_ID"`
	Status  lenient `json:":SyncStatus"`
	Details lenient `json:":SyncDetails"`
}

// lenient is a string that may be written as a number, and tolerates any other JSON value in its place.
type lenient string

// UnmarshalJSON implements [json.Unmarshaler].
func (l *lenient) UnmarshalJSON(data []byte) error {
	var s string
	var n json.Number
	switch {
	case json.Unmarshal(data, &s) == nil:
		*l = lenient(s)
	case json.Unmarshal(data, &n) == nil:
		*l = lenient(n)
	}

	return nil
}

// entriesPerUser is how many entries an answer may have for each user, fewestEntries how many it may have in any case.
const entriesPerUser, fewestEntries = 2, 100

// read takes in an answer, entry by entry. It fails if the answer is not one complete JSON array, or goes on far beyond
// the users that were asked for; the report must not be used any more then.
func (r *report) read(answer io.Reader, field string, scrub scrubber) error {
	dec := json.NewDecoder(answer)
	if start, err := dec.Token(); err != nil || start != json.Delim('[') {
		return errors.New("the answer is not a JSON array of users")
	}

	for entries := 0; dec.More(); entries++ {
		if entries >= max(entriesPerUser*len(r.results), fewestEntries) {
			return errors.New("the answer is about far more users than were sent")
		}

		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return errors.New("the answer is broken off or is not valid JSON")
		}

		var user answerUser
		if err := json.Unmarshal(raw, &user); err != nil {
			continue // not an object: the user who was meant counts as not reported
		}

		r.take(user, field, scrub)
	}

	if _, err := dec.Token(); err != nil {
		return errors.New("the answer is broken off or is not valid JSON")
	}

	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the answer goes on after its end")
	}

	return nil
}

// take records what AtHoc says about one user. Users that were not asked for are ignored.
func (r *report) take(user answerUser, field string, scrub scrubber) {
	i, asked := r.index[foldCase(string(user.LoginID))]
	if !asked {
		i, asked = r.index[foldCase(strings.TrimSpace(string(user.LoginID)))]
	}

	if !asked {
		return
	}

	details := hideNames(string(user.Details), []string{r.results[i].Username})
	outcome := classify(string(user.Status), details, field)
	if r.reported[i] && outcome <= r.results[i].Outcome {
		return
	}

	r.reported[i] = true
	r.results[i].Outcome = outcome
	r.results[i].Detail = scrub.quote(details)
}

// The texts by which the kinds of :SyncDetails are distinguished. The API documents only "… does not exists in the
// Organization" to the letter; the other patterns are made of the words that it uses for the matter. A text that
// matches none is transient, so that an unknown text costs retries and never a status.
var (
	passingText   = regexp.MustCompile(`(?i)\b(time[ds]?[ -]?out|temporar(y|ily)|try again|retry|busy|deadlock(ed)?|unavailable)\b`)
	noUserText    = regexp.MustCompile(`(?i)\bdo(es)? not exists? in the organi[sz]ation\b`)
	forbiddenText = regexp.MustCompile(`(?i)\bpermissions? (is |was |were )?denied\b|\b(denied|no|not have|lacks?|insufficient|without)( the| any| a)?( required| sufficient| necessary| update)? permissions?\b|\baccess (is |was )?denied\b|\bnot (authori[sz]ed|permitted|allowed) to (update|modify|edit|change|access)\b`)
	subjectText   = regexp.MustCompile(`(?i)\b(attributes?|fields?|values?|dates?|date[- ]?time)\b`)
	faultText     = regexp.MustCompile(`(?i)\b(unknown|invalid|unrecogni[sz]ed|not (a )?valid|do(es)? not exists?|not (be )?(found|recogni[sz]ed|parsed|defined)|not (in )?(a |the )?(correct|expected|right) (format|type))\b`)
)

// classify turns one user's report into an outcome. The username must be hidden in details: it may contain any word.
func classify(status, details, field string) Outcome {
	switch strings.ToLower(strings.TrimSpace(status)) {
	case "ok":
		return Applied
	case "error":
	default:
		return Transient
	}

	aboutAttribute := subjectText.MatchString(details) ||
		(field != "" && strings.Contains(foldCase(details), foldCase(field)))
	switch {
	case passingText.MatchString(details):
		return Transient
	case noUserText.MatchString(details) && !aboutAttribute:
		return UnknownUser
	case forbiddenText.MatchString(details):
		return ForbiddenUser
	case aboutAttribute && faultText.MatchString(details):
		return Invalid
	}

	return Transient
}
