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
	// Skip leaves out so many of the latest files: those of an earlier answer.
	Skip int `json:"skip,omitempty"`
}

// FilesAnswer describes files, in the order of reading.
type FilesAnswer struct {
	Files []FileState `json:"files"`
	// More counts the earlier files that were left out: Skip and the files of this answer lead to them.
	More int `json:"more,omitempty"`
	// Problems are what in the input directory cannot be read as a file, by name: the oldest hundred. MoreProblems counts the others.
	Problems     map[string]Problem `json:"problems,omitempty"`
	MoreProblems int                `json:"more_problems,omitempty"`
}

// FileState is the record of a file.
type FileState struct {
	ID string `json:"id"`
	// Name is the name under which it came first; where there are several feeds it is feed/name.
	Name string `json:"name"`
	Feed string `json:"feed,omitempty"`
	// Status is reading, waiting, done or moved.
	Status string `json:"status"`
	// Failed says that it belongs to the failed files.
	Failed bool `json:"failed,omitempty"`
	// Problem says why it cannot be read as text at all.
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
	// Purged is when the file was deleted for its age; what became of its single rows is forgotten since then.
	Purged  time.Time `json:"purged,omitzero"`
	History []Note    `json:"history,omitempty"`
}

// Note is an entry of a file's history.
type Note struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Problem is why something in the input directory cannot be read.
type Problem struct {
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// RowsRequest asks for rows of a file.
type RowsRequest struct {
	ID string `json:"id"`
	// All asks for every row; otherwise only those that somebody may have to look after: rejected, dead, unmapped,
	// unknown_user, forbidden_user, vanished.
	All bool `json:"all,omitempty"`
	// After is the line to go on after.
	After int `json:"after,omitempty"`
}

// RowsAnswer holds some rows, in the order of their lines.
type RowsAnswer struct {
	Rows []RowState `json:"rows"`
	// More says that there are further rows after the last one.
	More bool `json:"more,omitempty"`
}

// RowState is what became of a row.
type RowState struct {
	Line int `json:"line"`
	// Outcome is the outcome, the reason of rejection, or pending.
	Outcome string `json:"outcome"`
	// Text explains it.
	Text string `json:"text"`
}
