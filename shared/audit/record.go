// Package audit records who gave which order, in a way that can be proved: each service writes down an order before it
// carries it out, and the result afterwards.
//
// The records of a service form a chain: each holds the hash of the previous one, and nobody can remove one (the stream
// AUDIT denies it). The bucket bobo_audit holds where each chain ends, and the janitor's journal the hash at the end of
// each day, so that records cannot be cut off the end unnoticed either. [Verify] finds what was changed, removed or
// inserted.
//
// Of the order itself, a record holds only a salted hash. The rest (its detail: the request, the forecast, the result)
// is in the bucket, because it may name workers and may have to be erased; the chain stays intact all the same.
package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Kind says what a record is about.
type Kind string

// The kinds of records.
const (
	// Order: an order is about to be carried out.
	Order Kind = "order"
	// Result: the order was carried out, or not.
	Result Kind = "result"
	// Read: somebody looked up a person's past.
	Read Kind = "look"
)

// Outcomes of orders.
const (
	// OK: the order was carried out.
	OK = "ok"
	// Refused: the service said why not, and did nothing.
	Refused = "refused"
	// Failed: something went wrong while it was carried out.
	Failed = "failed"
)

// Record is a link of a chain, as the stream stores it.
type Record struct {
	// ID is a UUIDv7.
	ID string `json:"id"`
	// N counts the records of the chain, from 1.
	N uint64 `json:"n"`
	// Prev is the hash of the previous record, PrevAt its time: by that time, Verify judges whether what precedes the
	// first record can have expired.
	Prev   string    `json:"prev,omitempty"`
	PrevAt time.Time `json:"prev_at,omitzero"`
	// At is when the record was written, in UTC, by the service's clock.
	At time.Time `json:"at"`
	// Service and Endpoint name the order.
	Service  string `json:"service"`
	Endpoint string `json:"endpoint"`
	Kind     Kind   `json:"kind"`
	// Order is the id of the order's record; only a result has it.
	Order string `json:"order,omitempty"`
	// Outcome is how the order ended; only a result has it.
	Outcome string `json:"outcome,omitempty"`
	// Caller is who gave the order.
	Caller Caller `json:"caller"`
	// Detail is the hash of the record's detail, including its salt.
	Detail string `json:"detail,omitempty"`
}

// How a caller is known.
const (
	// ByKey: the broker authenticated the connection by its key.
	ByKey = "key"
	// ByLogin: the broker has one login for all, such as the token in DATA_DIRECTORY, so it knows only that the caller
	// has it.
	ByLogin = "login"
)

// Caller is the sender of an order. Only Said is the caller's own claim.
type Caller struct {
	// Name is the operator's name, by the user's key at the broker; empty if the broker has one login for all.
	Name string `json:"name,omitempty"`
	// Shared reports whether several people may have that key.
	Shared bool `json:"shared,omitempty"`
	// Known is how the caller is known: ByKey or ByLogin.
	Known string `json:"known"`
	// Key is the public key, and Host the address it was used from, as the broker's server saw them.
	Key  string `json:"key,omitempty"`
	Host string `json:"host,omitempty"`
	// Said is what the caller claims to be: the account and the machine.
	Said string `json:"said,omitempty"`
}

// String names the caller for people: first what is known, then what is claimed.
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

// Detail is the part of a record that may have to be erased.
type Detail struct {
	// Salt prevents guessing erased content by its hash.
	Salt string `json:"salt,omitempty"`
	// Request is the order as it was given: for example, for which workers, and why.
	Request json.RawMessage `json:"request,omitempty"`
	// Forecast is what the order was expected to do.
	Forecast json.RawMessage `json:"forecast,omitempty"`
	// Result is the service's answer. Error is why the order was not carried out, or why there is no forecast.
	Result json.RawMessage `json:"result,omitempty"`
	Error  string          `json:"error,omitempty"`
	// Erased is the id of the order that removed a worker from this detail. It then has no salt, and does not match its
	// record's hash.
	Erased string `json:"erased,omitempty"`
}

// End is where a chain ends.
type End struct {
	N    uint64    `json:"n"`
	Hash string    `json:"hash"`
	At   time.Time `json:"at"`
}

// hashOf returns the hash of stored data.
func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// after returns the end of a chain whose last record is data.
func after(data []byte) (End, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return End{}, fmt.Errorf("read the last record of the audit: %w", err)
	}

	return End{N: r.N, Hash: hashOf(data), At: r.At}, nil
}
