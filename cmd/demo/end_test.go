package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"strings"
	"testing"
	"time"
)

// smallDemo returns options for a demo with few files, whose temporary directory belongs to the test.
func smallDemo(t *testing.T) (o options, out *bytes.Buffer, temp string) {
	t.Helper()

	if testing.Short() {
		t.Skip("starts everything, and takes seconds")
	}

	temp = t.TempDir()
	t.Setenv("TMPDIR", temp) // Windows reads TMP
	t.Setenv("TMP", temp)

	out = &bytes.Buffer{}

	return options{
		Workers: 60, Files: 20, Seed: 5, Span: 5 * time.Second, Outage: time.Second, Out: out, Err: out, Serve: serve,
	}, out, temp
}

func left(t *testing.T, dir string) []os.DirEntry {
	t.Helper()

	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}

	return entries
}

func TestDemoEndsRight(t *testing.T) {
	o, out, temp := smallDemo(t)
	if err := play(t.Context(), o); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	if first, _, _ := strings.Cut(out.String(), "\n"); !strings.Contains(first, "look at it in a browser") || !strings.Contains(first, "http://127.0.0.1:") {
		t.Errorf("the first line is %q", first)
	}

	for _, want := range []string{
		"RIGHT", "20 dropped: 19 processed, 1 set aside, 0 left", "AtHoc goes down", "AtHoc is back", " unknown_user", " forbidden_user",
		" unmapped", " expired", " superseded", " applied",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in the output", want)
		}
	}

	if t.Failed() {
		t.Log(out)
	}

	if some := left(t, temp); len(some) > 0 {
		t.Errorf("left behind: %v", some)
	}
}

// TestDemoFindsWrongEnds runs a pipeline that is set up wrongly: it uses another address for AtHoc.
func TestDemoFindsWrongEnds(t *testing.T) {
	o, out, temp := smallDemo(t)
	o.Serve = func(ctx context.Context, vars map[string]string, log *slog.Logger) error {
		vars = maps.Clone(vars)
		vars["ATHOC_TIMEZONE"] = "Asia/Tokyo"
		return serve(ctx, vars, log)
	}
	if err := play(t.Context(), o); !errors.Is(err, errWrong) {
		t.Fatalf("got %v, want %v\n%s", err, errWrong, out)
	}

	for _, want := range []string{"WRONG", "users wrong, 0 findings in files", "The log ends with:", "are kept in " + temp} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

func TestDemoInterrupted(t *testing.T) {
	o, out, temp := smallDemo(t)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	o.Out = writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("files begin to come")) {
			cancel()
		}
		return out.Write(p)
	})
	if err := play(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v\n%s", err, context.Canceled, out)
	}

	if some := left(t, temp); len(some) > 0 {
		t.Errorf("left behind: %v", some)
	}
}

func TestDemoServicesThatCannotStart(t *testing.T) {
	o, out, _ := smallDemo(t)
	broken := errors.New("no room on the disk")
	o.Serve = func(context.Context, map[string]string, *slog.Logger) error { return broken }
	if err := play(t.Context(), o); !errors.Is(err, broken) {
		t.Errorf("got %v, want %v\n%s", err, broken, out)
	}
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }
