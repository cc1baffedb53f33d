package athoc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxPageSize is the most users that AtHoc returns in one page.
	MaxPageSize = 1000
	// maxPages ends a search that a broken server would let run for ever: ten million users at the largest page size.
	maxPages = 10_000
)

// Query says what to search for.
type Query struct {
	// Fields are the common names of the attributes to return; LOGIN_ID is always returned.
	Fields []string
	// Criteria is AtHoc's filter, such as "Collar-Number pr"; empty means all users.
	Criteria string
	// PageSize is the number of users in a page; 0, and anything over MaxPageSize, means [MaxPageSize].
	PageSize int
	// Repeat, if not nil, is asked before a page is requested again with another access token: AtHoc counts that as a
	// separate call.
	Repeat Guard
}

// User is what a search returned about one user: values by attribute name, without empty attributes.
type User map[string]string

// Username returns the user's LOGIN_ID.
func (u User) Username() string { return u.Attribute(loginID) }

// Attribute returns the value of an attribute, or "" if there is none. A name that matches exactly wins; otherwise
// letter case is ignored.
func (u User) Attribute(name string) string {
	if value, ok := u[name]; ok {
		return value
	}

	for key, value := range u {
		if strings.EqualFold(key, name) {
			return value
		}
	}

	return ""
}

func attributeText(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) == nil { // null leaves text empty
		return text
	}

	return string(bytes.TrimSpace(value))
}

// Page is one page of a search.
type Page struct {
	// Number counts from 0.
	Number int
	// Total is how many users AtHoc says match, over all pages. It can change from page to page, and is a hint only.
	Total int
	// Users are the users of this page. It is empty only for the first page, if AtHoc returns nobody although it says
	// that there are users.
	Users []User
}

// SearchUsers yields the matching users page by page, with one request for each page. What was fetched decides when the
// search is complete: after an empty page, or after a short one once AtHoc's total has been reached. The search fails
// when a call fails or AtHoc repeats a page; the error, a [*CallError], is the last thing yielded, and means that users
// are missing. A complete search yields no error. Users that are added or removed meanwhile can be missed, or be
// yielded twice.
func (c *Client) SearchUsers(ctx context.Context, q Query) iter.Seq2[Page, error] {
	size := q.PageSize
	if size <= 0 || size > MaxPageSize {
		size = MaxPageSize
	}

	fields := searchFields(q.Fields)

	return func(yield func(Page, error) bool) {
		var previous []User
		fetched := 0
		for number := range maxPages {
			page, err := c.searchPage(ctx, number, size, fields, q)
			if err == nil && len(page.Users) > 0 && slices.EqualFunc(previous, page.Users, maps.Equal[User, User]) {
				err = &CallError{Kind: Outage, Op: OpSearch, Status: http.StatusOK,
					Detail: fmt.Sprintf("AtHoc returned page %d of the users twice", number-1)}
			}

			if err != nil {
				yield(Page{}, err)
				return
			}

			nobody := len(page.Users) == 0
			if nobody && (number > 0 || page.Total == 0) || !yield(page, nil) || nobody {
				return
			}

			fetched += len(page.Users)
			if len(page.Users) < size && fetched >= page.Total {
				return
			}

			previous = page.Users
		}

		yield(Page{}, &CallError{Kind: Outage, Op: OpSearch, Status: http.StatusOK,
			Detail: fmt.Sprintf("AtHoc still returns users after %d pages", maxPages)})
	}
}

// searchFields returns the fields to ask for: it adds LOGIN_ID, without which a user is of no use, and drops repeats.
func searchFields(fields []string) string {
	out := []string{loginID}
	for _, field := range fields {
		same := func(have string) bool { return strings.EqualFold(have, field) }
		if field != "" && !slices.ContainsFunc(out, same) {
			out = append(out, field)
		}
	}

	return strings.Join(out, ",")
}

// searchPage fetches one page. AtHoc's Offset is the number of the page, not of a row.
func (c *Client) searchPage(ctx context.Context, number, size int, fields string, q Query) (Page, error) {
	params := url.Values{
		"Fields": {fields},
		"Limit":  {strconv.Itoa(size)},
		"Offset": {strconv.Itoa(number)},
	}
	if q.Criteria != "" {
		params.Set("Criteria", q.Criteria)
	}

	page := Page{Number: number}
	err := c.authorized(ctx, exchange{
		op:     OpSearch,
		method: http.MethodGet,
		url:    c.searchURL + "?" + params.Encode(),
		limit:  answerLimit(size, strings.Count(fields, ",")+1),
		repeat: q.Repeat,
		read: func(body io.Reader, _ scrubber) (err error) {
			page.Users, page.Total, err = parsePage(body, size, strings.Split(fields, ","))
			return err
		},
	})

	return page, err
}

// parsePage reads one page of at most size users, user by user, and keeps only the given fields of each. The users may
// be null or missing only if the answer says that there are none: otherwise an answer of another sort would look like
// an organisation without users.
func parsePage(body io.Reader, size int, fields []string) (users []User, total int, err error) {
	notAPage := errors.New("the answer is not the JSON of a page of users")
	dec := json.NewDecoder(body)
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return nil, 0, notAPage
	}

	counts := map[string]int{"totalusers": -1, "fetchedrecords": -1}
	listed := false
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, 0, notAPage
		}

		name, _ := key.(string)
		switch name = strings.ToLower(name); name {
		case "users":
			if users, listed, err = parseUsers(dec, size, fields); err != nil {
				return nil, 0, err
			}
		default:
			var value json.RawMessage
			if dec.Decode(&value) != nil {
				return nil, 0, notAPage
			}

			if _, isCount := counts[name]; isCount {
				counts[name] = count(value)
			}
		}
	}

	if _, err := dec.Token(); err != nil {
		return nil, 0, notAPage
	}

	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, 0, errors.New("the answer goes on after its end")
	}

	if !listed && counts["totalusers"] != 0 && counts["fetchedrecords"] != 0 {
		return nil, 0, errors.New("the answer holds no list of users")
	}

	return users, max(counts["totalusers"], 0), nil
}

// parseUsers reads the list of users of a page; listed is false if the answer has null in its place.
func parseUsers(dec *json.Decoder, size int, fields []string) (users []User, listed bool, err error) {
	switch start, err := dec.Token(); {
	case err == nil && start == nil:
		return nil, false, nil
	case err != nil || start != json.Delim('['):
		return nil, false, errors.New("the answer is not the JSON of a page of users")
	}

	for dec.More() {
		if len(users) >= size {
			return nil, false, fmt.Errorf("the answer holds more than the %d users that were asked for", size)
		}

		user, err := parseUser(dec, fields)
		if err != nil {
			return nil, false, errors.New("the answer is not the JSON of a page of users")
		}

		users = append(users, user)
	}

	if _, err := dec.Token(); err != nil {
		return nil, false, errors.New("the answer is broken off")
	}

	return users, true, nil
}

// parseUser reads one user. It leaves out attributes that were not asked for, and those that are null or "". A value
// that is not a string keeps its JSON text.
func parseUser(dec *json.Decoder, fields []string) (User, error) {
	switch start, err := dec.Token(); {
	case err == nil && start == nil:
		return User{}, nil
	case err != nil || start != json.Delim('{'):
		return nil, errors.New("not a user")
	}

	user := User{}
	for dec.More() {
		key, err := dec.Token()
		var value json.RawMessage
		if err == nil {
			err = dec.Decode(&value)
		}

		if err != nil {
			return nil, err
		}

		name, _ := key.(string)
		asked := slices.ContainsFunc(fields, func(f string) bool { return strings.EqualFold(f, name) })
		if text := attributeText(value); text != "" && asked {
			user[name] = text
		}
	}

	_, err := dec.Token()

	return user, err
}

// count returns a number, which may be written as a string, with a decimal point or with an exponent; -1 if there is
// none. An infinite or too large number yields math.MaxInt32.
func count(raw json.RawMessage) int {
	value, err := strconv.ParseFloat(strings.Trim(string(raw), "\" \t"), 64)
	switch {
	case value >= math.MaxInt32:
		return math.MaxInt32
	case err != nil, math.IsNaN(value), value < 0:
		return -1
	}

	return int(value)
}
