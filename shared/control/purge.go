package control

import "time"

// Purge is ingest's endpoint for the janitor: it takes a PurgeRequest and answers with a PurgeAnswer.
const Purge = "purge"

// PurgeRequest asks ingest to forget what is old. A zero time leaves that part out. Whatever is asked for, nothing is
// touched that was finished less than AUTO_CLEANUP_HOURS and a day ago.
type PurgeRequest struct {
	// FilesBefore: processed files that were finished earlier are deleted, and the outcomes of their single rows forgotten.
	FilesBefore time.Time `json:"files_before"`
	// RecordsBefore: records of files that were finished earlier are forgotten, if their files are gone.
	RecordsBefore time.Time `json:"records_before"`
	// By is the sender. The request after an answer with More, if it comes from the same one within a minute, goes on where that
	// ended.
	By string `json:"by,omitempty"`
}

// PurgeAnswer says what was done. A purge is cut into parts, so that no request takes long.
type PurgeAnswer struct {
	// Files and Bytes count what was deleted, Records the records that were forgotten.
	Files   int   `json:"files"`
	Bytes   int64 `json:"bytes"`
	Records int   `json:"records"`
	// Failed counts the files that could not be deleted, those of the parts before included; Error is what the last of them
	// said.
	Failed int    `json:"failed,omitempty"`
	Error  string `json:"error,omitempty"`
	// Compacted says by how many bytes the ledger's file was made smaller.
	Compacted int64 `json:"compacted,omitempty"`
	// More says that there is more to do: ask again.
	More bool `json:"more,omitempty"`
}
