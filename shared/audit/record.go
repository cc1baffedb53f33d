// Package audit keeps who gave which order, so that it can be proved: each service writes what it was ordered before it does it,
// and what came of it afterwards.
//
// The records of a service are a chain: each holds the hash of the previous one, and nobody can remove one (the stream AUDIT denies
// it). Where a chain ends lies in the bucket bobo_audit, and the hash at the end of each day in the janitor's journal, so that a
// record cannot be taken from the end either. [Verify] finds what was changed, removed or put in.
//
// A record holds no more of what was ordered than a salted hash. The rest (its detail: the request, the forecast, the result) lies
// in the bucket, since it may name workers and may have to be erased; the chain holds all the same.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Kind is what a record is about.
type Kind string

// The kinds of records.
const (
	// Order: an order is about to be followed.
	Order Kind = "order"
	// Result: it was followed, or not.
	Result Kind = "result"
	// Read: somebody looked into a person's past.
	Read Kind = "look"
)

// Outcomes of orders.
const (
	// OK: it was followed.
	OK = "ok"
	// Refused: the service said why not, and nothing was done.
	Refused = "refused"
	// Failed: something went wrong on the way.
	Failed = "failed"
)

// Record is a link of a chain, as it lies in the stream.
type Record struct {
	// ID is a UUIDv7.
	ID string `json:"id"`
	// N counts the records of the chain, from 1.
	N uint64 `json:"n"`
	// Prev is the hash of the record before, PrevAt its time: what is missing before the first one must have been old enough.
	Prev   string    `json:"prev,omitempty"`
	PrevAt time.Time `json:"prev_at,omitzero"`
	// At is when it was written, in UTC, by the clock of the service.
	At time.Time `json:"at"`
	// Service and Endpoint name the order.
	Service  string `json:"service"`
	Endpoint string `json:"endpoint"`
	Kind     Kind   `json:"kind"`
	// Order is the id of the order's record, in that of its result.
	Order string `json:"order,omitempty"`
	// Outcome is that of a result.
	Outcome string `json:"outcome,omitempty"`
	// Caller is who gave the order.
	Caller Caller `json:"caller"`
	// Detail is the hash of the record's detail, with its salt.
	Detail string `json:"detail,omitempty"`
}

// How a caller is known.
const (
	// ByKey: the broker knows the key of the connection.
	ByKey = "key"
	// ByLogin: the broker has one login for all, such as the token in DATA_DIRECTORY, so it knows no more than that the caller has it.
	ByLogin = "login"
)

// Caller is the sender of an order. Nothing of it but Said is the caller's own word.
type Caller struct {
	// Name is the operator, by the user's key at the broker; empty if the broker has one login for all.
	Name string `json:"name,omitempty"`
	// Shared reports that several may have that key.
	Shared bool `json:"shared,omitempty"`
	// Known is how that is known: ByKey or ByLogin.
	Known string `json:"known"`
	// Key is the public key, and Host the address from which it was used, as the broker's server saw them.
	Key  string `json:"key,omitempty"`
	Host string `json:"host,omitempty"`
	// Said is what the caller says of himself: the account and the machine.
	Said string `json:"said,omitempty"`
}

// String names the caller for people: what is known first, and then what is said.
func (c Caller) String() string {
	switch {
	case c.Name == "":
		return c.Said
	case c.Said == "":
		return c.Name
	default:
		return c.Name + " (" + c.Said + ")"
	}
}

// Detail is what belongs to a record and may have to be erased.
type Detail struct {
	// Salt keeps what is erased from being guessed by its hash.
	Salt string `json:"salt,omitempty"`
	// Request is the order as it was given: which set, and why.
	Request json.RawMessage `json:"request,omitempty"`
	// Forecast is what it was expected to do.
	Forecast json.RawMessage `json:"forecast,omitempty"`
	// Result is what the service answered, and Error why it did not follow, or why there is no forecast.
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
	// Erased is the order by which a worker was taken out of it; it has no salt then, and does not fit its record's hash.
	Erased string `json:"erased,omitempty"`
}

// End is where a chain ends.
type End struct {
	N    uint64    `json:"n"`
	Hash string    `json:"hash"`
	At   time.Time `json:"at"`
}

// hashOf is the hash of what lies in a store.
func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// after returns the end of a chain whose last record is this one.
func after(data []byte) (End, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return End{}, fmt.Errorf("read the last record of the audit: %w", err)
	}

	return End{N: r.N, Hash: hashOf(data), At: r.At}, nil
}
