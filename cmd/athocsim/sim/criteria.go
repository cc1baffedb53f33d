package sim

import (
	"fmt"
	"strings"
	"time"
)

// maxCriteriaDepth bounds nested brackets, so that a hostile filter cannot exhaust the stack.
const maxCriteriaDepth = 100

// criterion is a parsed search filter.
type criterion interface {
	match(values []string) bool
	// String is the filter in a canonical form that parses to the same filter.
	String() string
}

type (
	orNode      struct{ left, right criterion }
	andNode     struct{ left, right criterion }
	presentNode struct {
		name   string
		column int
	}
	compareNode struct {
		name   string
		column int
		op     string // eq, lt or gt
		value  string
		fold   bool       // LOGIN_ID is matched without regard to case
		date   *time.Time // set for date attributes: they compare as dates
	}
)

func (n orNode) match(v []string) bool  { return n.left.match(v) || n.right.match(v) }
func (n andNode) match(v []string) bool { return n.left.match(v) && n.right.match(v) }
func (n presentNode) match(v []string) bool {
	return column(v, n.column) != ""
}

// match returns false for an attribute without a value: nothing is less or greater than a value that is missing.
func (n compareNode) match(v []string) bool {
	have := column(v, n.column)
	if have == "" {
		return false
	}

	var order int
	switch {
	case n.date != nil:
		d, err := parseDate(have)
		if err != nil {
			return false
		}

		order = d.Compare(*n.date)
	case n.fold:
		order = strings.Compare(strings.ToLower(have), strings.ToLower(n.value))
	default:
		order = strings.Compare(have, n.value)
	}

	return n.op == "eq" && order == 0 || n.op == "lt" && order < 0 || n.op == "gt" && order > 0
}

func (n orNode) String() string      { return "(" + n.left.String() + " or " + n.right.String() + ")" }
func (n andNode) String() string     { return "(" + n.left.String() + " and " + n.right.String() + ")" }
func (n presentNode) String() string { return n.name + " pr" }
func (n compareNode) String() string {
	return n.name + " " + n.op + " '" + strings.ReplaceAll(n.value, "'", "''") + "'"
}

func column(values []string, i int) string {
	if i < len(values) {
		return values[i]
	}
	return ""
}

// criteriaParser parses this grammar: or = and {"or" and}; and = term {"and" term}; term = "(" or ")" | NAME "pr" |
// NAME op 'value'. A quote inside a value is written twice. Keywords are matched without regard to case, attribute
// names exactly.
type criteriaParser struct {
	text   string
	pos    int
	tok    string
	quoted bool // the token is a quoted value
	start  int  // where the token starts, for messages
	depth  int
	lookup func(name string) (Attribute, int, bool)
}

// parseCriteria parses a filter against the organisation's attributes; its errors are meant for the caller of the API.
func parseCriteria(text string, lookup func(string) (Attribute, int, bool)) (criterion, error) {
	p := &criteriaParser{text: text, lookup: lookup}
	if err := p.next(); err != nil {
		return nil, err
	}

	c, err := p.or()
	if err != nil {
		return nil, err
	}

	if p.tok != "" || p.quoted {
		return nil, p.fail("unexpected %q", p.tok)
	}

	return c, nil
}

func (p *criteriaParser) fail(format string, args ...any) error {
	//nolint:staticcheck // it names the parameter as AtHoc spells it
	return fmt.Errorf("Criteria, position %d: %s", p.start+1, fmt.Sprintf(format, args...))
}

// next reads one token; an empty unquoted token is the end.
func (p *criteriaParser) next() error {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}

	p.start, p.quoted, p.tok = p.pos, false, ""
	if p.pos == len(p.text) {
		return nil
	}

	switch p.text[p.pos] {
	case '(', ')':
		p.pos++
		p.tok = p.text[p.start:p.pos]
	case '\'':
		return p.nextQuoted()
	default:
		n := strings.IndexAny(p.text[p.pos:], "()' \t\r\n")
		if n < 0 {
			n = len(p.text) - p.pos
		}

		p.pos += n
		p.tok = p.text[p.start:p.pos]
	}

	return nil
}

func (p *criteriaParser) nextQuoted() error {
	var b strings.Builder
	for rest := p.text[p.pos+1:]; ; {
		end := strings.IndexByte(rest, '\'')
		if end < 0 {
			return p.fail("the value has no closing quote")
		}

		b.WriteString(rest[:end])

		rest = rest[end+1:]
		if !strings.HasPrefix(rest, "'") {
			p.pos = len(p.text) - len(rest)
			break
		}

		b.WriteByte('\'')

		rest = rest[1:]
	}

	p.tok, p.quoted = b.String(), true

	return nil
}

func (p *criteriaParser) keyword(word string) bool {
	return !p.quoted && strings.EqualFold(p.tok, word)
}

func (p *criteriaParser) or() (criterion, error) {
	return p.joined("or", p.and, func(l, r criterion) criterion { return orNode{l, r} })
}

func (p *criteriaParser) and() (criterion, error) {
	return p.joined("and", p.term, func(l, r criterion) criterion { return andNode{l, r} })
}

func (p *criteriaParser) joined(word string, part func() (criterion, error), join func(l, r criterion) criterion) (criterion, error) {
	left, err := part()
	for n := 0; err == nil && p.keyword(word); n++ {
		// Each join nests the tree one level deeper, and match walks it recursively.
		if n >= 10*maxCriteriaDepth {
			return nil, p.fail("too many conditions")
		}

		if err = p.next(); err != nil {
			return nil, err
		}

		var right criterion
		if right, err = part(); err == nil {
			left = join(left, right)
		}
	}

	return left, err
}

func (p *criteriaParser) term() (criterion, error) {
	if p.keyword("(") {
		return p.bracket()
	}

	if p.quoted || p.tok == "" || p.tok == ")" {
		return nil, p.fail("an attribute name or a bracket is expected")
	}

	attr, col, ok := p.lookup(p.tok)
	if !ok {
		//nolint:staticcheck // it names the parameter as AtHoc spells it
		return nil, fmt.Errorf("Criteria: %w", unknownAttribute(p.tok))
	}

	if err := p.next(); err != nil {
		return nil, err
	}

	if p.keyword("pr") {
		return presentNode{attr.Name, col}, p.next()
	}

	return p.comparison(attr, col)
}

func (p *criteriaParser) bracket() (criterion, error) {
	if p.depth++; p.depth > maxCriteriaDepth {
		return nil, p.fail("too many brackets")
	}
	defer func() { p.depth-- }()

	if err := p.next(); err != nil {
		return nil, err
	}

	c, err := p.or()
	if err != nil {
		return nil, err
	}

	if !p.keyword(")") {
		return nil, p.fail("a closing bracket is missing")
	}

	return c, p.next()
}

func (p *criteriaParser) comparison(attr Attribute, col int) (criterion, error) {
	n := compareNode{name: attr.Name, column: col, op: strings.ToLower(p.tok), fold: attr.Name == LoginID}
	if p.quoted || n.op != "eq" && n.op != "lt" && n.op != "gt" {
		return nil, p.fail("eq, lt, gt or pr is expected after %s", attr.Name)
	}

	if err := p.next(); err != nil {
		return nil, err
	}

	if !p.quoted {
		return nil, p.fail("a value in single quotes is expected after %s %s", attr.Name, n.op)
	}

	if p.tok == "" {
		return nil, p.fail("the value of %s is empty; pr finds users with a value", attr.Name)
	}

	n.value = p.tok
	if attr.Type == TypeDate {
		d, err := parseDate(n.value)
		if err != nil {
			return nil, p.fail("%s is a date: %v", attr.Name, err)
		}

		n.date = &d
	}

	return n, p.next()
}
