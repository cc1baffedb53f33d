package sim

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

const (
	maxPage     = 1000
	defaultPage = 100
)

// searchQuery is a search whose parameters have been checked.
type searchQuery struct {
	columns []int
	names   []string
	filter  criterion // nil: all users
	limit   int
	page    int
}

func (s *Simulator) serveSearch(w http.ResponseWriter, r *http.Request) {
	c := s.arrive(r, EndpointSearch)
	s.play(w, r, c, func() answer {
		params, err := parameters(r, c, "Fields", "Criteria", "Limit", "Offset")
		if a, ok := s.gate(r, c, http.MethodGet); !ok {
			return a
		}

		if err != nil {
			return refused(http.StatusBadRequest, "%v", err)
		}

		return s.search(c, params)
	})
}

func (s *Simulator) search(c *Call, params map[string]string) answer {
	style := s.Settings().EmptyStyle
	s.users.mu.RLock()
	defer s.users.mu.RUnlock()

	q, err := s.users.searchQuery(params)
	if err != nil {
		return refused(http.StatusBadRequest, "%v", err)
	}

	page, total := s.users.find(q)
	page = s.withoutOmitted(page)
	c.TotalUsers, c.FetchedRecords = total, len(page)
	body := make([]byte, 0, 64+96*len(page))
	body = append(body, `{"Users":[`...)
	for i, rec := range page {
		if i > 0 {
			body = append(body, ',')
		}

		body = q.appendUser(body, rec, style)
	}

	body = fmt.Appendf(body, `],"TotalUsers":%d,"FetchedRecords":%d}`, total, len(page))

	return answer{status: http.StatusOK, body: body}
}

// searchQuery checks the parameters; the caller holds the lock.
func (d *userStore) searchQuery(params map[string]string) (q searchQuery, err error) {
	if params["Fields"] == "" {
		return q, fmt.Errorf("Fields is missing: name the attributes to return")
	}

	for name := range strings.SplitSeq(params["Fields"], ",") {
		name = strings.TrimSpace(name)
		a, col, ok := d.lookup(name)
		if !ok {
			return q, fmt.Errorf("Fields: %w", unknownAttribute(name))
		}

		if !slices.Contains(q.columns, col) {
			q.columns, q.names = append(q.columns, col), append(q.names, a.Name)
		}
	}

	if text, ok := params["Criteria"]; ok && strings.TrimSpace(text) != "" {
		if q.filter, err = parseCriteria(text, d.lookup); err != nil {
			return q, err
		}
	}

	if q.limit, err = wholeNumber(params, "Limit", defaultPage, 1, maxPage); err != nil {
		return q, err
	}

	q.page, err = wholeNumber(params, "Offset", 0, 0, 1<<31-1)

	return q, err
}

func wholeNumber(params map[string]string, name string, unset, low, high int) (int, error) {
	text, ok := params[name]
	if !ok {
		return unset, nil
	}

	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%s must be a whole number from %d to %d", name, low, high)
	}

	return n, nil
}

// find returns one page of the matches, ordered by USER_ID, and how many matches there are; the caller holds the lock.
func (d *userStore) find(q searchQuery) (page []*record, total int) {
	from := q.page * q.limit
	if q.filter == nil { // with very many users, each page must not visit all of them
		from = min(from, len(d.order))
		return d.order[from:min(from+q.limit, len(d.order))], len(d.order)
	}

	for _, rec := range d.order {
		if !q.filter.match(rec.values) {
			continue
		}

		if total >= from && len(page) < q.limit {
			page = append(page, rec)
		}

		total++
	}

	return page, total
}

// withoutOmitted removes the users whom an omit_user fault leaves out.
func (s *Simulator) withoutOmitted(page []*record) []*record {
	if !s.faults.anyForUsers(EndpointSearch) {
		return page
	}

	keys := make([]string, len(page))
	for i, rec := range page {
		keys[i] = rec.key
	}

	chosen := s.faults.forUsers(EndpointSearch, keys)
	if chosen == nil {
		return page
	}

	kept := make([]*record, 0, len(page))
	for i, rec := range page {
		if chosen[i] == nil {
			kept = append(kept, rec)
		}
	}

	return kept
}

// appendUser writes one user. An attribute without a value is written in the given style; "mixed" takes each style in
// turn.
func (q *searchQuery) appendUser(b []byte, rec *record, style string) []byte {
	b = append(b, '{')
	first := true
	for i, col := range q.columns {
		value := column(rec.values, col)
		var text string

		empty := style
		if style == "mixed" {
			empty = [...]string{"missing", "null", "empty"}[(rec.id+int64(i))%3]
		}

		switch {
		case value != "" || empty == "empty":
			text = string(appendString(nil, value))
		case empty == "null":
			text = "null"
		default:
			continue
		}

		if !first {
			b = append(b, ',')
		}

		first = false
		b = appendString(b, q.names[i])
		b = append(b, ':')
		b = append(b, text...)
	}

	return append(b, '}')
}
