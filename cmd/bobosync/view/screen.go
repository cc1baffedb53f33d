package view

import (
	"bytes"
	"fmt"
	"io"

	"bobosync/cmd/bobosync/terminal"
	"bobosync/shared/text"
	"bobosync/shared/verdict"
)

// Color reports whether the verdict is coloured. The words say the same without it.
type Color bool

// level colours a text by how bad the level is, and makes the text harmless.
func (c Color) level(l verdict.Level, s string) text.Raw {
	s = text.Clean(s)
	if !c {
		return text.Raw(s)
	}

	return text.Raw([...]string{"\x1b[1;32m", "\x1b[1;33m", "\x1b[1;31m"}[l] + s + "\x1b[0m")
}

// Screen shows blocks of text; on a terminal, each replaces the previous one.
type Screen struct {
	w        io.Writer
	terminal bool
	Color    Color
	drawn    bool
}

// NewScreen returns a screen that writes to w.
func NewScreen(w io.Writer) *Screen {
	is, color := terminal.Detect(w)
	return &Screen{w: w, terminal: is, Color: Color(color)}
}

const clearScreen = "\x1b[H\x1b[2J"

// Draw shows what block writes, in a single write so that nothing flickers.
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
