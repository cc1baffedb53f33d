package sim

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// LoginID is the common name of the attribute that holds the username.
const LoginID = "LOGIN_ID"

// Types of attributes.
const (
	TypeString = "string"
	TypeDate   = "date" // dd/MM/yyyy HH:mm:ss, wall-clock time with no zone
)

// DateLayout is the form of a date-and-time attribute, as Go's time package writes it.
const DateLayout = "02/01/2006 15:04:05"

// firstUserID is the USER_ID of the first user; AtHoc's ids have seven digits as well.
const firstUserID = 2_000_001

// Attribute defines an attribute of the organisation. Names are matched exactly, letter case included.
type Attribute struct {
	Name string `json:"name"`
	Type string `json:"type"` // TypeString or TypeDate
}

// User is a user with the attributes that have a value. LOGIN_ID is not among Attributes.
type User struct {
	LoginID    string            `json:"login_id"`
	ID         int64             `json:"user_id,omitempty"` // assigned by the simulator; ignored when a user is put
	Attributes map[string]string `json:"attributes"`
}

// Change is one change of one attribute of a user.
type Change struct {
	At        int64  `json:"at"`   // UnixNano
	Call      uint64 `json:"call"` // sequence number of the call; 0 for the admin API
	Attribute string `json:"attribute"`
	Old       string `json:"old"`
	New       string `json:"new"`
}

type record struct {
	id      int64
	key     string   // lower-case LOGIN_ID
	values  []string // by column of the definitions; column 0 is LOGIN_ID; may be shorter than the definitions
	history []Change
}

// userStore holds the organisation's users and attributes. Every change is written to the journal first.
type userStore struct {
	mu      sync.RWMutex
	defs    []Attribute
	columns map[string]int
	byKey   map[string]*record
	order   []*record // by id
	nextID  int64
	history int
	journal *journal // nil without a state file
}

// mutation is a change of one user that has been decided but not made.
type mutation struct {
	rec    *record // nil for a user that will be created
	login  string
	fields Fields // without LOGIN_ID
}

func newUserStore(defs []Attribute, history int) (*userStore, error) {
	d := &userStore{columns: map[string]int{}, byKey: map[string]*record{}, nextID: firstUserID, history: history}
	return d, d.define(defs)
}

// loginKey returns what usernames are compared by: letter case does not count.
func loginKey(login string) string { return strings.ToLower(login) }

func unknownAttribute(name string) error {
	return fmt.Errorf("the attribute %q is unknown in this organization", name)
}

// parseDate reads exactly dd/MM/yyyy HH:mm:ss: time.Parse alone would accept one-digit hours and fractions too.
func parseDate(value string) (time.Time, error) {
	t, err := time.Parse(DateLayout, value)
	if err != nil || len(value) != len(DateLayout) || t.Format(DateLayout) != value {
		return time.Time{}, fmt.Errorf("%q is not a date of the form dd/MM/yyyy HH:mm:ss", value)
	}

	return t, nil
}

// define adds definitions. An attribute that exists already is left alone; if its type differs, that is an error.
func (d *userStore) define(defs []Attribute) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var fresh []Attribute

	types := make(map[string]string, len(d.defs)+len(defs))
	for _, a := range d.defs {
		types[a.Name] = a.Type
	}

	for _, a := range defs {
		if a.Name == "" || strings.ContainsAny(a.Name, " ,()'\t\r\n") || strings.HasPrefix(a.Name, ":") || a.Name == "USER_ID" {
			return fmt.Errorf("attribute name %q: it must not be empty or USER_ID, start with a colon, or hold blanks, commas, brackets or quotes", a.Name)
		}

		if a.Type != TypeString && a.Type != TypeDate {
			return fmt.Errorf("attribute %s: type %q: use %q or %q", a.Name, a.Type, TypeString, TypeDate)
		}

		if t, ok := types[a.Name]; ok {
			if t != a.Type {
				return fmt.Errorf("attribute %s is already defined with type %s", a.Name, t)
			}
			continue
		}

		types[a.Name] = a.Type
		fresh = append(fresh, a)
	}

	if len(fresh) == 0 {
		return nil
	}

	if err := d.journal.write(journalEntry{Attributes: fresh}); err != nil {
		return err
	}

	for _, a := range fresh {
		d.columns[a.Name] = len(d.defs)
		d.defs = append(d.defs, a)
	}

	return nil
}

func (d *userStore) attributes() []Attribute {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Clone(d.defs)
}

// lookup finds a definition; the caller holds the lock.
func (d *userStore) lookup(name string) (Attribute, int, bool) {
	col, ok := d.columns[name]
	if !ok {
		return Attribute{}, 0, false
	}

	return d.defs[col], col, true
}

// check returns an error if a value may not be written; the caller holds the lock.
func (d *userStore) check(name, value string) error {
	a, _, ok := d.lookup(name)
	if !ok || name == LoginID {
		return unknownAttribute(name)
	}

	if a.Type == TypeDate && value != "" {
		if _, err := parseDate(value); err != nil {
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}

	return nil
}

// commit writes the changes to the journal and makes them; the caller holds the lock for writing. On an error nothing
// has changed.
func (d *userStore) commit(changes []mutation, call uint64, at int64) error {
	if len(changes) == 0 {
		return nil
	}

	if err := d.journal.compactIfLarge(d); err != nil {
		return err
	}

	next := d.nextID
	for i := range changes {
		if m := &changes[i]; m.rec == nil {
			m.rec = &record{id: next, key: loginKey(m.login), values: []string{m.login}}
			next++
		}
	}

	if err := d.journal.writeUsers(changes); err != nil {
		return err
	}

	d.nextID = next
	for _, m := range changes {
		if _, ok := d.byKey[m.rec.key]; !ok {
			d.insert(m.rec)
		}

		for _, f := range m.fields {
			d.set(m.rec, f, call, at)
		}
	}

	return nil
}

func (d *userStore) insert(r *record) {
	d.byKey[r.key] = r
	d.order = append(d.order, r)
}

func (d *userStore) set(r *record, f Field, call uint64, at int64) {
	col := d.columns[f.Name]
	for len(r.values) <= col {
		r.values = append(r.values, "")
	}

	if r.values[col] == f.Value {
		return
	}

	if len(r.history) >= d.history {
		r.history = slices.Delete(r.history, 0, len(r.history)-d.history+1)
	}

	r.history = append(r.history, Change{At: at, Call: call, Attribute: f.Name, Old: r.values[col], New: f.Value})
	r.values[col] = f.Value
}

// put creates or changes users; attributes that are not named keep their values. All users are checked before any is
// changed.
func (d *userStore) put(users []User) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	changes := make([]mutation, 0, len(users))
	seen := make(map[string]bool, len(users))
	for i, u := range users {
		key := loginKey(u.LoginID)
		if u.LoginID == "" || seen[key] {
			return fmt.Errorf("user %d: the username is empty or listed twice", i+1)
		}

		seen[key] = true

		m := mutation{rec: d.byKey[key], login: u.LoginID}
		for _, name := range slices.Sorted(maps.Keys(u.Attributes)) {
			if err := d.check(name, u.Attributes[name]); err != nil {
				return fmt.Errorf("user %d: %w", i+1, err)
			}

			m.fields = append(m.fields, Field{name, u.Attributes[name]})
		}

		changes = append(changes, m)
	}

	return d.commit(changes, 0, time.Now().UnixNano())
}

// remove deletes users and returns how many of them existed.
func (d *userStore) remove(logins []string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	gone := map[*record]bool{}
	for _, l := range logins {
		if r := d.byKey[loginKey(l)]; r != nil {
			gone[r] = true
		}
	}

	if len(gone) == 0 {
		return 0, nil
	}

	if err := d.journal.write(journalEntry{Removed: logins}); err != nil {
		return 0, err
	}

	d.drop(gone)

	return len(gone), nil
}

func (d *userStore) drop(gone map[*record]bool) {
	for r := range gone {
		delete(d.byKey, r.key)
	}

	d.order = slices.DeleteFunc(d.order, func(r *record) bool { return gone[r] })
}

// clear empties an attribute of the users named, or of all, and returns how many had a value.
func (d *userStore) clear(name string, logins []string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()

	if err := d.check(name, ""); err != nil {
		return 0, err
	}

	var changes []mutation

	add := func(r *record) {
		if r != nil && column(r.values, d.columns[name]) != "" {
			changes = append(changes, mutation{rec: r, fields: Fields{{name, ""}}})
		}
	}
	if len(logins) == 0 {
		for _, r := range d.order {
			add(r)
		}
	}

	for _, l := range logins {
		add(d.byKey[loginKey(l)])
	}

	return len(changes), d.commit(changes, 0, time.Now().UnixNano())
}

// replace replaces all users with the given ones. Their values are the initial state rather than changes, so they
// have no history.
func (d *userStore) replace(users []User) error {
	d.mu.RLock()

	all := make([]string, 0, len(d.order))
	for _, r := range d.order {
		all = append(all, r.values[0])
	}

	d.mu.RUnlock()

	if _, err := d.remove(all); err != nil {
		return err
	}

	if err := d.put(users); err != nil {
		return err
	}

	d.mu.Lock()
	defer d.mu.Unlock()

	for _, r := range d.order {
		r.history = nil
	}

	return nil
}

func (d *userStore) export(r *record) User {
	u := User{LoginID: r.values[0], ID: r.id, Attributes: map[string]string{}}
	for col, v := range r.values {
		if col > 0 && v != "" {
			u.Attributes[d.defs[col].Name] = v
		}
	}

	return u
}

func (d *userStore) user(login string) (User, []Change, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()

	r := d.byKey[loginKey(login)]
	if r == nil {
		return User{}, nil, false
	}

	return d.export(r), slices.Clone(r.history), true
}

// users returns the users from offset on, by id; limit 0 means no limit. The total counts all users.
func (d *userStore) users(offset, limit int) (page []User, total int) {
	d.mu.RLock()
	defer d.mu.RUnlock()

	from := min(offset, len(d.order))
	to := len(d.order)
	if limit > 0 {
		to = min(from+limit, to)
	}

	page = make([]User, 0, to-from)
	for _, r := range d.order[from:to] {
		page = append(page, d.export(r))
	}

	return page, len(d.order)
}

// state returns one attribute's values by username, for every user that has a value.
func (d *userStore) state(name string) (map[string]string, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()

	_, col, ok := d.lookup(name)
	if !ok {
		return nil, unknownAttribute(name)
	}

	out := map[string]string{}
	for _, r := range d.order {
		if v := column(r.values, col); v != "" {
			out[r.values[0]] = v
		}
	}

	return out, nil
}

func (d *userStore) size() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.order)
}

// GenerateUsers makes n users: user i has the username "w" + i in at least five digits + "@example.org", and i in at
// least five digits as the value of the collar attribute. Nobody is on duty.
func GenerateUsers(n int, collarAttribute string) []User {
	users := make([]User, n)
	for i := range users {
		collar := fmt.Sprintf("%05d", i+1)
		users[i] = User{LoginID: "w" + collar + "@example.org", Attributes: map[string]string{collarAttribute: collar}}
	}

	return users
}
