package sim

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// LoadUsers reads users from a file. A .csv file has a header of attribute names, LOGIN_ID among them; a .json file
// holds an array of objects with the same names. Attributes that are not in known are returned as well, with type
// string.
func LoadUsers(path string, known []Attribute) ([]User, []Attribute, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading users: %w", err)
	}

	raw = bytes.TrimPrefix(raw, []byte("\ufeff"))
	var rows []map[string]string
	switch ext := strings.ToLower(filepath.Ext(path)); ext {
	case ".csv":
		rows, err = csvRows(raw)
	case ".json":
		err = json.Unmarshal(raw, &rows)
	default:
		err = fmt.Errorf("the name must end in .csv or .json, not %q", ext)
	}

	if err != nil {
		return nil, nil, fmt.Errorf("reading users from %s: %w", path, err)
	}

	return usersOf(rows, known)
}

func csvRows(raw []byte) ([]map[string]string, error) {
	r := csv.NewReader(bytes.NewReader(raw))

	header, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}

	if !slices.Contains(header, LoginID) {
		return nil, errors.New("the header has no LOGIN_ID column")
	}

	var rows []map[string]string
	for {
		fields, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}

		if err != nil {
			return nil, err
		}

		row := make(map[string]string, len(header))
		for i, name := range header {
			row[name] = fields[i]
		}

		rows = append(rows, row)
	}
}

func usersOf(rows []map[string]string, known []Attribute) ([]User, []Attribute, error) {
	names := map[string]bool{}
	users := make([]User, len(rows))
	for i, row := range rows {
		if row[LoginID] == "" {
			return nil, nil, fmt.Errorf("user %d has no LOGIN_ID", i+1)
		}

		users[i] = User{LoginID: row[LoginID], Attributes: map[string]string{}}
		for name, value := range row {
			if name != LoginID {
				users[i].Attributes[name] = value
				names[name] = true
			}
		}
	}

	defs := slices.Clone(known)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !slices.ContainsFunc(known, func(a Attribute) bool { return a.Name == name }) {
			defs = append(defs, Attribute{Name: name, Type: TypeString})
		}
	}

	return users, defs, nil
}
