// Settings of streams and consumers that this project does not use, but that somebody may have set. A stream that
// republishes or copies others, or a consumer that delivers to a subject, sends messages past everyone's rights.

package topology

import (
	"encoding/json"
	"slices"
	"strings"
)

// lookedAt lists the settings that streamSettings and consumerSettings compare one by one, and those that are for the
// broker's operator to choose: where replicas are placed, and how they are stored.
var lookedAt = []string{
	"name", "description", "metadata", "placement", "compression",
	"subjects", "retention", "storage", "sealed", "deny_delete", "deny_purge", "discard", "num_replicas", "max_bytes", "max_age",
	"max_msgs", "max_msgs_per_subject", "max_msg_size", "allow_direct", "allow_atomic", "allow_rollup_hdrs", "duplicate_window",
	"durable_name", "ack_policy", "deliver_policy", "ack_wait", "max_deliver", "max_ack_pending", "filter_subject", "filter_subjects",
}

// notInPlace lists those of the other settings that a broker does not change in place.
var notInPlace = []string{"mirror", "first_seq", "deliver_subject", "pause_until", "persist_mode"}

// unset lists the values by which a broker reports a setting that nobody has set.
var unset = []string{``, `null`, `false`, `0`, `""`, `{}`, `[]`, `"none"`, `"instant"`, `"default"`}

// defaults holds the values that a broker fills in by itself.
var defaults = map[string]string{"max_waiting": "512"}

// otherSettings compares all settings of two configurations that are not compared one by one.
func otherSettings(want, have any) []setting {
	wanted, had := fields(want), fields(have)
	keys := make([]string, 0, len(wanted)+len(had))
	for key := range wanted {
		keys = append(keys, key)
	}

	for key := range had {
		keys = append(keys, key)
	}

	slices.Sort(keys)

	var all []setting
	for _, key := range slices.Compact(keys) {
		if slices.Contains(lookedAt, key) || had[key] == defaults[key] && wanted[key] == "" {
			continue
		}

		all = append(all, setting{
			name: strings.ReplaceAll(key, "_", " "), have: plain(had[key]), want: plain(wanted[key]),
			fixed: slices.Contains(notInPlace, key),
		})
	}

	return all
}

// restore returns have, in which the settings that are not compared one by one are those of want, if a broker changes
// them in place.
func restore[T any](want, have T) T {
	values := map[string]json.RawMessage{}
	for key, value := range fields(have) {
		if slices.Contains(lookedAt, key) || slices.Contains(notInPlace, key) {
			values[key] = json.RawMessage(value)
		}
	}

	for key, value := range fields(want) {
		if !slices.Contains(lookedAt, key) && !slices.Contains(notInPlace, key) {
			values[key] = json.RawMessage(value)
		}
	}

	var restored T
	text, err := json.Marshal(values)
	if err != nil || json.Unmarshal(text, &restored) != nil {
		return have // never happens: these types can be marshalled and unmarshalled
	}

	return restored
}

// fields returns the settings of a configuration by their names on the wire.
func fields(config any) map[string]string {
	var values map[string]json.RawMessage
	text, err := json.Marshal(config)
	if err != nil || json.Unmarshal(text, &values) != nil {
		return nil
	}

	all := make(map[string]string, len(values))
	for key, value := range values {
		all[key] = string(value)
	}

	return all
}

// plain returns a value for people; all values of an unset setting look alike.
func plain(value string) string {
	if slices.Contains(unset, value) {
		return "not set"
	}
	return value
}
