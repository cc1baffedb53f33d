package content

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// textCheck checks whether the blocks that are added to it are UTF-8 text. A NUL is valid UTF-8, but text never
// contains one: it gives away UTF-16 and binary data, and terabytes of NULs may follow.
type textCheck struct {
	offset int64
	carry  []byte // the beginning of a character that was cut at the end of the last block
	bad    string
}

// add checks the next block. It returns the index of the first NUL in the block, which ends the check, or -1.
func (t *textCheck) add(p []byte) (nul int) {
	if nul = bytes.IndexByte(p, 0); nul >= 0 {
		t.bad = fmt.Sprintf("not a text: NUL at byte %d", t.offset+int64(nul)+1)
		return nul
	}

	start := t.offset - int64(len(t.carry))
	t.offset += int64(len(p))
	if t.bad != "" {
		return nul
	}

	if len(t.carry) > 0 {
		p = append(t.carry, p...)
	}

	whole := len(p)
	if last := lastRune(p); last < whole && !utf8.FullRune(p[last:]) {
		whole = last
	}

	t.carry = bytes.Clone(p[whole:])
	if !utf8.Valid(p[:whole]) {
		t.bad = fmt.Sprintf("not a UTF-8 text: near byte %d", start+int64(firstInvalid(p[:whole]))+1)
	}

	return nul
}

// lastRune returns where the last character of p starts, or len(p) if no start is among the last utf8.UTFMax bytes.
func lastRune(p []byte) int {
	for i := len(p) - 1; i >= 0 && i >= len(p)-utf8.UTFMax; i-- {
		if utf8.RuneStart(p[i]) {
			return i
		}
	}

	return len(p)
}

func firstInvalid(p []byte) int {
	for i := 0; i < len(p); {
		r, size := utf8.DecodeRune(p[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}

		i += size
	}

	return len(p)
}

func (t *textCheck) finding() string {
	if t.bad == "" && len(t.carry) > 0 {
		return fmt.Sprintf("not a UTF-8 text: it ends within a character, at byte %d", t.offset)
	}
	return t.bad
}
