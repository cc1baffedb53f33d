package sim

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	stateVersion     = 1
	maxJournalBytes  = 64 << 20
	journalExtension = ".journal"
)

// snapshot is the content of a state file.
type snapshot struct {
	Version    int           `json:"v"`
	NextID     int64         `json:"next_id"`
	Attributes []Attribute   `json:"attributes"`
	Users      []journalUser `json:"users"`
}

// journalEntry is one line of a journal. Lines hold final values, so a line that the snapshot already includes can be
// applied again without harm.
type journalEntry struct {
	Attributes []Attribute   `json:"attributes,omitempty"`
	Users      []journalUser `json:"users,omitempty"`
	Removed    []string      `json:"removed,omitempty"`
}

type journalUser struct {
	ID     int64  `json:"id"`
	Login  string `json:"login"`
	Fields Fields `json:"fields,omitempty"`
}

// journal keeps the user store on disk: a snapshot, replaced by an atomic rename, and next to it a file to which
// every change is appended before it is made. A write reaches the operating system before an answer is sent, so a
// killed simulator loses nothing that it has acknowledged; a power cut may lose some. A nil journal keeps nothing.
// The user store's lock guards it.
type journal struct {
	path string
	file *os.File
	size int64
}

// openJournal reads the state into d and starts a fresh journal. found is false if there was no state.
func openJournal(path string, d *userStore) (found bool, err error) {
	found, err = loadSnapshot(path, d)
	if err != nil {
		return false, err
	}

	replayed, err := replayJournal(path+journalExtension, d)
	if err != nil {
		return false, err
	}

	f, err := os.OpenFile(path+journalExtension, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return false, fmt.Errorf("opening the state's journal: %w", err)
	}

	d.journal = &journal{path: path, file: f}

	return found || replayed, d.journal.compact(d)
}

func loadSnapshot(path string, d *userStore) (bool, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}

	if err != nil {
		return false, fmt.Errorf("reading the state file: %w", err)
	}

	var s snapshot
	if err := json.Unmarshal(raw, &s); err != nil {
		return false, fmt.Errorf("state file %s cannot be read; move it away to start afresh: %w", path, err)
	}

	if s.Version != stateVersion {
		return false, fmt.Errorf("state file %s has version %d, this program reads %d; move it away to start afresh", path, s.Version, stateVersion)
	}

	if err := d.restore(journalEntry{Attributes: s.Attributes, Users: s.Users}); err != nil {
		return false, fmt.Errorf("state file %s: %w", path, err)
	}

	d.nextID = max(d.nextID, s.NextID)

	return true, nil
}

// replayJournal reads a journal up to its end or up to a line that a kill cut off.
func replayJournal(path string, d *userStore) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}

	if err != nil {
		return false, fmt.Errorf("reading the state's journal: %w", err)
	}

	defer f.Close()

	r, found := bufio.NewReader(f), false
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				return found, nil // a line without its end has never been acknowledged
			}
			return found, fmt.Errorf("reading %s: %w", path, err)
		}

		var e journalEntry
		if err := json.Unmarshal(line, &e); err != nil {
			return found, fmt.Errorf("%s, line %d cannot be read; move the state away to start afresh: %w", path, n, err)
		}

		if err := d.restore(e); err != nil {
			return found, fmt.Errorf("%s, line %d: %w", path, n, err)
		}

		found = true
	}
}

// restore makes a stored change, without an entry in the history.
func (d *userStore) restore(e journalEntry) error {
	if err := d.define(e.Attributes); err != nil {
		return err
	}

	gone := map[*record]bool{}
	for _, l := range e.Removed {
		if r := d.byKey[loginKey(l)]; r != nil {
			gone[r] = true
		}
	}

	if len(gone) > 0 {
		d.drop(gone)
	}

	for _, u := range e.Users {
		if err := d.restoreUser(u); err != nil {
			return err
		}
	}

	return nil
}

func (d *userStore) restoreUser(u journalUser) error {
	r := d.byKey[loginKey(u.Login)]
	if r == nil {
		r = &record{id: u.ID, key: loginKey(u.Login), values: []string{u.Login}}
		d.insert(r)
	}

	d.nextID = max(d.nextID, u.ID+1)
	for _, f := range u.Fields {
		if err := d.check(f.Name, f.Value); err != nil {
			return err
		}

		d.set(r, f, 0, 0)
	}

	r.history = nil

	return nil
}

func (j *journal) write(e journalEntry) error {
	if j == nil {
		return nil
	}

	line := append(mustJSON(e), '\n')

	n, err := j.file.Write(line)
	if err != nil {
		if n > 0 { // half a line in the middle would make the journal unreadable
			err = errors.Join(err, j.file.Truncate(j.size))
		}
		return fmt.Errorf("saving a change to %s: %w", j.file.Name(), err)
	}

	j.size += int64(n)

	return nil
}

func (j *journal) writeUsers(changes []mutation) error {
	if j == nil {
		return nil
	}

	users := make([]journalUser, len(changes))
	for i, m := range changes {
		users[i] = journalUser{ID: m.rec.id, Login: m.rec.values[0], Fields: m.fields}
	}

	return j.write(journalEntry{Users: users})
}

func (j *journal) compactIfLarge(d *userStore) error {
	if j == nil || j.size < maxJournalBytes {
		return nil
	}
	return j.compact(d)
}

// compact writes a snapshot and empties the journal; the caller holds the user store's lock.
func (j *journal) compact(d *userStore) error {
	s := snapshot{Version: stateVersion, NextID: d.nextID, Attributes: d.defs, Users: make([]journalUser, len(d.order))}
	for i, r := range d.order {
		u := journalUser{ID: r.id, Login: r.values[0]}
		for col, v := range r.values {
			if col > 0 && v != "" {
				u.Fields = append(u.Fields, Field{d.defs[col].Name, v})
			}
		}

		s.Users[i] = u
	}

	if err := writeFileAtomic(j.path, mustJSON(s), 0o600); err != nil {
		return fmt.Errorf("saving the state: %w", err)
	}

	// A kill here is harmless: the journal's lines are in the snapshot, and reading them again ends in the same state.
	if err := j.file.Truncate(0); err != nil {
		return fmt.Errorf("emptying the state's journal: %w", err)
	}

	j.size = 0

	return nil
}

// close saves a last snapshot.
func (d *userStore) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()

	if d.journal == nil {
		return nil
	}

	err := errors.Join(d.journal.compact(d), d.journal.file.Close())
	d.journal = nil

	return err
}

// writeFileAtomic replaces a file by a rename, so that a reader finds either the old content or the new, never half.
func writeFileAtomic(path string, content []byte, mode os.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()

	_, err = io.Copy(tmp, bytes.NewReader(content))

	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}

	return os.Rename(tmp.Name(), path)
}
