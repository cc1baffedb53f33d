package event

import (
	"fmt"
)

// Outcome is the final state of a row. The numbers are stored in ingest's ledger, one byte for each row: never renumber
// them.
type Outcome uint8

// The outcomes of a row. A row that is not yet settled is Pending.
const (
	Pending Outcome = iota
	// Applied: AtHoc confirmed the value, or was known to hold it already.
	Applied
	// Superseded: a newer event of that worker won.
	Superseded
	// Expired: a booking on that was older than AUTO_CLEANUP_HOURS before it could be sent.
	Expired
	// Unmapped: no AtHoc user has this employee id; the status is sent if a user gets it.
	Unmapped
	// UnknownUser: AtHoc does not have the user.
	UnknownUser
	// ForbiddenUser: AtHoc does not let this account write that user.
	ForbiddenUser
	// Dead: AtHoc will never take the value; the reason is among the dead letters.
	Dead
	// Withheld: an operator has rejected the mass change that the row was part of, so it never counts.
	Withheld
	outcomes
)

var outcomeNames = [outcomes]string{
	"pending", "applied", "superseded", "expired", "unmapped", "unknown_user", "forbidden_user", "dead", "withheld",
}

// Outcomes lists the outcomes that settle a row.
func Outcomes() []Outcome {
	return []Outcome{Applied, Superseded, Expired, Unmapped, UnknownUser, ForbiddenUser, Dead, Withheld}
}

// String returns the outcome's name as users see it.
func (o Outcome) String() string {
	if o < outcomes {
		return outcomeNames[o]
	}
	return fmt.Sprintf("outcome %d", uint8(o))
}

// MarshalText writes the outcome's name.
func (o Outcome) MarshalText() ([]byte, error) {
	if o >= outcomes {
		return nil, fmt.Errorf("no name for %s", o)
	}
	return []byte(outcomeNames[o]), nil
}

// UnmarshalText reads an outcome's name.
func (o *Outcome) UnmarshalText(text []byte) error {
	for i, name := range outcomeNames {
		if name == string(text) {
			*o = Outcome(i)
			return nil
		}
	}

	return fmt.Errorf("unknown outcome of %d bytes", len(text))
}
