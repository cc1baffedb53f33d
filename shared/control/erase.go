package control

// Erasing what is stored of a worker, for data-protection requests.

import (
	"context"

	"bobosync/shared/audit"
	"bobosync/shared/erase"
	"bobosync/shared/scrub"
	"bobosync/shared/topology"
)

const (
	// EraseShow, of the resolver, takes an EraseRequest and answers with an EraseForecast. It names a worker, so it is
	// for operators.
	EraseShow = "erase-show"
	// Erase, of the resolver, is the order: it takes an EraseRequest and answers with an EraseAnswer.
	Erase = audit.EndpointErase
	// Forget, of the janitor, is for the resolver alone: it takes a ForgetRequest and answers with a ForgetAnswer.
	Forget = "forget"
)

// EraseRequest asks for a worker to be erased, with the usernames that AtHoc had for the employee id.
type EraseRequest struct {
	erase.Names
	Reason string `json:"reason,omitempty"`
	By     string `json:"by"`
}

// EraseForecast says what would be erased.
type EraseForecast struct {
	erase.Names
	// Found counts, by store, the messages or records about the worker.
	Found map[string]int `json:"found"`
	// Files are the ids of the files from which AtHoc is known to have been sent something. Their rows are not touched.
	Files []string `json:"files"`
	// Refused says why the worker cannot be erased now; empty if that is possible. It names nobody.
	Refused string `json:"refused,omitempty"`
}

// EraseAnswer says what was erased. It names nobody, because it becomes part of the order's record.
type EraseAnswer struct {
	audit.Erased
	// Removed counts the removed messages or records about the worker, by store.
	Removed map[string]int `json:"removed"`
	// Through holds, by stream, the sequence up to which no message names the worker; see scrub.Request.
	Through map[string]uint64 `json:"through"`
}

// ForgetRequest asks the janitor to remove a worker from the journal.
type ForgetRequest struct {
	erase.Names
}

// ForgetAnswer is the result of a ForgetRequest.
type ForgetAnswer struct {
	// Entries counts the journal's messages that were replaced; Through is the last sequence of the journal's stream at
	// that time.
	Entries int    `json:"entries"`
	Through uint64 `json:"through"`
}

// Scrub returns the request to overwrite what the broker has deleted of an erased worker.
func Scrub(n erase.Names, through map[string]uint64) scrub.Request {
	r := scrub.Request{Names: n, Through: through, Subjects: []string{topology.HistorySubject(n.Employee, "")}, Rules: map[string]scrub.Rule{
		topology.StreamHistory:       {BySubject: true},
		topology.StreamUpdates:       {BySubject: true, LastOnly: true},
		topology.StreamJournal:       {ByWord: true, LastOnly: true},
		"KV_" + topology.BucketAudit: {ByWord: true},
	}}
	for _, user := range n.Users {
		r.Subjects = append(r.Subjects, topology.HistorySubject("", user), topology.UpdatesSubject(user))
	}

	return r
}

type orderKey struct{}

// OrderID returns the id of the record of the order that is being carried out; empty if the request is not an order.
func OrderID(ctx context.Context) string {
	id, _ := ctx.Value(orderKey{}).(string)
	return id
}

func withOrderID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, orderKey{}, id)
}
