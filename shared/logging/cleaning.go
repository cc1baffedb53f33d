package logging

import (
	"context"
	"fmt"
	"log/slog"

	"bobosync/shared/text"
)

// cleaning makes text from outside harmless in a log for people: a file's name, an id or AtHoc's words can neither
// control the terminal nor begin a line.
type cleaning struct{ slog.Handler }

// Handle implements [slog.Handler].
func (c cleaning) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, text.Clean(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(cleanAttr(a))
		return true
	})

	return c.Handler.Handle(ctx, clean)
}

// WithAttrs implements [slog.Handler].
func (c cleaning) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = cleanAttr(a)
	}

	return cleaning{c.Handler.WithAttrs(clean)}
}

// WithGroup implements [slog.Handler].
func (c cleaning) WithGroup(name string) slog.Handler {
	return cleaning{c.Handler.WithGroup(text.Clean(name))}
}

// cleanAttr cleans an attribute that is a text, or is shown as one.
func cleanAttr(a slog.Attr) slog.Attr {
	a.Key = text.Clean(a.Key)
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(text.Clean(v.String()))
	case slog.KindGroup:
		group := v.Group()
		clean := make([]slog.Attr, len(group))
		for i, one := range group {
			clean[i] = cleanAttr(one)
		}

		a.Value = slog.GroupValue(clean...)
	case slog.KindAny:
		a.Value = slog.StringValue(text.Clean(fmt.Sprintf("%+v", v.Any())))
	}

	return a
}
