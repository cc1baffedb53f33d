package client

// Asking for files, and words for where they are.

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/text"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

// AskFiles asks for files until it has as many as wanted: one answer holds no more than fit into a message.
func AskFiles(ctx context.Context, conn *bus.Conn, req control.FilesRequest) (control.FilesAnswer, error) {
	all, err := Ask[control.FilesAnswer](ctx, conn, topology.Ingest, control.Files, req)
	for wanted := req.Most; err == nil && all.More > 0 && len(all.Files) < wanted; {
		req.Skip, req.Most = len(all.Files), wanted-len(all.Files)
		var earlier control.FilesAnswer
		if earlier, err = Ask[control.FilesAnswer](ctx, conn, topology.Ingest, control.Files, req); len(earlier.Files) == 0 {
			break
		}

		all.Files, all.More = append(earlier.Files, all.Files...), earlier.More
	}

	return all, err
}

// FileStatus describes the state of a file in a word or two.
func FileStatus(f control.FileState) string {
	switch {
	case f.Problem != "":
		return "set aside"
	case f.Failed:
		return f.Status + " (failed)"
	default:
		return f.Status
	}
}

// RowsDo processes rows as they arrive.
type RowsDo func(rows []control.RowState) error

// EachRow asks for a file's rows in parts and calls do for each part.
func EachRow(ctx context.Context, conn *bus.Conn, f control.FileState, all bool, do RowsDo) error {
	req := control.RowsRequest{ID: f.ID, All: all}
	for {
		answer, err := Ask[control.RowsAnswer](ctx, conn, topology.Ingest, control.FileRows, req)
		if err != nil {
			return err
		}

		if err := do(answer.Rows); err != nil {
			return err
		}

		if !answer.More || len(answer.Rows) == 0 {
			return nil
		}

		req.After = answer.Rows[len(answer.Rows)-1].Line
	}
}

// Finished reports whether a file is completely processed.
func Finished(f control.FileState) bool {
	return f.Status != statusReading && f.Status != statusWaiting && f.Status != statusDone
}

// Whereabouts says in a few sentences where a file is and why it is not done, judging by the facts and the verdict on
// them.
func Whereabouts(f control.FileState, facts verdict.Facts, v verdict.Verdict) string {
	held := heldRows(f, facts)
	switch {
	case Finished(f):
		return finished(f)
	case f.Blocked != nil:
		return fmt.Sprintf("All of its rows are settled, but it cannot be moved out of CSV_DIRECTORY since %s: %s.", text.When(f.Blocked.Since), f.Blocked.Reason)
	case held > 0 && held >= f.Pending:
		return inWork(f) + forDecision(held)
	case held > 0:
		return inWork(f) + forDecision(held) + " The others:" + whyWaiting(v)
	default:
		return inWork(f) + whyWaiting(v)
	}
}

// heldRows counts the rows of a file that wait for a person.
func heldRows(f control.FileState, facts verdict.Facts) (n int) {
	for _, s := range facts.Resolver {
		if s.Guard != nil {
			n += s.Guard.Rows[f.ID]
		}
	}

	return n
}

func forDecision(rows int) string {
	return fmt.Sprintf(" A person has to decide about a mass change with %s of it, which time alone does not release: bobosync held list.", text.Count(rows, "row"))
}

// The states of a file, as ingest names them.
const (
	statusReading = "reading"
	statusWaiting = "waiting"
	statusDone    = "done"
)

func inWork(f control.FileState) string {
	switch f.Status {
	case statusReading:
		return fmt.Sprintf("It is being read; it was first seen at %s.", text.When(f.FirstSeen))
	case statusWaiting:
		return fmt.Sprintf("It waits in CSV_DIRECTORY since %s: %d of its %d rows are not settled yet.", text.When(f.FirstSeen), f.Pending, f.Rows)
	default:
		return "All of its rows are settled; it is still to be moved out of CSV_DIRECTORY."
	}
}

func finished(f control.FileState) string {
	switch {
	case f.Problem != "":
		return "Nothing of it was sent, since it cannot be read as text: " + f.Problem + "."
	case f.Failed && f.Outcomes[event.Dead.String()] == 0:
		return fmt.Sprintf("It lies among the failed files, since a mass change with %s of it was rejected: bobosync held list says by whom and why.",
			text.Count(f.Outcomes[event.Withheld.String()], "row"))
	case f.Failed:
		return fmt.Sprintf("It lies among the failed files, since AtHoc will never take %s of it as they are: bobosync dead list --file %s says why.",
			text.Count(f.Outcomes[event.Dead.String()], "row"), text.Short(f.ID))
	default:
		return fmt.Sprintf("It is done since %s: all of its rows are settled.", text.When(f.Finished))
	}
}

// delaying are causes that make files wait although they are not problems yet.
var delaying = []string{
	verdict.CauseRecovering, verdict.CauseAtHocDown, verdict.CauseWebPage, verdict.CauseThrottled, verdict.CauseUserRefused, verdict.CausePaused,
	verdict.CauseFull,
}

// whyWaiting names what is broken and so makes a file wait.
func whyWaiting(v verdict.Verdict) string {
	var why []string
	for _, found := range v.Findings {
		if found.Level == verdict.Problem && found.Cause != verdict.CauseLate || slices.Contains(delaying, found.Cause) {
			why = append(why, found.Text+".")
		}
	}

	if len(why) == 0 {
		return " Nothing is broken: it goes on by itself."
	}

	return " The reason: " + strings.Join(why, " ")
}
