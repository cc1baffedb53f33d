package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// End points, as faults name them and calls record them.
const (
	EndpointToken  = "token"
	EndpointSearch = "search"
	EndpointUpdate = "update"
	EndpointOther  = "other" // a path that is not one of the API's
)

// Outcomes of one user of an update.
const (
	OutcomeUpdated          = "updated"
	OutcomeCreated          = "created" // syncExistingUsersOnly was not true and the user did not exist
	OutcomePartial          = "partial"
	OutcomeUnknownUser      = "unknown_user"
	OutcomeDenied           = "denied"
	OutcomeUnknownAttribute = "unknown_attribute"
	OutcomeInvalidValue     = "invalid_value"
	OutcomeError            = "error"         // the transient Error of a fault
	OutcomeNotProcessed     = "not_processed" // the call as a whole was refused or lost before it was worked on
)

// Call is the record of one call. Times are UnixNano of the simulator's clock.
//
// Finished is taken just before the last byte of the answer is handed to the network, so a client that waits for its
// answer before it calls again never has two calls in flight by these times. If the client gave up (ClientGone),
// Finished is the time at which that was noticed, a moment after the client may have called again.
type Call struct {
	// Run identifies the simulator among those that appended to one call log: the start of the process, UnixNano.
	Run int64 `json:"run"`
	// Seq numbers the calls of a run by arrival, from 1.
	Seq      uint64 `json:"seq"`
	Arrived  int64  `json:"arrived"`
	Finished int64  `json:"finished,omitempty"`
	Endpoint string `json:"endpoint"`
	Method   string `json:"method"`
	Path     string `json:"path"`
	// Status is the status that was sent; 0 if no answer was sent.
	Status int `json:"status"`
	// Reason says why a call was refused.
	Reason string `json:"reason,omitempty"`
	// Fault and FaultID name the call-wide fault that was played.
	Fault      string `json:"fault,omitempty"`
	FaultID    int    `json:"fault_id,omitempty"`
	ClientGone bool   `json:"client_gone,omitempty"`
	Remote     string `json:"remote"`
	// Token is the fingerprint of the token that came with the call, or that a token call handed out: the start of its
	// SHA-256. The token itself is nowhere recorded.
	Token string `json:"token,omitempty"`
	// Parameters are the query parameters of a search or an update.
	Parameters Fields `json:"parameters,omitempty"`
	// TotalUsers and FetchedRecords are what a search answered.
	TotalUsers     int `json:"total_users,omitempty"`
	FetchedRecords int `json:"fetched_records,omitempty"`
	// Users are the users of an update, in the order sent, even if the call was refused as a whole.
	Users []UserCall `json:"users,omitempty"`
	// Unfinished is set by ReadCallLog for a call that the simulator had begun and not finished when it was killed.
	Unfinished bool `json:"unfinished,omitempty"`
}

// UserCall is what an update asked for one user, and the outcome.
type UserCall struct {
	LoginID string `json:"login_id"`
	// Fields is everything sent for this user besides LOGIN_ID. What was not a string is recorded as JSON text.
	Fields  Fields `json:"fields"`
	Outcome string `json:"outcome"`
	Detail  string `json:"detail,omitempty"`
	// Applied is set if a value was written; AppliedAt is when. Written lists the attributes written if they were not
	// all of Fields.
	Applied   bool     `json:"applied,omitempty"`
	AppliedAt int64    `json:"applied_at,omitempty"`
	Written   []string `json:"written,omitempty"`
	// LeftOut is set if a fault kept this user out of the answer.
	LeftOut bool `json:"left_out,omitempty"`
	// FaultID is the user fault that was played.
	FaultID int `json:"fault_id,omitempty"`

	// UserID is the user's USER_ID; 0 where there is no such user, or the call was not worked on.
	UserID int64 `json:"user_id,omitempty"`

	mutations Fields // what the update should write
}

// Field is one name and value.
type Field struct{ Name, Value string }

// Fields is a list of names and values in the order sent. In JSON it is an object.
type Fields []Field

// Get returns the value of a name, and whether the name is there.
func (f Fields) Get(name string) (string, bool) {
	for _, field := range f {
		if field.Name == name {
			return field.Value, true
		}
	}

	return "", false
}

// MarshalJSON writes an object with the names in their order. A name that was sent twice is written twice.
func (f Fields) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, 2+48*len(f))
	b = append(b, '{')
	for i, field := range f {
		if i > 0 {
			b = append(b, ',')
		}

		b = appendString(b, field.Name)
		b = append(b, ':')
		b = appendString(b, field.Value)
	}

	return append(b, '}'), nil
}

// UnmarshalJSON reads an object of strings and keeps its order.
func (f *Fields) UnmarshalJSON(raw []byte) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(errors.New("an object of strings is expected"), err)
	}

	*f = (*f)[:0]
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}

		value, err := dec.Token()
		if err != nil {
			return err
		}

		text, ok := value.(string)
		if !ok {
			return fmt.Errorf("%v: a string is expected", name)
		}

		*f = append(*f, Field{name.(string), text})
	}

	return nil
}

// appendString appends a JSON string. Plain ASCII, which nearly everything is, needs no escaping.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return append(b, mustJSON(s)...)
		}
	}

	b = append(b, '"')
	b = append(b, s...)

	return append(b, '"')
}
