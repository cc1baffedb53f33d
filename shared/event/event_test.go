package event

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files again")

// samples has one of each wire type, with every field set.
func samples() map[string]Versioned {
	at := time.Date(2024, 6, 17, 13, 30, 0, 0, time.UTC)
	version := Version{Rank: at.Unix(), Sequence: 1718631000000000001, Row: 2}
	const file = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	call := Call{
		ID: "01979dcb-0000-7000-8000-000000000000", Publisher: "host-17", Sent: at.UnixMilli(), Answered: at.UnixMilli() + 2345,
		Status: 200, Users: 17,
	}

	return map[string]Versioned{
		"entries": &Entries{File: file, Sequence: version.Sequence, Last: true, More: true, Settled: true, Entries: []Entry{
			{Row: 2, Employee: "01234", At: at.Unix(), Rank: at.Unix() - 1, On: true},
			{Row: 3, Employee: "67890", At: at.Unix()},
		}},
		"entries_feed": &Entries{File: file, Feed: "north", Sequence: 5, Entries: []Entry{{Row: 2, Employee: "01234", At: at.Unix()}}},
		"entries_ahead": &Entries{File: file, Sequence: version.Sequence, Last: true, More: true, Ahead: true, Entries: []Entry{ // newer than entries
			{Row: 2, Employee: "01234", At: at.Unix(), On: true},
		}},
		"recovered": &Recovered{Epoch: "0195"},
		"memory":    &StoreEpoch{Epoch: "0195", Since: at},
		"update": &Update{
			User: "john.doe@example.org", Employee: "01234", On: true, At: at.Unix(), Version: version, File: file, Reason: ReasonEvent,
		},
		"update_keep": &Update{ // newer than update
			User: "john.doe@example.org", Employee: "01234", On: true, At: at.Unix(), Version: version, File: file, Reason: ReasonReplay, Keep: true,
		},
		"acks": &Acks{
			From: "publisher",
			Rows: []FileRows{{File: file, Outcome: Superseded, Rows: Rows(4, 5, 6, 9)}},
			Answers: []Answer{{
				User: "john.doe@example.org", Employee: "01234", File: file, Version: version, Outcome: Applied, On: true,
				At: at.Unix(), Answered: at.Unix() + 2, Detail: "detail",
			}},
		},
		"acks_waited": &Acks{From: "publisher", Answers: []Answer{{ // acks was written before this field existed
			User: "john.doe@example.org", Employee: "01234", File: file, Version: version, Outcome: Applied,
			At: at.Unix(), Answered: at.Unix() + 2, Waited: 1234,
		}}},
		"acks_calls": &Acks{ // from a publisher that gives its calls ids
			From: "publisher",
			Answers: []Answer{{
				User: "john.doe@example.org", Employee: "01234", File: file, Version: version, Outcome: Applied,
				At: at.Unix(), Answered: at.Unix() + 2, Waited: 1234, Call: 1,
			}},
			InDoubt: []Answer{{
				User: "jane.doe@example.org", Employee: "56789", File: file, Version: version, Outcome: Pending,
				At: at.Unix(), Answered: at.Unix() + 2, Call: 1,
			}},
			Calls: []Call{call},
		},
		"calling": &Calling{Calls: []Attempt{{Call: call, Files: []string{file}, Whom: []Sent{
			{User: "john.doe@example.org", Employee: "01234", On: true, At: at.Unix(), File: 1, Row: 2},
		}}}},
		"told": &Delivery{
			User: "john.doe@example.org", Employee: "01234", On: true, At: at.Unix(), File: file, Row: 2, Outcome: Applied,
			Until: at.UnixMilli(), Call: call,
		},
		"books":     &HistoryInfo{From: at, Acks: "x", Gaps: []Gap{{From: at.UnixMilli(), To: at.UnixMilli() + 1}}},
		"mark":      &Mark{At: at.UnixMilli(), Through: 17, Open: []uint64{3, 9}},
		"mark_part": &Mark{At: at.UnixMilli(), Through: 17, Open: []uint64{3, 9}, Parts: 3, Index: 1}, // one of several parts
		"mapping_chunk": &MappingChunk{
			Snapshot: "0195", Taken: at, Index: 1, Chunks: 3, Users: map[string]string{"01234": "john.doe@example.org"},
		},
		"dead_letter": &DeadLetter{
			Service: "publisher", Reason: "the value is not valid", Subject: "bobo.updates.3.x", Payload: []byte("{}"),
			File: file, Row: 2, Attempts: 3, First: at, Died: at.Add(time.Minute),
		},
	}
}

// TestGolden pins the JSON form of each wire type: what this version writes, and what it must still read of earlier
// versions.
func TestGolden(t *testing.T) {
	for name, sample := range samples() {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".json")

			got := append(Encode(sample), '\n')
			if *update {
				require.NoError(t, os.MkdirAll("testdata", 0o755))
				require.NoError(t, os.WriteFile(path, got, 0o644))
			}

			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), string(got))

			read := map[string]Versioned{
				"entries": &Entries{}, "entries_feed": &Entries{}, "entries_ahead": &Entries{}, "recovered": &Recovered{}, "memory": &StoreEpoch{}, "update": &Update{}, "update_keep": &Update{}, "acks": &Acks{}, "acks_waited": &Acks{},
				"acks_calls": &Acks{}, "calling": &Calling{}, "told": &Delivery{}, "books": &HistoryInfo{}, "mark": &Mark{}, "mark_part": &Mark{}, "mapping_chunk": &MappingChunk{}, "dead_letter": &DeadLetter{},
			}[name]
			require.NoError(t, Decode(want, read))
			require.Equal(t, string(want), string(append(Encode(read), '\n')), "nothing is lost by reading")
		})
	}
}

// TestReadersOfBeforeReadAnswers: a resolver or an ingest from before calls had ids can read everything it needs from
// what a current publisher writes. The types are those of that version.
func TestReadersOfBeforeReadAnswers(t *testing.T) {
	type answer struct {
		User     string  `json:"user"`
		Employee string  `json:"emp,omitempty"`
		File     string  `json:"file,omitempty"`
		Version  Version `json:"version"`
		Outcome  Outcome `json:"outcome"`
		On       bool    `json:"on"`
		At       int64   `json:"at"`
		Answered int64   `json:"answered"`
		Detail   string  `json:"detail,omitempty"`
	}

	var of struct {
		V       int        `json:"v"`
		From    string     `json:"from"`
		Rows    []FileRows `json:"rows,omitempty"`
		Answers []answer   `json:"answers,omitempty"`
	}
	today, ok := samples()["acks_calls"].(*Acks)
	require.True(t, ok)
	require.NoError(t, json.Unmarshal(Encode(today), &of))
	a := today.Answers[0]

	require.Equal(t, 1, of.V, "the version that it accepts")
	require.Equal(t, []answer{{a.User, a.Employee, a.File, a.Version, a.Outcome, a.On, a.At, a.Answered, a.Detail}}, of.Answers)
}

func TestDecodeRefuses(t *testing.T) {
	require.ErrorIs(t, Decode([]byte(`{"v":2}`), &Update{}), ErrVersion)
	require.ErrorIs(t, Decode([]byte(`{}`), &Update{}), ErrVersion)

	for _, payload := range []string{"", "null garbage", `{"v":"1"}`, `[1]`, `{"v":1,"user":{"a":"john.doe"}}`, `{"v":1,"user":"john.doe`} {
		err := Decode([]byte(payload), &Update{})
		require.ErrorIs(t, err, ErrPayload, payload)
		require.NotContains(t, err.Error(), "john.doe", "an error quotes nothing of a payload")
	}
}

// FuzzDecode: whatever the input, Decode returns an event of the known version or an error, and does not panic.
func FuzzDecode(f *testing.F) {
	for _, sample := range samples() {
		f.Add(Encode(sample))
	}

	f.Fuzz(func(t *testing.T, data []byte) {
		for _, e := range []Versioned{&Entries{}, &Update{}, &MappingChunk{}, &DeadLetter{}} {
			if err := Decode(data, e); err == nil {
				require.Equal(t, CurrentVersion, *e.version())
			} else if !errors.Is(err, ErrVersion) && !errors.Is(err, ErrPayload) {
				t.Fatalf("unexpected error %v", err)
			}
		}
	})
}

func TestVersionOrder(t *testing.T) {
	ordered := []Version{{1, 9, 9}, {2, 1, 9}, {2, 2, 1}, {2, 2, 2}}
	for i, v := range ordered {
		for j, w := range ordered {
			require.Equal(t, i < j, v.Compare(w) < 0)
			require.Equal(t, i == j, v.Compare(w) == 0)
		}
	}
}

func TestEntryRank(t *testing.T) {
	require.Equal(t, Version{Rank: 5, Sequence: 7, Row: 3}, Entry{Row: 3, At: 5}.Version(7))
	require.Equal(t, Version{Rank: 4, Sequence: 7, Row: 3}, Entry{Row: 3, At: 5, Rank: 4}.Version(7))
}

func TestOutcomesHaveNames(t *testing.T) {
	for _, o := range append(Outcomes(), Pending) {
		text, err := o.MarshalText()
		require.NoError(t, err)
		var back Outcome
		require.NoError(t, back.UnmarshalText(text))
		require.Equal(t, o, back)
	}

	_, err := outcomes.MarshalText()
	require.Error(t, err)
	require.Error(t, new(Outcome).UnmarshalText([]byte("nonsense")))
}

func TestRowSetText(t *testing.T) {
	for text, rows := range map[string][]int{"": nil, "1": {1}, "2-4": {4, 3, 2}, "2-3,5,7-9": {9, 8, 7, 5, 3, 2, 2}} {
		set := Rows(rows...)
		got, err := set.MarshalText()
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}

	for _, bad := range []string{",", "0", "-1", "3-2", "a", "1-", "1-9999999999999", "1,,2"} {
		require.Error(t, new(RowSet).UnmarshalText([]byte(bad)), bad)
	}
}

// TestALongRunCostsNoMore: a few bytes of text do not become a gigabyte of memory.
func TestALongRunCostsNoMore(t *testing.T) {
	read := func(text string) (s RowSet) {
		require.NoError(t, s.UnmarshalText([]byte(text)))
		return s
	}
	for _, text := range []string{"1-3", "1-90000000", strings.Repeat("1-90000000,", 1000) + "7"} {
		set := read(text)
		require.LessOrEqual(t, set.Len(), 90_000_000)
		require.Len(t, set.runs, 1)
		var again RowSet
		again.Merge(set)
		parts := again.Split(100)
		require.Len(t, parts, 1)
		require.Len(t, parts[0].runs, 1)
	}

	short, long := read("1-3"), read("1-90000000")
	allocs := func(s RowSet) float64 {
		return testing.AllocsPerRun(10, func() { _ = Encode(&Acks{Rows: []FileRows{{File: "a", Outcome: Applied, Rows: s}}}) })
	}
	require.Less(t, allocs(long), allocs(short)+50, "not with its length; the rest is how the buffers' pool was emptied meanwhile")

	for first, last := range long.Runs() {
		require.Equal(t, []int{1, 90_000_000}, []int{first, last})
		break // the reader may stop early
	}
}

func rowsOf(s RowSet) (rows []int) {
	for first, last := range s.Runs() {
		for row := first; row <= last; row++ {
			rows = append(rows, row)
		}
	}

	return rows
}

// TestRowSetKeepsRows: a set holds each row once, whichever way it was transferred, even if it was split.
func TestRowSetKeepsRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOf(rapid.IntRange(1, 300)).Draw(t, "rows")
		set := Rows(rows...)
		want := slices.Compact(slices.Sorted(slices.Values(rows)))

		data, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}

		var back RowSet
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}

		if got := rowsOf(back); !slices.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}

		var joined []int
		limit := rapid.IntRange(1, 60).Draw(t, "limit")
		for _, part := range set.Split(limit) {
			joined = append(joined, rowsOf(part)...)
		}

		if !slices.Equal(joined, want) {
			t.Fatalf("parts hold %v, want %v", joined, want)
		}
	})
}
