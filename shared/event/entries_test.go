package event

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestEntriesAreWrittenAsByEncodingJSON: byte for byte; and Decode reads the same from them as encoding/json.
func TestEntriesAreWrittenAsByEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		entry := rapid.Custom(func(t *rapid.T) Entry {
			return Entry{
				Row: rapid.IntRange(1, 1<<40).Draw(t, "row"), Employee: rapid.StringN(1, 20, 60).Draw(t, "employee"),
				At: rapid.Int64().Draw(t, "at"), Rank: rapid.Int64Range(-1, 1).Draw(t, "rank"), On: rapid.Bool().Draw(t, "on"),
			}
		})
		e := Entries{
			File: rapid.StringMatching(`[0-9a-f]{1,64}`).Draw(t, "file"), Sequence: rapid.Int64().Draw(t, "order"),
			Last: rapid.Bool().Draw(t, "last"), More: rapid.Bool().Draw(t, "more"),
			Ahead: rapid.Bool().Draw(t, "ahead"), Settled: rapid.Bool().Draw(t, "settled"),
			Entries: rapid.SliceOfN(entry, 0, 5).Draw(t, "entries"),
		}
		got := Encode(&e)
		want, err := json.Marshal(e)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))

		var read, plainly Entries
		require.NoError(t, Decode(got, &read))
		require.NoError(t, json.Unmarshal(got, &plainly))
		require.Equal(t, plainly, read)
	})
}

// TestEntriesOfAnotherHand: everything that encoding/json accepts is accepted, and nothing else.
func TestEntriesOfAnotherHand(t *testing.T) {
	whole := `{"v":1,"file":"a","order":7,"last":true,"entries":[{"row":2,"emp":"01","at":5,"rank":4,"on":true},{"row":3,"emp":"02","at":6,"on":false}]}`
	texts := []string{
		whole, strings.ReplaceAll(whole, ",", " , "), strings.ReplaceAll(whole, "01", `\u0030é`), whole + " ", whole + "x",
		`{"entries":[{"emp":"01","row":2}],"v":1,"file":"a","new":{"x":[1]}}`, strings.Replace(whole, "7", "07", 1),
		strings.Replace(whole, "7", "99999999999999999999", 1), strings.Replace(whole, "7", "9223372036854775808", 1),
		strings.Replace(whole, "7", "-9223372036854775807", 1), strings.Replace(whole, "7", "1e3", 1), strings.Replace(whole, "},{", "}{", 1),
		strings.Replace(whole, "]", ",]", 1), strings.Replace(whole, `"01"`, "\"\x01\"", 1), strings.Replace(whole, `"01"`, "\"\xff\"", 1),
	}
	for i := range whole {
		texts = append(texts, whole[:i])
	}

	for _, text := range texts {
		var got, want Entries

		err := json.Unmarshal([]byte(text), &want)
		if err != nil {
			require.ErrorIs(t, Decode([]byte(text), &got), ErrPayload, text)
			continue
		}

		require.NoError(t, Decode([]byte(text), &got), text)
		require.Equal(t, want, got, text)
	}
}

// TestWhatNoStoreTakesIsRefused: otherwise it would be tried again forever.
func TestWhatNoStoreTakesIsRefused(t *testing.T) {
	long := strings.Repeat("x", MaxID+1)
	for name, e := range map[string]Versioned{
		"no employee":      &Entries{File: "a", Entries: []Entry{{Row: 1, Employee: "1"}, {Row: 2}}},
		"a long employee":  &Entries{File: "a", Entries: []Entry{{Row: 1, Employee: long}}},
		"no file":          &Entries{Entries: []Entry{{Row: 1, Employee: "1"}}},
		"a long file":      &Entries{File: long},
		"no row":           &Entries{File: "a", Entries: []Entry{{Employee: "1"}}},
		"a long answer":    &Acks{Answers: []Answer{{User: "u", Employee: long}}},
		"a long user":      &Acks{Answers: []Answer{{User: long}}},
		"nobody is mapped": &MappingChunk{Users: map[string]string{"": "user"}},
		"a long mapped id": &MappingChunk{Users: map[string]string{long: "user"}},
	} {
		err := Decode(Encode(e), e)
		require.ErrorIs(t, err, ErrPayload, name)
		require.NotContains(t, err.Error(), "xxx", name)
	}

	require.NoError(t, Decode(Encode(&Entries{File: "a", Entries: []Entry{{Row: 1, Employee: long[1:]}}}), &Entries{}))
}

func someEntries(n int) *Entries {
	e := &Entries{File: strings.Repeat("9f", 32), Sequence: 1718631000000000001}
	for i := range n {
		e.Entries = append(e.Entries, Entry{Row: i + 2, Employee: fmt.Sprintf("%05d", i), At: 1718631000 + int64(i), On: i%2 == 0})
	}

	return e
}

func BenchmarkEncodeEntries(b *testing.B) {
	e := someEntries(500)

	b.ReportAllocs()

	for b.Loop() {
		Encode(e)
	}
}

func BenchmarkDecodeEntries(b *testing.B) {
	data := Encode(someEntries(500))

	b.ReportAllocs()
	b.SetBytes(int64(len(data)))

	for b.Loop() {
		var e Entries
		if err := Decode(data, &e); err != nil {
			b.Fatal(err)
		}
	}
}
