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
	// EraseShow, of the resolver, takes an EraseRequest and answers with an EraseForecast. It names a worker, so it is for operators.
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

// EraseForecast is what would be erased.
type EraseForecast struct {
	erase.Names
	// Found counts, by store, the messages or records about the worker.
	Found map[string]int `json:"found"`
	// Files are the ids of the files from which AtHoc was sent something, as far as is known. Their rows are not touched.
	Files []string `json:"files"`
	// Refused says why it cannot be done now; empty if it can. It names nobody.
	Refused string `json:"refused,omitempty"`
}

// EraseAnswer is what was erased. It names nobody, since it belongs to the record of the order.
type EraseAnswer struct {
	audit.Erased
	// Removed counts what was about the worker, by store.
	Removed map[string]int `json:"removed"`
	// Through are the sequences, by stream, up to which no message names the worker; see scrub.Request.
	Through map[string]uint64 `json:"through"`
}

// ForgetRequest asks the janitor to take a worker out of the journal.
type ForgetRequest struct {
	erase.Names
}

// ForgetAnswer is what it did.
type ForgetAnswer struct {
	// Entries counts the journal's messages that are others now, Through is the last sequence of its stream by then.
	Entries int    `json:"entries"`
	Through uint64 `json:"through"`
}

// Scrub asks for what the broker has deleted of an erased worker to be overwritten.
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

// OrderID is the id of the record of the order that is being followed; empty if it is none.
func OrderID(ctx context.Context) string {
	id, _ := ctx.Value(orderKey{}).(string)
	return id
}

func withOrderID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, orderKey{}, id)
}
