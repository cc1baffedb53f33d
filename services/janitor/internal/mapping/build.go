// Package mapping builds the mapping of employee ids to AtHoc users, guards it against mistakes, and puts it into
// force.
package mapping

// How the mapping is built from AtHoc's users, hashed, and cut into messages.

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"bobosync/services/janitor/internal/journal"
	"bobosync/services/janitor/internal/users"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// Bounds of a chunk, so that it stays well below the broker's limit of 1 MB for a message.
const (
	chunkUsers = 5000
	chunkBytes = 700_000
	// chunkFrame is more than the bytes of a chunk without its users.
	chunkFrame = 400
)

// build returns the mapping employee id → username, and its findings. Blanks around an id are ignored, leading zeros
// are not. Usernames are compared without regard to case. If a user occurs twice, the last occurrence counts.
func build(people []users.Person) (map[string]string, journal.Findings) {
	f := journal.Findings{Ambiguous: map[string][]string{}}
	owners := map[string][]string{}
	for _, p := range lastOfEach(people, &f) {
		id := strings.TrimSpace(p.Value)
		switch {
		case id == "":
			f.Without++
		case len(id) > users.MaxText || strings.ContainsFunc(id, invisible):
			f.Unusable++
		default:
			owners[id] = append(owners[id], p.Username)
		}
	}

	mapping := make(map[string]string, len(owners))
	for id, names := range owners {
		if len(names) == 1 {
			mapping[id] = names[0]
		} else {
			slices.Sort(names)
			f.Ambiguous[id] = names
		}
	}

	f.Alike = alike(owners)

	return mapping, f
}

// invisible reports whether c cannot be seen. No employee id has such characters: ingest rejects rows that have them.
func invisible(c rune) bool { return !unicode.IsGraphic(c) }

// lastOfEach returns the last occurrence of each user, in the order of their first occurrences. It counts users and
// unusable names in f.
func lastOfEach(people []users.Person, f *journal.Findings) []users.Person {
	at := make(map[string]int, len(people))
	var once []users.Person
	for _, p := range people {
		name := topology.NormalUsername(p.Username)
		if name == "" || len(name) > users.MaxText || strings.ContainsFunc(name, unicode.IsControl) {
			f.Unusable++
			continue
		}

		if i, ok := at[name]; ok {
			once[i] = p
			continue
		}

		at[name] = len(once)
		once = append(once, p)
	}

	f.Users = len(once)

	return once
}

// alike groups the ids that differ only in blanks or leading zeros.
func alike(owners map[string][]string) [][]string {
	groups := map[string][]string{}
	for id := range owners {
		bare := bareID(id)
		groups[bare] = append(groups[bare], id)
	}

	var out [][]string
	for _, ids := range groups {
		if len(ids) > 1 {
			slices.Sort(ids)
			out = append(out, ids)
		}
	}

	slices.SortFunc(out, func(a, b []string) int { return strings.Compare(a[0], b[0]) })

	return out
}

// bareID returns an id without the blanks and leading zeros that people write or leave out at will.
func bareID(id string) string {
	id = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, id)
	if bare := strings.TrimLeft(id, "0"); bare != "" {
		return bare
	}

	return "0"
}

// hashOf returns the hash of a mapping's content, which is equal only for equal mappings.
func hashOf(mapping map[string]string) string {
	h := sha256.New()
	var size [4]byte

	write := func(s string) {
		binary.BigEndian.PutUint32(size[:], uint32(len(s))) //nolint:gosec // at most users.MaxText
		h.Write(size[:])
		h.Write([]byte(s))
	}
	for _, id := range slices.Sorted(maps.Keys(mapping)) {
		write(id)
		write(mapping[id])
	}

	return hex.EncodeToString(h.Sum(nil))
}

// chunksOf cuts a mapping into messages that the broker accepts, in the order of the ids. An empty mapping is one
// message.
func chunksOf(mapping map[string]string, snapshot string, taken time.Time) []event.MappingChunk {
	var chunks []event.MappingChunk
	size := chunkBytes
	for _, id := range slices.Sorted(maps.Keys(mapping)) {
		cost := users.JSONSize(id) + users.JSONSize(mapping[id]) + len(":,")
		last := len(chunks) - 1
		if last < 0 || size+cost > chunkBytes || len(chunks[last].Users) >= chunkUsers {
			chunks = append(chunks, event.MappingChunk{Snapshot: snapshot, Taken: taken, Index: len(chunks), Users: map[string]string{}})
			size, last = chunkFrame, last+1
		}

		chunks[last].Users[id] = mapping[id]
		size += cost
	}

	if len(chunks) == 0 {
		chunks = []event.MappingChunk{{Snapshot: snapshot, Taken: taken, Users: map[string]string{}}}
	}

	for i := range chunks {
		chunks[i].Chunks = len(chunks)
	}

	return chunks
}
