package control

import "time"

// Endpoints of ingest for what became of files.
const (
	// Files takes a FilesRequest and answers with a FilesAnswer.
	Files = "files"
	// FileRows takes a RowsRequest and answers with a RowsAnswer.
	FileRows = "file-rows"
)

// FilesRequest asks for the records of files.
type FilesRequest struct {
	// Text is a name, an id or the beginning of an id; empty means all files.
	Text string `json:"text,omitempty"`
	// Open leaves out the files that are finished.
	Open bool `json:"open,omitempty"`
	// Most is the most files to return, the latest ones; 0 means 200. An answer has no more than fit into a message.
	Most int `json:"most,omitempty"`
	// Skip leaves out this many of the latest files: those of an earlier answer.
	Skip int `json:"skip,omitempty"`
}

// FilesAnswer describes files, in the order in which they were read.
type FilesAnswer struct {
	Files []FileState `json:"files"`
	// More counts the earlier files that were left out. To get them, add the number of files in this answer to Skip.
	More int `json:"more,omitempty"`
	// Problems are the things in the input directory that cannot be read as a file, by name: the oldest hundred.
	// MoreProblems counts the others.
	Problems     map[string]Problem `json:"problems,omitempty"`
	MoreProblems int                `json:"more_problems,omitempty"`
}

// FileState is the record of a file.
type FileState struct {
	ID string `json:"id"`
	// Name is the name under which it first arrived; with several feeds it is feed/name.
	Name string `json:"name"`
	Feed string `json:"feed,omitempty"`
	// Status is reading, waiting, done or moved.
	Status string `json:"status"`
	// Failed reports whether it belongs to the failed files.
	Failed bool `json:"failed,omitempty"`
	// Problem says why it cannot be read as text at all; empty if it can.
	Problem string `json:"problem,omitempty"`
	// Blocked says why it cannot be moved although it is finished, and since when.
	Blocked  *Problem `json:"blocked,omitempty"`
	Size     int64    `json:"size"`
	Rows     int      `json:"rows"`
	Rejected int      `json:"rejected"`
	// Pending counts the rows that wait for their outcome.
	Pending int `json:"pending"`
	// Outcomes counts the rows by outcome or reason of rejection.
	Outcomes map[string]int `json:"outcomes,omitempty"`
	// Paths are where its copies lie now.
	Paths     []string  `json:"paths,omitempty"`
	FirstSeen time.Time `json:"first_seen,omitzero"`
	Published time.Time `json:"published,omitzero"`
	Finished  time.Time `json:"finished,omitzero"`
	// Purged is when the file was deleted because of its age; the outcomes of its single rows are forgotten since then.
	Purged  time.Time `json:"purged,omitzero"`
	History []Note    `json:"history,omitempty"`
}

// Note is an entry of a file's history.
type Note struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Problem says why something cannot be read or moved, and since when.
type Problem struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// RowsRequest asks for rows of a file.
type RowsRequest struct {
	ID string `json:"id"`
	// All asks for every row; otherwise only those that somebody may have to attend to: rejected, dead, unmapped,
	// unknown_user, forbidden_user, vanished.
	All bool `json:"all,omitempty"`
	// After is the line after which to continue.
	After int `json:"after,omitempty"`
}

// RowsAnswer holds some rows, in the order of their lines.
type RowsAnswer struct {
	Rows []RowState `json:"rows"`
	// More reports whether there are further rows after the last one.
	More bool `json:"more,omitempty"`
}

// RowState is the outcome of a row.
type RowState struct {
	Line int `json:"line"`
	// Outcome is the outcome, the reason of rejection, or pending.
	Outcome string `json:"outcome"`
	// Text explains it.
	Text string `json:"text"`
}
