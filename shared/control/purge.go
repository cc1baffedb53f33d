package control

import "time"

// Purge is ingest's endpoint for the janitor: it takes a PurgeRequest and answers with a PurgeAnswer.
const Purge = "purge"

// PurgeRequest asks ingest to delete what is old. A zero time leaves that part out. Whatever is asked for, neither
// files nor records are touched if the file was finished less than AUTO_CLEANUP_HOURS and a day ago.
type PurgeRequest struct {
	// FilesBefore: processed files that were finished before this time are deleted, and the outcomes of their single
	// rows forgotten.
	FilesBefore time.Time `json:"files_before"`
	// RecordsBefore: records of files that were finished before this time are forgotten, if the files are gone.
	RecordsBefore time.Time `json:"records_before"`
	// By is the sender. If the previous answer had More, a request of the same sender within a minute continues where
	// that one ended.
	By string `json:"by,omitempty"`
}

// PurgeAnswer says what was done. A purge is done in parts, so that no request takes long.
type PurgeAnswer struct {
	// Files and Bytes count what was deleted, Records the records that were forgotten.
	Files   int   `json:"files"`
	Bytes   int64 `json:"bytes"`
	Records int   `json:"records"`
	// Failed counts the files that could not be deleted, including those of earlier parts. Error is the last such
	// error.
	Failed int    `json:"failed,omitempty"`
	Error  string `json:"error,omitempty"`
	// Compacted is by how many bytes the ledger's file has shrunk.
	Compacted int64 `json:"compacted,omitempty"`
	// More reports whether there is more to do: send another request.
	More bool `json:"more,omitempty"`
}
