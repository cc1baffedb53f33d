package ingest

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/shared/control"
	"bobosync/shared/event"
)

const (
	mostFiles = 200
	// rowsPerAnswer keeps an answer below the broker's limit of 1 MB.
	rowsPerAnswer = 5000
)

// endpoints are what operators can ask ingest for.
func (s *service) endpoints() []control.Endpoint {
	return []control.Endpoint{
		control.On(control.FindFile, s.findFile),
		control.On(control.Files, s.listFiles),
		control.On(control.FileRows, s.listRows),
		control.On(control.Purge, s.purge),
		control.OnEvery(control.State, s.state),
	}
}

// listFiles tells of files.
func (s *service) listFiles(_ context.Context, req control.FilesRequest) (control.FilesAnswer, error) {
	files, err := s.ledger.Files()
	if err != nil {
		return control.FilesAnswer{}, err
	}
	problems, err := s.ledger.Problems()
	if err != nil {
		return control.FilesAnswer{}, err
	}
	answer := control.FilesAnswer{Problems: map[string]control.Problem{}}
	for name, p := range problems {
		if req.Text == "" || req.Text == name {
			answer.Problems[name] = control.Problem{Reason: p.Reason, Since: p.Since}
		}
	}
	for _, f := range files {
		if meant(f, req.Text) && (!req.Open || f.NeedsWork()) {
			answer.Files = append(answer.Files, s.stateOf(f))
		}
	}
	most := req.Most
	if most <= 0 {
		most = mostFiles
	}
	if more := len(answer.Files) - most; more > 0 {
		answer.Files, answer.More = answer.Files[more:], more
	}
	return answer, nil
}

// meant says whether the text names the file; an empty text names all.
func meant(f *ledger.File, text string) bool {
	if text == "" || f.Name == text || len(text) >= 6 && strings.HasPrefix(f.ID, text) {
		return true
	}
	for _, p := range f.Places {
		if p.Name == text {
			return true
		}
	}
	return false
}

func (s *service) stateOf(f *ledger.File) control.FileState {
	state := control.FileState{
		ID: f.ID, Name: f.Name, Status: string(f.Status), Failed: f.Failed(), Problem: f.Problem, Size: f.Size,
		Rows: f.Rows, Rejected: f.Rejected, Pending: f.Pending(), Outcomes: map[string]int{},
		FirstSeen: f.FirstSeen, Published: f.Published, Finished: f.Finished, Purged: f.Purged,
	}
	for code, n := range f.Codes {
		state.Outcomes[code.String()] = n
	}
	for _, p := range f.Places {
		switch {
		case p.Kept():
			state.Paths = append(state.Paths, p.MovedTo)
		case p.Left():
			state.Paths = append(state.Paths, filepath.Join(s.cfg.CSVDirectory, p.Name))
		}
	}
	for _, n := range f.History {
		state.History = append(state.History, control.Note{At: n.At, Text: n.Text})
	}
	return state
}

// listRows tells of rows of a file.
func (s *service) listRows(_ context.Context, req control.RowsRequest) (control.RowsAnswer, error) {
	want := func(c ledger.Code) bool { return true }
	if !req.All {
		want = needsLook
	}
	var answer control.RowsAnswer
	for row, err := range s.ledger.Rows(req.ID, want) {
		if err != nil {
			return answer, err
		}
		if row.Line <= req.After {
			continue
		}
		if len(answer.Rows) == rowsPerAnswer {
			answer.More = true
			break
		}
		answer.Rows = append(answer.Rows, control.RowState{Line: row.Line, Outcome: row.Code.String(), Text: explain(row)})
	}
	return answer, nil
}

// needsLook says whether somebody may have to look after such a row.
func needsLook(c ledger.Code) bool {
	switch c {
	case ledger.Code(event.Dead), ledger.Code(event.Unmapped), ledger.Code(event.UnknownUser), ledger.Code(event.ForbiddenUser):
		return true
	default:
		return c.Rejected()
	}
}

// explanations are for people what the outcomes' names are for scripts.
var explanations = map[event.Outcome]string{
	event.Pending:       "waits for its outcome",
	event.Applied:       "AtHoc holds it",
	event.Superseded:    "a newer event of the worker has won",
	event.Expired:       "duty that was too old to be shown before it could be sent",
	event.Unmapped:      "no AtHoc user has this employee id; it is sent if one gets it",
	event.UnknownUser:   "AtHoc does not have the user that this employee id is mapped to",
	event.ForbiddenUser: "AtHoc does not let this account write the user",
	event.Dead:          "AtHoc will never take it",
}

func explain(row ledger.Row) string {
	text := row.Code.Text()
	if known := explanations[event.Outcome(row.Code)]; known != "" {
		text = known
	}
	switch {
	case row.Detail != "":
		return text + ": " + row.Detail
	case row.Code == ledger.Code(bobocsv.Columns) && row.Number > 0:
		return fmt.Sprintf("%s (it has %d)", text, row.Number)
	default:
		return text
	}
}
