// Package trial reads a file as ingest would, but publishes and stores nothing. It reports which rows the file has,
// and which booking of each worker would count.
package trial

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/services/ingest/internal/content"
	"bobosync/shared/event"
)

const (
	// maxRejected is the most rejected rows that are named.
	maxRejected = 100
	// maxWorkers bounds the memory needed: a row may be valid with any employee id.
	maxWorkers = 250_000
)

// Options are ingest's settings of the same names.
type Options struct {
	Zone         *time.Location
	MaxClockSkew time.Duration
	MaxFileSize  int64
	// Now is the assumed time of the file's arrival.
	Now time.Time
}

// Rejected is a row that holds no valid booking.
type Rejected struct {
	Line   int    `json:"line"`
	Reason string `json:"reason"`
	Text   string `json:"text"`
}

// File is what ingest would make of a file.
type File struct {
	// ID is the SHA-256 of the content, by which ingest knows a file.
	ID   string `json:"id"`
	Name string `json:"name"`
	// Problem says why the file is not text; ingest would move it to the failed files without reading its rows.
	Problem string `json:"problem,omitempty"`
	// Good counts the rows that are bookings, Bad the rejected rows.
	Good int `json:"good"`
	Bad  int `json:"bad"`
	// Reasons counts the rejected rows by reason. Rejected names the first hundred of them.
	Reasons  map[string]int `json:"reasons,omitempty"`
	Rejected []Rejected     `json:"rejected,omitempty"`
	// Beaten counts the bookings that a newer booking of the same worker in the file supersedes.
	Beaten int `json:"beaten"`
	// Entries are the bookings that count, one for each worker, in the order of the employee ids.
	Entries []event.Entry `json:"-"`
}

// Read reads the whole file at path, with the parser that ingest uses.
func Read(ctx context.Context, path string, o Options) (File, error) {
	f := File{Name: filepath.Base(path)}

	src, err := content.Open(ctx, path, content.Options{MaxSize: o.MaxFileSize})
	if err != nil {
		return f, fmt.Errorf("open %s: %w", path, err)
	}
	defer src.Close()

	if f.ID, f.Problem = src.ID, src.Problem; f.Problem != "" {
		return f, nil
	}

	text, err := src.Text(ctx)
	if err == nil {
		err = f.parse(text, o)
	}

	if err == nil {
		err = text.Check()
	}

	if err != nil {
		return f, fmt.Errorf("read %s: %w", path, err)
	}

	return f, nil
}

// parse adds all rows to f.
func (f *File) parse(src io.Reader, o Options) error {
	rows := bobocsv.NewReader(src, bobocsv.Options{Zone: o.Zone, Latest: o.Now.Add(o.MaxClockSkew)})
	latest := map[string]event.Entry{}
	for {
		row, err := rows.Read()
		switch {
		case errors.Is(err, io.EOF):
			f.Beaten = f.Good - len(latest)
			for _, e := range latest {
				f.Entries = append(f.Entries, e)
			}

			slices.SortFunc(f.Entries, func(a, b event.Entry) int { return cmp.Compare(a.Employee, b.Employee) })

			return nil
		case err != nil:
			return err
		case row.Reason != 0:
			f.reject(row)
			continue
		}

		f.Good++

		before, seen := latest[row.Entry.Employee]
		if !seen && len(latest) == maxWorkers {
			return fmt.Errorf("it names more than %d workers, which is more than a trial looks at", maxWorkers)
		}

		if !seen || row.Entry.Version(0).Compare(before.Version(0)) > 0 {
			latest[row.Entry.Employee] = row.Entry
		}
	}
}

func (f *File) reject(row bobocsv.Row) {
	f.Bad++
	if f.Reasons == nil {
		f.Reasons = map[string]int{}
	}

	f.Reasons[row.Reason.String()]++
	if len(f.Rejected) < maxRejected {
		f.Rejected = append(f.Rejected, Rejected{Line: row.Line, Reason: row.Reason.String(), Text: row.Reason.Text()})
	}
}
