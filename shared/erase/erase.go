// Package erase finds and removes what names a person, for data-protection requests. It is pure.
package erase

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Gone replaces a text that named a person.
const Gone = "(erased)"

// Names are the names of a person: the employee id in BOBO, and the usernames that AtHoc had for it.
type Names struct {
	Employee string   `json:"employee"`
	Users    []string `json:"users,omitempty"`
}

// Are reports whether a text is one of the names. It ignores letter case for all of them, because usernames do.
func (n Names) Are(s string) bool {
	return strings.EqualFold(s, n.Employee) || slices.ContainsFunc(n.Users, func(u string) bool { return strings.EqualFold(s, u) })
}

// Within reports whether a text contains one of the names as a word.
func (n Names) Within(s string) bool {
	lower := strings.ToLower(s)
	for _, name := range append([]string{n.Employee}, n.Users...) {
		name = strings.ToLower(name)
		for rest, before := lower, rune(0); name != ""; {
			i := strings.Index(rest, name)
			if i < 0 {
				break
			}

			if i > 0 {
				before, _ = utf8.DecodeLastRuneInString(rest[:i])
			}

			after, _ := utf8.DecodeRuneInString(rest[i+len(name):])
			if !inWord(before) && !inWord(after) {
				return true
			}

			before, rest = rune(name[len(name)-1]), rest[i+len(name):]
		}
	}

	return false
}

func inWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// In reports whether a message is about the person: whether a text in its JSON, or in the message that a dead letter
// holds, is one of the names. A message that is not JSON is about the person if it contains one of the names.
func (n Names) In(data []byte) bool { return n.find(data, n.Are) }

// MentionedIn reports whether one of the names occurs as a word anywhere in a message.
func (n Names) MentionedIn(data []byte) bool { return n.find(data, n.mentionedBy) }

// mentionedBy is Within for a text of a message, except that a timestamp names nobody even if an id equals its year or
// its seconds: without the timestamp, the message could no longer be read.
func (n Names) mentionedBy(s string) bool {
	if !n.Within(s) {
		return false
	}

	_, err := time.Parse(time.RFC3339, s)

	return err != nil
}

func (n Names) find(data []byte, is func(string) bool) bool {
	if !n.mayBeIn(data) {
		return false
	}

	if !json.Valid(data) {
		return n.Within(string(data))
	}

	for rest := data; ; {
		var s string
		var more bool
		if s, rest, more = nextText(rest); !more {
			return n.inPayload(data, is)
		}

		if is(s) {
			return true
		}
	}
}

// mayBeIn spares decoding a message that contains no name. Text with an escape, or a payload, may contain it in another
// form.
func (n Names) mayBeIn(data []byte) bool {
	lower := bytes.ToLower(data)
	return bytes.IndexByte(data, '\\') >= 0 || bytes.Contains(data, []byte(`"payload"`)) ||
		bytes.Contains(lower, bytes.ToLower([]byte(n.Employee))) ||
		slices.ContainsFunc(n.Users, func(u string) bool { return bytes.Contains(lower, bytes.ToLower([]byte(u))) })
}

// inPayload searches the original message that a dead letter holds.
func (n Names) inPayload(data []byte, is func(string) bool) bool {
	var letter struct {
		Payload []byte `json:"payload"`
	}
	return bytes.Contains(data, []byte(`"payload"`)) && json.Unmarshal(data, &letter) == nil && len(letter.Payload) > 0 && n.find(letter.Payload, is)
}

// nextText returns the next string in valid JSON, and what follows it.
func nextText(data []byte) (s string, rest []byte, more bool) {
	from := bytes.IndexByte(data, '"')
	if from < 0 {
		return "", nil, false
	}

	for to := from + 1; ; to++ {
		switch data[to] {
		case '\\':
			to++
		case '"':
			_ = json.Unmarshal(data[from:to+1], &s) // it is valid JSON
			return s, data[to+1:], true
		}
	}
}

// Redact replaces each text of a JSON value that contains one of the names with Gone, except timestamps.
func (n Names) Redact(data json.RawMessage) (json.RawMessage, error) {
	if len(data) == 0 {
		return data, nil
	}

	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()

	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, err
	}

	return json.Marshal(n.redact(v))
}

func (n Names) redact(v any) any {
	switch v := v.(type) {
	case string:
		if n.mentionedBy(v) {
			return Gone
		}
	case []any:
		for i := range v {
			v[i] = n.redact(v[i])
		}
	case map[string]any:
		for key, value := range v {
			if n.Within(key) {
				delete(v, key)
				key = Gone
			}

			v[key] = n.redact(value)
		}
	}

	return v
}
