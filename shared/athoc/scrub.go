package athoc

import (
	"encoding/json"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// quoteLimit is the most characters of a server's answer that an error text quotes.
	quoteLimit = 200
	// quoteRead is how many bytes of an answer are read for that.
	quoteRead = 16 << 10
)

var (
	bearerPattern = regexp.MustCompile(`(?i)\bbearer\s+[^\s"'<>,;]+`)
	jwtPattern    = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}(\.[A-Za-z0-9_-]*){0,2}`)
	// An error text of the server's can name users that were never sent.
	emailPattern = regexp.MustCompile(`[^\s"'<>:;,()\[\]]+@[^\s"'<>:;,()\[\]]+`)
)

// scrubber hides the client's secrets in text that others wrote.
type scrubber struct {
	secrets []string
}

// newScrubber returns a scrubber for the given values, in every form in which a server is likely to echo them.
func newScrubber(values ...string) scrubber {
	var s scrubber
	for _, v := range values {
		if v == "" {
			continue
		}

		quoted, _ := json.Marshal(v) // a string always has a JSON form
		forms := []string{v, url.QueryEscape(v), url.PathEscape(v), strings.Trim(string(quoted), `"`), html.EscapeString(v)}
		s.secrets = append(s.secrets, forms...)
	}

	return s
}

// quote makes text fit for an error: without secrets, tokens, email addresses and the given usernames, on one line, and
// no longer than quoteLimit.
func (s scrubber) quote(text string, usernames ...string) string {
	for _, secret := range s.secrets {
		text = strings.ReplaceAll(text, secret, "[hidden]")
	}

	text = bearerPattern.ReplaceAllString(text, "[hidden]")
	text = jwtPattern.ReplaceAllString(text, "[hidden]")
	text = emailPattern.ReplaceAllString(hideNames(text, usernames), "[user]")

	return shorten(oneLine(text))
}

// hideNames replaces each of the names, in any letter case, wherever it appears as a word of its own.
func hideNames(text string, names []string) string {
	folded := foldCase(text)
	var found []string
	for _, name := range names {
		if name != "" && strings.Contains(folded, foldCase(name)) {
			found = append(found, name)
		}
	}

	// The longest first: "joe" would leave the rest of "joe.doe" behind.
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })

	for _, name := range found {
		text = hideName(text, name)
	}

	return text
}

// hideName replaces one name. It compares folded runes, since a change of case can change a text's length in bytes.
func hideName(text, name string) string {
	runes, folded, want := []rune(text), []rune(foldCase(text)), []rune(foldCase(name))
	var b strings.Builder
	for i := 0; i < len(runes); {
		if wordAt(folded, want, i) {
			b.WriteString("[user]")

			i += len(want)
			continue
		}

		b.WriteRune(runes[i])
		i++
	}

	return b.String()
}

// wordAt reports whether want occurs at i with no letter or digit on either side. A short username such as "a" must not
// make holes in every other word.
func wordAt(text, want []rune, i int) bool {
	end := i + len(want)
	if end > len(text) || string(text[i:end]) != string(want) {
		return false
	}

	return (i == 0 || !isWord(text[i-1])) && (end == len(text) || !isWord(text[end]))
}

func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// foldCase maps texts that strings.EqualFold calls equal to the same text, rune by rune.
func foldCase(s string) string {
	return strings.Map(func(r rune) rune {
		smallest := r
		for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
			smallest = min(smallest, next)
		}

		return smallest
	}, s)
}

// oneLine turns everything that could break a log line into single spaces.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)

	return strings.Join(strings.Fields(s), " ")
}

func shorten(s string) string {
	runes := []rune(s)
	if len(runes) <= quoteLimit {
		return s
	}

	return string(runes[:quoteLimit-1]) + "…"
}
