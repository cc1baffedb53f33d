package ledger

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// File names are bytes, and JSON holds text. Where a name is not UTF-8, each byte that does not belong to a character is stored as a
// NUL and two hex digits. No file's name holds a NUL, so it can be read back, and a name that is UTF-8 is stored as it is.

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

// Display returns a name as people and JSON can have it: bytes that belong to no character are shown as \xNN.
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

// placeJSON and fileJSON are the records as JSON has them, without the methods that make them so.
type (
	placeJSON Place
	fileJSON  File
)

// MarshalJSON implements json.Marshaler.
func (p Place) MarshalJSON() ([]byte, error) {
	p.Name, p.MovedTo = escape(p.Name), escape(p.MovedTo)
	return json.Marshal(placeJSON(p))
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *Place) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, (*placeJSON)(p)); err != nil {
		return err
	}
	p.Name, p.MovedTo = unescape(p.Name), unescape(p.MovedTo)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (f *File) MarshalJSON() ([]byte, error) {
	escaped := fileJSON(*f)
	escaped.Name = escape(f.Name)
	return json.Marshal(&escaped)
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *File) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, (*fileJSON)(f)); err != nil {
		return err
	}
	f.Name = unescape(f.Name)
	return nil
}
