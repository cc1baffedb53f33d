package ledger

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// File names are bytes, but JSON holds text. If a name is not UTF-8, each byte that does not belong to a character is
// stored as a NUL and two hex digits. No file name contains a NUL, so the original can be restored, and a name that
// is UTF-8 is stored as it is.

func escape(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return replaceInvalid(name, "\x00")
}

func unescape(text string) string {
	if !strings.Contains(text, "\x00") {
		return text
	}

	parts := strings.Split(text, "\x00")
	var b strings.Builder
	b.WriteString(parts[0])

	for _, part := range parts[1:] {
		n, err := strconv.ParseUint(part[:min(2, len(part))], 16, 8)
		if err != nil || len(part) < 2 {
			b.WriteString("\x00" + part)
			continue
		}

		b.WriteByte(byte(n))
		b.WriteString(part[2:])
	}

	return b.String()
}

// Display returns a name in a form that people can read and JSON can hold: bytes that belong to no character are
// shown as \xNN.
func Display(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	return replaceInvalid(name, `\x`)
}

func replaceInvalid(name, mark string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	for i := 0; i < len(name); {
		r, size := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && size == 1 {
			b.WriteString(mark)
			b.WriteByte(hex[name[i]>>4])
			b.WriteByte(hex[name[i]&15])
		} else {
			b.WriteString(name[i : i+size])
		}

		i += size
	}

	return b.String()
}

// copyJSON and fileJSON are the stored forms of the records, without the methods that produce them. A file's copies
// have a field of type copyJSON, so that they are not encoded and checked twice: by themselves, and again with the
// file.
type (
	copyJSON  Copy
	plainFile File
	fileJSON  struct {
		*plainFile
		Name   string     `json:"name"`
		Copies []copyJSON `json:"places,omitempty"`
	}
)

func (p Copy) escaped() copyJSON {
	p.Name, p.MovedTo = escape(p.Name), escape(p.MovedTo)
	return copyJSON(p)
}

func (p copyJSON) unescaped() Copy {
	p.Name, p.MovedTo = unescape(p.Name), unescape(p.MovedTo)
	return Copy(p)
}

// MarshalJSON implements json.Marshaler.
func (p Copy) MarshalJSON() ([]byte, error) { return json.Marshal(p.escaped()) }

// UnmarshalJSON implements json.Unmarshaler.
func (p *Copy) UnmarshalJSON(data []byte) error {
	var stored copyJSON
	err := json.Unmarshal(data, &stored)
	*p = stored.unescaped()
	return err
}

// encode returns the record as it is stored.
func (f *File) encode() ([]byte, error) {
	stored := fileJSON{plainFile: (*plainFile)(f), Name: escape(f.Name)}
	for _, p := range f.Copies {
		stored.Copies = append(stored.Copies, p.escaped())
	}

	return json.Marshal(&stored)
}

// decodeFile decodes the record under a key, as encode wrote it.
func decodeFile(key, data []byte) (*File, error) {
	f := &File{ID: hex.EncodeToString(key)}
	stored := fileJSON{plainFile: (*plainFile)(f)}
	if err := json.Unmarshal(data, &stored); err != nil {
		return nil, fmt.Errorf("read the record of file %s: %w", Short(f.ID), err)
	}

	f.Name, f.Copies = unescape(stored.Name), nil
	for _, p := range stored.Copies {
		f.Copies = append(f.Copies, p.unescaped())
	}

	f.stored = viewOf(f)

	return f, nil
}
