package mapping

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bobosync/services/janitor/internal/journal"
	"bobosync/services/janitor/internal/users"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// person is a short form of an AtHoc user.
type person struct{ username, collar string }

func read(people []person) []users.Person {
	var out []users.Person
	for _, p := range people {
		out = append(out, users.Person{Username: p.username, Value: p.collar})
	}

	return out
}

func TestBuild(t *testing.T) {
	t.Parallel()

	long := strings.Repeat("9", users.MaxText+1)
	for _, c := range []struct {
		name   string
		people []person
		want   map[string]string
		found  journal.Findings
	}{
		{"nobody", nil, map[string]string{}, journal.Findings{}},
		{"two users", []person{{"a", "1"}, {"b", "2"}}, map[string]string{"1": "a", "2": "b"}, journal.Findings{Users: 2}},
		{"blanks around an id", []person{{"a", " 00123\t"}}, map[string]string{"00123": "a"}, journal.Findings{Users: 1}},
		{"no id", []person{{"a", ""}, {"b", "  "}, {"c", "3"}}, map[string]string{"3": "c"}, journal.Findings{Users: 3, Without: 2}},
		{"one id, two users", []person{{"b", "1"}, {"a", "1 "}, {"c", "2"}}, map[string]string{"2": "c"},
			journal.Findings{Users: 3, Ambiguous: map[string][]string{"1": {"a", "b"}}}},
		{"one user twice", []person{{"a", "1"}, {"a", "1"}}, map[string]string{"1": "a"}, journal.Findings{Users: 1}},
		{"one user in two cases", []person{{"Jane.Roe", "1"}, {"jane.roe", "1"}}, map[string]string{"1": "jane.roe"}, journal.Findings{Users: 1}},
		{"the id changed meanwhile", []person{{"a", "1"}, {"A", "2"}}, map[string]string{"2": "A"}, journal.Findings{Users: 1}},
		{"the id was taken away meanwhile", []person{{"a", "1"}, {"a", ""}}, map[string]string{}, journal.Findings{Users: 1, Without: 1}},
		{"leading zeros count", []person{{"a", "00123"}, {"b", "123"}, {"c", "1 23"}, {"d", "1230"}},
			map[string]string{"00123": "a", "123": "b", "1 23": "c", "1230": "d"},
			journal.Findings{Users: 4, Alike: [][]string{{"00123", "1 23", "123"}}}},
		{"nothing but zeros", []person{{"a", "0"}, {"b", "000"}}, map[string]string{"0": "a", "000": "b"},
			journal.Findings{Users: 2, Alike: [][]string{{"0", "000"}}}},
		{"no username", []person{{"", "1"}, {" ", "2"}}, map[string]string{}, journal.Findings{Unusable: 2}},
		{"what nobody can see", []person{{"a", "1\u202e2"}, {"b", "\x1b[1m3"}, {"c\x1b[2J", "4"}, {"\u202ed", "5"}}, map[string]string{"5": "\u202ed"},
			journal.Findings{Users: 3, Unusable: 3}},
		{"too long", []person{{"a", long}, {long, "1"}}, map[string]string{}, journal.Findings{Users: 1, Unusable: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.found.Ambiguous == nil {
				c.found.Ambiguous = map[string][]string{}
			}

			got, found := build(read(c.people))
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.found, found)
		})
	}
}

// people generates users whose ids and names often collide.
func people() *rapid.Generator[[]person] {
	id := rapid.StringMatching(`( |\t)?0{0,2}[1-3]{0,2}( )?`)
	user := rapid.StringMatching(`[abAB]{0,3}`)

	return rapid.SliceOf(rapid.Custom(func(t *rapid.T) person {
		return person{username: user.Draw(t, "user"), collar: id.Draw(t, "id")}
	}))
}

func TestBuildGivesAnIDToItsOnlyOwner(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := people().Draw(t, "people")
		mapping, found := build(read(in))

		final := map[string]person{} // each user's last record
		for _, p := range in {
			if p.username != "" {
				final[strings.ToLower(p.username)] = p
			}
		}

		owners := map[string]int{}
		for _, p := range final {
			owners[strings.TrimSpace(p.collar)]++
		}

		for _, p := range final {
			id := strings.TrimSpace(p.collar)
			switch {
			case id == "":
			case owners[id] == 1:
				if !strings.EqualFold(mapping[id], p.username) {
					t.Fatalf("id %q belongs to %q alone, not to %q", id, p.username, mapping[id])
				}
			default:
				if _, given := mapping[id]; given || len(found.Ambiguous[id]) != owners[id] {
					t.Fatalf("id %q of %d Users: given %t, reported %v", id, owners[id], given, found.Ambiguous[id])
				}
			}
		}

		if found.Users != len(final) || found.Without != owners[""] {
			t.Fatalf("%d users and %d without, want %d and %d", found.Users, found.Without, len(final), owners[""])
		}

		if distinct := len(owners) - min(owners[""], 1); len(mapping)+len(found.Ambiguous) != distinct {
			t.Fatalf("%d mapped and %d ambiguous of %d ids", len(mapping), len(found.Ambiguous), distinct)
		}
	})
}

func TestBuildDoesNotDependOnTheOrderOfDifferentUsers(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		once := lastOfEach(read(people().Draw(t, "people")), &journal.Findings{})
		mapping, found := build(once)
		again, foundAgain := build(rapid.Permutation(once).Draw(t, "order"))
		assert.Equal(t, mapping, again)
		assert.Equal(t, found, foundAgain)
		assert.Equal(t, hashOf(mapping), hashOf(again))
	})
}

func TestHashTellsMappingsApart(t *testing.T) {
	t.Parallel()

	seen := map[string]int{}
	for i, m := range []map[string]string{
		{}, {"1": "a"}, {"1": "b"}, {"2": "a"}, {"1a": ""}, {"": "1a"}, {"1": "a", "2": "b"}, {"1": "b", "2": "a"}, {"12": "ab"},
	} {
		before, known := seen[hashOf(m)]
		require.False(t, known, "mappings %d and %d", before, i)
		seen[hashOf(m)] = i
	}
}

func TestChunksHoldEverythingOnceAndFitIntoMessages(t *testing.T) {
	t.Parallel()

	taken := time.Date(2024, 6, 17, 20, 0, 1, 234567891, time.UTC)
	escaped := strings.Repeat("<é\u2028", 100) // JSON makes it longer
	for _, c := range []struct {
		name   string
		users  int
		user   string
		chunks int
	}{
		{"one", 1, "", 1},
		{"full", chunkUsers, "", 1},
		{"one more", chunkUsers + 1, "", 2},
		{"many", 25_000, "", 5},
		{"long names", 4000, escaped, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			mapping := map[string]string{}
			for i := range c.users {
				mapping[fmt.Sprintf("%05d", i)] = fmt.Sprintf("%s%d@example.org", c.user, i)
			}

			chunks := chunksOf(mapping, "0191-snapshot", taken)
			all := map[string]string{}
			for i, chunk := range chunks {
				assert.Equal(t, i, chunk.Index)
				assert.Equal(t, len(chunks), chunk.Chunks)
				assert.LessOrEqual(t, len(chunk.Users), chunkUsers)
				assert.Less(t, len(event.Encode(&chunk)), chunkBytes)
				assert.Equal(t, "0191-snapshot", chunk.Snapshot)

				for id, user := range chunk.Users {
					if _, twice := all[id]; twice {
						t.Fatalf("id %q is in two chunks", id)
					}

					all[id] = user
				}
			}

			assert.Equal(t, mapping, all)

			if c.user == "" {
				assert.Len(t, chunks, c.chunks)
			} else {
				assert.Greater(t, len(chunks), 1)
				assert.Greater(t, len(event.Encode(&chunks[0])), chunkBytes*9/10, "chunks are not cut smaller than needed")
			}
		})
	}
}

func TestUsernamesAreComparedAsTheTopologyDoes(t *testing.T) {
	t.Parallel()
	// Otherwise a user with two ids could be in two partitions.
	_, found := build(read([]person{{"ÄRZTIN", "1"}, {"ärztin", "2"}}))
	assert.Equal(t, 1, found.Users)
	assert.Equal(t, topology.NormalUsername("ÄRZTIN"), topology.NormalUsername("ärztin"))
}
