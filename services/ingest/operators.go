package ingest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bobosync/services/ingest/internal/bobocsv"
	"bobosync/services/ingest/internal/files"
	"bobosync/services/ingest/internal/intake"
	"bobosync/services/ingest/internal/ledger"
	"bobosync/services/ingest/internal/mover"
	"bobosync/services/ingest/internal/retention"
	"bobosync/services/ingest/internal/watch"
	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
)

const (
	// maxFiles bounds the files in an answer if the request names no number. maxNames bounds the names in a state, so
	// that it stays small when something is wrong with thousands of files.
	maxFiles, maxNames = 200, 100
	// rowsPerAnswer, rowsBytes and filesBytes keep an answer below the broker's limit of 1 MB; detailBytes bounds the
	// detail of a single row.
	rowsPerAnswer = 5000
	rowsBytes     = 512 << 10
	filesBytes    = 512 << 10
	detailBytes   = 4 << 10
	// onItsWay is how long after its arrival a file counts as still on its way. A feed that brings one file after the
	// other always has such a file; if it counted as waiting, the feed would never be judged.
	onItsWay = time.Minute
)

// operators answers requests of operators and of other services. It is safe for concurrent use.
type operators struct {
	ledger   *ledger.Ledger
	found    *watch.Tracker
	intake   *intake.Intake
	mover    *mover.Mover
	purger   *retention.Purger
	dirs     *dirWatch
	fresh    *fresh
	feeds    feedSet
	cfg      Config
	now      func() time.Time
	instance control.Instance
	conn     *bus.Conn
}

func (o *operators) endpoints() []control.Endpoint {
	return []control.Endpoint{
		control.On(control.FindFile, o.findFile),
		control.On(control.Files, o.listFiles),
		control.On(control.FileRows, o.listRows),
		control.On(control.Purge, o.purger.Purge),
		control.On(control.Slowest, o.fresh.slowest),
		control.On(control.Bookings, o.bookings),
		control.On(control.MuteFeed, o.feeds.setMute),
		control.OnEvery(control.State, o.state),
	}
}

// findFile finds files by name, id, or the beginning of an id. If there are many, it returns the latest of them.
func (o *operators) findFile(_ context.Context, req control.FindRequest) ([]control.FoundFile, error) {
	if req.Text == "" {
		return nil, control.Refuse("name a file, or the beginning of its id")
	}

	files, err := o.named(req.Text)
	if err != nil {
		return nil, err
	}

	var found []control.FoundFile
	for _, f := range files {
		if matches(f, req.Text) {
			found = append(found, control.FoundFile{ID: f.ID, Name: ledger.Display(f.Name)})
		}
	}

	return found[max(0, len(found)-maxFiles):], nil
}

// listFiles describes files.
func (o *operators) listFiles(_ context.Context, req control.FilesRequest) (control.FilesAnswer, error) {
	files, err := o.named(req.Text)
	if err != nil {
		return control.FilesAnswer{}, err
	}

	problems := o.problems(func(name string) bool { return req.Text == "" || req.Text == name })
	var answer control.FilesAnswer
	answer.MoreProblems = max(0, len(problems)-maxNames)
	answer.Problems = first(problems, bySince)

	files = slices.DeleteFunc(files, func(f *ledger.File) bool { return !matches(f, req.Text) || req.Open && !f.NeedsWork() })
	files = files[:max(0, len(files)-max(0, req.Skip))]

	most := req.Most
	if most <= 0 {
		most = maxFiles
	}

	blocked := o.mover.Blocked()
	size := 0
	for _, f := range slices.Backward(files) {
		state := o.stateOf(f, blocked)

		data, err := json.Marshal(state)
		if err != nil {
			return control.FilesAnswer{}, err
		}

		if size += len(data); len(answer.Files) == most || size > filesBytes && len(answer.Files) > 0 {
			break
		}

		answer.Files = append(answer.Files, state)
	}

	answer.More = len(files) - len(answer.Files)
	slices.Reverse(answer.Files)

	return answer, nil
}

// problems returns the wanted names in the input directory that cannot be read as a file, as operators see the names.
func (o *operators) problems(wanted func(name string) bool) map[string]control.Problem {
	all := map[string]control.Problem{}
	for name, p := range o.found.Problems() {
		if name = ledger.Display(name); wanted(name) {
			all[name] = control.Problem{Reason: p.Reason, Since: p.Since}
		}
	}

	return all
}

func bySince(a, b control.Problem) int { return a.Since.Compare(b.Since) }

// named returns the files that a text may name, oldest reading first. For a whole id it returns only that file,
// without reading all records.
func (o *operators) named(text string) ([]*ledger.File, error) {
	if f, err := o.ledger.File(text); f != nil || err != nil {
		return []*ledger.File{f}, err
	}
	return o.ledger.Files()
}

// matches reports whether the text names the file. An empty text names every file.
func matches(f *ledger.File, text string) bool {
	if text == "" || ledger.Display(f.Name) == text || len(text) >= 6 && strings.HasPrefix(f.ID, text) {
		return true
	}
	return slices.ContainsFunc(f.Copies, func(p ledger.Copy) bool { return ledger.Display(p.Name) == text })
}

func (o *operators) stateOf(f *ledger.File, blocked map[string]string) control.FileState {
	state := control.FileState{
		ID: f.ID, Name: ledger.Display(f.Name), Feed: files.FeedOf(f.Name), Status: string(f.Status), Failed: f.Failed(), Problem: f.Problem, Size: f.Size,
		Rows: f.Rows, Rejected: f.Rejected, Pending: f.Pending(), Outcomes: map[string]int{},
		FirstSeen: f.FirstSeen, Published: f.Published, Finished: f.Finished, Purged: f.Purged,
	}
	if reason := blocked[f.ID]; reason != "" {
		state.Blocked = &control.Problem{Reason: reason, Since: blockedSince(f)}
	}

	for code, n := range f.Codes {
		state.Outcomes[code.String()] = n
	}

	for _, p := range f.Copies {
		switch {
		case p.AtDest():
			state.Paths = append(state.Paths, ledger.Display(p.MovedTo))
		case p.InInput():
			dir, _ := o.cfg.Inputs().Dir(p.Name)
			state.Paths = append(state.Paths, ledger.Display(filepath.Join(dir, files.Base(p.Name))))
		}
	}

	for _, n := range f.History {
		state.History = append(state.History, control.Note{At: n.At, Text: n.Text})
	}

	return state
}

// blockedSince returns since when a file that cannot be moved should have been moved: since it was finished, or since
// it was found again after that.
func blockedSince(f *ledger.File) time.Time {
	since := f.Finished
	for _, p := range f.Copies.InInput() {
		if p.Found.After(since) {
			since = p.Found
		}
	}

	return since
}

// listRows describes rows of a file.
func (o *operators) listRows(_ context.Context, req control.RowsRequest) (control.RowsAnswer, error) {
	want := func(c ledger.Code) bool { return true }
	if !req.All {
		want = needsAttention
	}

	var answer control.RowsAnswer
	size := 0
	for row, err := range o.ledger.Rows(req.ID, want) {
		if err != nil {
			return answer, err
		}

		if row.Line <= req.After {
			continue
		}

		state := control.RowState{Line: row.Line, Outcome: row.Code.String(), Text: explain(row)}

		data, err := json.Marshal(state)
		if err != nil {
			return answer, err
		}

		if size += len(data); len(answer.Rows) == rowsPerAnswer || size > rowsBytes && len(answer.Rows) > 0 {
			answer.More = true
			break
		}

		answer.Rows = append(answer.Rows, state)
	}

	return answer, nil
}

// needsAttention reports whether a row with this code may need somebody's attention.
func needsAttention(c ledger.Code) bool {
	switch c {
	case ledger.Code(event.Dead), ledger.Code(event.Withheld), ledger.Code(event.Unmapped), ledger.Code(event.UnknownUser), ledger.Code(event.ForbiddenUser):
		return true
	default:
		return c.Rejected()
	}
}

// explanations are the outcomes in words for people.
var explanations = map[event.Outcome]string{
	event.Pending:       "waits for its outcome",
	event.Applied:       "AtHoc has taken it",
	event.Superseded:    "a newer event of the worker has won",
	event.Expired:       "duty that was too old to be shown before it could be sent",
	event.Unmapped:      "no AtHoc user has this employee id; it is sent if one gets it",
	event.UnknownUser:   "AtHoc does not have the user that this employee id is mapped to",
	event.ForbiddenUser: "AtHoc does not let this account write the user",
	event.Dead:          "AtHoc will never take it",
	event.Withheld:      "an operator rejected the mass change that it was part of: see bobosync held list",
}

func explain(row ledger.Row) string {
	text := row.Code.Text()
	if known := explanations[event.Outcome(row.Code)]; known != "" {
		text = known
	}

	switch {
	case len(row.Detail) > detailBytes:
		return text + ": " + strings.ToValidUTF8(row.Detail[:detailBytes], "") + "…"
	case row.Detail != "":
		return text + ": " + row.Detail
	case row.Code == ledger.Code(bobocsv.Columns) && row.Number > 0:
		return fmt.Sprintf("%s (it has %d)", text, row.Number)
	default:
		return text
	}
}

// state returns how ingest is doing.
func (o *operators) state(context.Context, control.Nothing) (control.IngestState, error) {
	fresh, c, err := o.fresh.state()
	if err != nil {
		return control.IngestState{}, err
	}

	state := control.IngestState{
		Instance: o.instance, Freshness: fresh,
		Waiting: c.Waiting, Rows: c.Rows, Oldest: c.Oldest, LastFile: c.Newest,
		Unsettled:   first(o.found.Changing(), time.Time.Compare),
		Directories: o.dirs.state(), FreeBytes: o.dirs.freeBytes(), NoFiles: o.dirs.noFiles(),
		Today: control.FileCounts{
			Done: c.Today.Done, Failed: c.Today.Failed, Rows: c.Today.Rows, Rejected: c.Today.Rejected, Outcomes: map[string]int{},
		},
	}
	for code, n := range c.Today.Codes {
		state.Today.Outcomes[code.String()] = n
	}

	for _, d := range c.Doubtful[:min(len(c.Doubtful), maxNames)] {
		state.Doubtful = append(state.Doubtful, control.DoubtfulFile{
			ID: d.ID, Name: ledger.Display(d.Name), Reason: d.Reason, Finished: d.Finished, Rows: d.Rows, Rejected: d.Rejected,
		})
	}

	state.Unstored, state.Restored = o.conn.Unstored(), o.conn.Restored()
	state.Unread, state.UnreadSince = o.found.Backlog()
	state.Feeds = o.feeds.states(func(in files.Input) bool {
		return o.found.Waits(in.Prefix(), o.now().Add(-onItsWay)) || state.Directories[control.InputDirectory(in.Feed)] != ""
	})
	zone := o.cfg.Zone.Location()
	state.Zone = zone.String()
	_, state.ZoneOffset = o.now().In(zone).Zone()
	problems := o.problems(func(string) bool { return true })
	state.ProblemNames = len(problems)
	state.Problems = first(problems, bySince)

	return state, o.addBlocked(&state)
}

// addBlocked names the finished files that cannot be moved.
func (o *operators) addBlocked(state *control.IngestState) error {
	blocked := o.mover.Blocked()
	all := map[string]control.Problem{}
	for id, reason := range blocked {
		f, err := o.ledger.File(id)
		if err != nil {
			return err
		}

		if f != nil {
			all[ledger.Display(f.Name)] = control.Problem{Reason: reason, Since: blockedSince(f)}
		}
	}

	state.BlockedFiles = len(all)
	state.Blocked = first(all, bySince)

	return nil
}

// first returns the first maxNames entries of a map, by the order of compare. It may delete the others from the map.
func first[V any](all map[string]V, compare func(a, b V) int) map[string]V {
	if len(all) <= maxNames {
		return all
	}

	names := slices.SortedFunc(maps.Keys(all), func(a, b string) int { return cmp.Or(compare(all[a], all[b]), cmp.Compare(a, b)) })
	for _, name := range names[maxNames:] {
		delete(all, name)
	}

	return all
}
