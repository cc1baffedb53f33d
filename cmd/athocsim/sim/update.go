package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// updateFlags are an update's parameters, once checked.
type updateFlags struct {
	existingOnly bool
	partial      bool
	// attributeFirst is set by Settings.JudgeFirst: a wrong attribute is reported before a user who does not exist.
	attributeFirst bool
}

func (s *Simulator) serveUpdate(w http.ResponseWriter, r *http.Request) {
	c := s.arrive(r, EndpointUpdate)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.Settings().MaxBody))
	var batchErr error
	if err == nil {
		c.Users, batchErr = parseBatch(body)
	}

	params, paramErr := parameters(r, c, "syncExistingUsersOnly", "AllowPartialUpdate", "sourceIdentifier")
	s.calls.begin(c)
	s.play(w, r, c, func() answer {
		if a, ok := s.gate(r, c, http.MethodPost); !ok {
			return a
		}

		flags, flagErr := checkFlags(r, params, paramErr)

		if a, ok := s.checkSize(len(c.Users), err); !ok {
			return a
		}

		if err := errors.Join(flagErr, batchErr); err != nil {
			return refused(http.StatusBadRequest, "%v", err)
		}

		return s.update(c, flags)
	})
}

// checkSize refuses a body that is too large, or that did not arrive completely.
func (s *Simulator) checkSize(users int, err error) (answer, bool) {
	set := s.Settings()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return refused(set.TooLargeStatus, "the body has more than %d bytes", set.MaxBody), false
	case err != nil:
		return refused(http.StatusBadRequest, "the body could not be read: %v", err), false
	case users > set.MaxUsers:
		return refused(set.TooLargeStatus, "the body has more than %d users", set.MaxUsers), false
	}

	return answer{}, true
}

func checkFlags(r *http.Request, params map[string]string, err error) (f updateFlags, _ error) {
	if err != nil {
		return f, err
	}

	if t, p, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" ||
		p["charset"] != "" && !strings.EqualFold(p["charset"], "utf-8") {
		return f, errors.New("Content-Type must be application/json in UTF-8")
	}

	if e := r.Header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return f, errors.New("Content-Encoding is not supported")
	}

	if f.existingOnly, err = boolean(params, "syncExistingUsersOnly"); err != nil {
		return f, err
	}

	f.partial, err = boolean(params, "AllowPartialUpdate")

	return f, err
}

// boolean reads true or false; a missing parameter is false.
func boolean(params map[string]string, name string) (bool, error) {
	switch v, ok := params[name]; {
	case !ok || strings.EqualFold(v, "false"):
		return false, nil
	case strings.EqualFold(v, "true"):
		return true, nil
	}

	return false, fmt.Errorf("%s must be true or false", name)
}

// parseBatch reads the array of users. After a mistake it reads on for as long as the JSON allows, so that the record
// shows what was sent. It returns the first mistake as the error, which names users by position and not by name.
func parseBatch(body []byte) ([]UserCall, error) {
	if !utf8.Valid(body) {
		return nil, errors.New("the body is not UTF-8")
	}

	p := &batchParser{dec: json.NewDecoder(bytes.NewReader(body)), seen: map[string]bool{}}
	p.dec.UseNumber()

	if err := p.array(); err != nil {
		p.note(err)
	} else if _, err := p.dec.Token(); !errors.Is(err, io.EOF) {
		p.note(errors.New("there is something after the array"))
	}

	if p.err == nil && len(p.users) == 0 {
		p.note(errors.New("the array has no users"))
	}

	return p.users, p.err
}

type batchParser struct {
	dec   *json.Decoder
	users []UserCall
	seen  map[string]bool // usernames in lower case
	login bool            // the user being read has a LOGIN_ID
	err   error           // the first mistake
}

func (p *batchParser) note(err error) {
	if p.err == nil {
		p.err = err
	}
}

// array returns an error if reading cannot go on.
func (p *batchParser) array() error {
	if t, err := p.dec.Token(); err != nil || t != json.Delim('[') {
		return errors.New("the body is not a JSON array of users")
	}

	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return malformed(err)
		}

		if t != json.Delim('{') {
			return fmt.Errorf("user %d is not an object", len(p.users)+1)
		}

		var u UserCall
		err = p.object(&u)
		u.Outcome = OutcomeNotProcessed
		p.users = append(p.users, u)

		if err != nil {
			return err
		}

		p.check(&u)
	}

	if _, err := p.dec.Token(); err != nil {
		return malformed(err)
	}

	return nil
}

// malformed includes the decoder's text, which quotes characters but no values.
func malformed(err error) error { return fmt.Errorf("the body is not valid JSON: %w", err) }

func (p *batchParser) object(u *UserCall) error {
	place := len(p.users) + 1
	p.login = false
	for p.dec.More() {
		name, err := p.dec.Token()
		if err != nil {
			return malformed(err)
		}

		value, err := p.dec.Token()
		if err != nil {
			return malformed(err)
		}

		text, isText := value.(string)
		if !isText {
			p.note(fmt.Errorf("user %d: the value of %q is not a string", place, name))

			text = fmt.Sprint(value)
		}

		if err := p.field(u, name.(string), text); err != nil {
			p.note(fmt.Errorf("user %d: %w", place, err))
		}

		if _, nested := value.(json.Delim); nested {
			return p.err
		}
	}

	if _, err := p.dec.Token(); err != nil {
		return malformed(err)
	}

	return nil
}

func (p *batchParser) field(u *UserCall, name, value string) error {
	if name == LoginID {
		if p.login {
			return errors.New("LOGIN_ID is given twice")
		}

		u.LoginID, p.login = value, true

		return nil
	}

	_, twice := u.Fields.Get(name)
	if u.Fields == nil {
		u.Fields = make(Fields, 0, 1)
	}

	u.Fields = append(u.Fields, Field{name, value})
	if twice {
		return fmt.Errorf("%q is given twice", name)
	}

	return nil
}

// check checks a user that has been read completely.
func (p *batchParser) check(u *UserCall) {
	place, key := len(p.users), loginKey(u.LoginID)
	switch {
	case strings.TrimSpace(u.LoginID) == "":
		p.note(fmt.Errorf("user %d has no LOGIN_ID", place))
	case p.seen[key]:
		p.note(fmt.Errorf("user %d is listed twice", place))
	case len(u.Fields) == 0:
		p.note(fmt.Errorf("user %d has no attribute to write", place))
	}

	p.seen[key] = true
}

// update decides on all changes of a call, makes them at one moment, and answers for each user.
func (s *Simulator) update(c *Call, flags updateFlags) answer {
	set := s.Settings()
	flags.attributeFirst = set.JudgeFirst == "attribute"
	faults := s.userFaults(c)
	if err := s.applyBatch(c, flags, faults, &set.Messages); err != nil {
		s.logger.Error("an update could not be saved; check the disk", "error", err)

		for i := range c.Users {
			c.Users[i].Outcome = OutcomeNotProcessed
		}

		return refused(http.StatusInternalServerError, "the update could not be saved")
	}

	return answer{status: http.StatusOK, body: s.outcomes(c, set.EchoCase)}
}

func (s *Simulator) userFaults(c *Call) []*Fault {
	if !s.faults.anyForUsers(EndpointUpdate) {
		return nil
	}

	keys := make([]string, len(c.Users))
	for i := range c.Users {
		keys[i] = loginKey(c.Users[i].LoginID)
	}

	return s.faults.forUsers(EndpointUpdate, keys)
}

func (s *Simulator) applyBatch(c *Call, flags updateFlags, faults []*Fault, m *Messages) error {
	d := s.users
	d.mu.Lock()
	defer d.mu.Unlock()

	changes := make([]mutation, 0, len(c.Users))
	places := make([]int, 0, len(c.Users))
	for i := range c.Users {
		u := &c.Users[i]
		rec := d.byKey[loginKey(u.LoginID)]
		d.decide(u, rec, flags, m)

		if faults != nil && faults[i] != nil {
			faults[i].spoil(u, m)
		}

		if len(u.mutations) > 0 {
			changes = append(changes, mutation{rec: rec, login: u.LoginID, fields: u.mutations})
			places = append(places, i)
		}
	}

	at := time.Now().UnixNano()
	if err := d.commit(changes, c.Seq, at); err != nil {
		return err
	}

	for n, i := range places {
		u := &c.Users[i]
		u.Applied, u.AppliedAt, u.UserID = true, at, changes[n].rec.id
		if len(u.mutations) < len(u.Fields) {
			for _, f := range u.mutations {
				u.Written = append(u.Written, f.Name)
			}
		}

		u.mutations = nil
	}

	return nil
}

// decide sets the outcome for one user and what should be written; rec is nil for a user that does not exist.
func (d *userStore) decide(u *UserCall, rec *record, flags updateFlags, m *Messages) {
	unknown := rec == nil && flags.existingOnly
	if unknown && !flags.attributeFirst {
		u.unknownUser()
		return
	}

	if rec != nil {
		u.UserID = rec.id
	}

	good := make(Fields, 0, len(u.Fields))
	for _, f := range u.Fields {
		if err := d.check(f.Name, f.Value); err == nil {
			good = append(good, f)
			continue
		}

		if u.Detail == "" { // the first mistake determines the outcome
			u.Outcome, u.Detail = OutcomeInvalidValue, expand(m.InvalidValue, u.LoginID, f.Name, f.Value)
			if _, _, known := d.lookup(f.Name); !known {
				u.Outcome, u.Detail = OutcomeUnknownAttribute, expand(m.UnknownAttribute, u.LoginID, f.Name, f.Value)
			}
		}
	}

	switch {
	case unknown && len(good) == len(u.Fields):
		u.unknownUser()
		return
	case len(good) == len(u.Fields) && rec == nil:
		u.Outcome, u.Detail = OutcomeCreated, expand(m.Created, u.LoginID, "", "")
	case len(good) == len(u.Fields):
		u.Outcome, u.Detail = OutcomeUpdated, expand(m.Updated, u.LoginID, "", "")
	case flags.partial && len(good) > 0 && rec != nil:
		u.Outcome = OutcomePartial
	default:
		return
	}

	u.mutations = good
}

func (u *UserCall) unknownUser() {
	u.Outcome, u.Detail = OutcomeUnknownUser, "User: "+u.LoginID+" does not exists in the Organization"
}

// spoil plays a fault on one user whose outcome has been decided.
func (f *Fault) spoil(u *UserCall, m *Messages) {
	u.FaultID = f.ID
	detail := ""
	switch f.Kind {
	case FaultOmitUser:
		u.LeftOut = true
	case FaultPartial:
		u.Outcome, detail = OutcomePartial, m.Partial
	case FaultUserError:
		u.Outcome, detail = OutcomeError, m.Transient
	case FaultDenyUser:
		u.Outcome, detail = OutcomeDenied, m.PermissionDenied
	}

	if f.Detail != "" {
		detail = f.Detail
	}

	if detail != "" {
		u.Detail = expand(detail, u.LoginID, "", "")
	}

	if !f.Apply || f.Kind == FaultDenyUser {
		u.mutations = nil
	}

	if f.Kind == FaultOmitUser && u.mutations == nil && (u.Outcome == OutcomeUpdated || u.Outcome == OutcomeCreated) {
		u.Outcome, u.Detail = OutcomeNotProcessed, ""
	}
}

// outcomes writes the answer: one object for each user, echoing what was sent, in an order that the simulator
// chooses.
func (s *Simulator) outcomes(c *Call, echo string) []byte {
	order := make([]int, 0, len(c.Users))
	for i := range c.Users {
		if !c.Users[i].LeftOut {
			order = append(order, i)
		}
	}

	s.shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })

	b := make([]byte, 0, 2+200*len(order))
	b = append(b, '[')
	for n, i := range order {
		if n > 0 {
			b = append(b, ',')
		}

		u := &c.Users[i]
		b = u.appendOutcome(b, s.echoLogin(u, echo))
	}

	return append(b, ']')
}

func (u *UserCall) appendOutcome(b []byte, login string) []byte {
	b = append(b, `{"LOGIN_ID":`...)
	b = appendString(b, login)
	for _, f := range u.Fields {
		b = append(b, ',')
		b = appendString(b, f.Name)
		b = append(b, ':')
		b = appendString(b, f.Value)
	}

	b = append(b, `,":SyncStatus":`...)
	b = appendString(b, u.syncStatus())
	b = append(b, `,":SyncDetails":`...)
	b = appendString(b, u.Detail)
	b = append(b, `,"USER_ID":`...)
	if u.UserID == 0 {
		return append(b, "null}"...)
	}

	return append(strconv.AppendInt(b, u.UserID, 10), '}')
}

func (u *UserCall) syncStatus() string {
	switch u.Outcome {
	case OutcomeUpdated, OutcomeCreated:
		return "OK"
	case OutcomePartial:
		return "Partial"
	}

	return "Error"
}

func (s *Simulator) echoLogin(u *UserCall, echo string) string {
	if echo == "random" {
		s.mu.Lock()
		echo = [...]string{"sent", "upper", "lower"}[s.rng.IntN(3)]
		s.mu.Unlock()
	}

	switch echo {
	case "upper":
		return strings.ToUpper(u.LoginID)
	case "lower":
		return strings.ToLower(u.LoginID)
	case "stored":
		if stored, ok := s.User(u.LoginID); ok {
			return stored.LoginID
		}
	}

	return u.LoginID
}
