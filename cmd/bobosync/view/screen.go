package view

import (
	"bytes"
	"fmt"
	"io"

	"bobosync/cmd/bobosync/terminal"
	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

// Color colours the verdict on a terminal; the words say the same without it.
type Color bool

// level colours a text by how bad it is; the text itself is cleaned.
func (c Color) level(l verdict.Level, s string) text.Raw {
	s = text.Clean(s)
	if !c {
		return text.Raw(s)
	}

	return text.Raw([...]string{"\x1b[1;32m", "\x1b[1;33m", "\x1b[1;31m"}[l] + s + "\x1b[0m")
}

// Screen shows block after block, on a terminal each in place of the previous one.
type Screen struct {
	w        io.Writer
	terminal bool
	Color    Color
	drawn    bool
}

// NewScreen makes a screen of w.
func NewScreen(w io.Writer) *Screen {
	is, color := terminal.Detect(w)
	return &Screen{w: w, terminal: is, Color: Color(color)}
}

const clearScreen = "\x1b[H\x1b[2J"

// Draw shows what block writes, all at once, so that nothing flickers.
func (s *Screen) Draw(block func(io.Writer, Color) error) error {
	var page bytes.Buffer
	switch {
	case s.terminal:
		page.WriteString(clearScreen)
	case s.drawn:
		page.WriteByte('\n')
	}

	s.drawn = true
	err := block(&page, s.Color)
	if _, writeErr := s.w.Write(page.Bytes()); writeErr != nil {
		return fmt.Errorf("write the status: %w", writeErr)
	}

	return err
}
