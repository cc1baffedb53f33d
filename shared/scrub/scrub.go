// Package scrub overwrites messages about an erased person that JetStream has deleted but not overwritten: a deleted
// message stays in its file until the server rewrites that file. It works on the files of a server that is down, and
// leaves them as the server does when it deletes a message securely.
package scrub

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/minio/highwayhash"

	"bobosync/shared/disk"
	"bobosync/shared/erase"
)

// Request says what to overwrite.
type Request struct {
	erase.Names
	// Subjects are the person's own subjects.
	Subjects []string `json:"subjects"`
	// Through holds, by stream, the sequence up to which every message that names the person is deleted.
	Through map[string]uint64 `json:"through"`
	// Rules are the rules of the streams that have one.
	Rules map[string]Rule `json:"rules"`
}

// Rule says how a stream's messages are judged. Without a rule, a message is about the person if one of its texts is
// one of the names.
type Rule struct {
	// BySubject: messages under the person's own subjects. ByWord: messages that contain one of the names anywhere as a
	// word.
	BySubject bool `json:"by_subject,omitempty"`
	ByWord    bool `json:"by_word,omitempty"`
	// LastOnly: the stream keeps only the last message of each subject, as all buckets do.
	LastOnly bool `json:"last_only,omitempty"`
}

// The directories of a store: jetstream/<account>/streams/<stream>/msgs/<n>.blk.
const (
	// AsideDir holds damaged files that were set aside.
	AsideDir = "set-aside"
	// requestsDir holds the requests to carry out before the next start.
	requestsDir = "erase"
	serverDir   = "jetstream"
	streamsDir  = "streams"
	blocksDir   = "msgs"
)

// Leave requests that a store be scrubbed before the next start of the broker inside. The returned file is removed when
// that is done; until then it names the person.
func (s Request) Leave(storeDir string) (file string, err error) {
	data, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("ask for what was deleted to be overwritten: %w", err)
	}

	dir := filepath.Join(storeDir, requestsDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("ask for what was deleted to be overwritten: %w", err)
	}

	file = filepath.Join(dir, rand.Text()+".json")
	if err := disk.Replace(file, data); err != nil {
		return "", fmt.Errorf("ask for what was deleted to be overwritten: %w", err)
	}

	return file, nil
}

// requests lists the files that Leave has written, without those already done.
func requests(storeDir string) []string {
	files, _ := filepath.Glob(filepath.Join(storeDir, requestsDir, "*.json")) // the pattern is valid
	return files
}

// Waits reports whether something must be overwritten before the next start of a store's server.
func Waits(storeDir string) bool { return len(requests(storeDir)) > 0 }

// FollowAll carries out the requests of Leave.
func FollowAll(storeDir string, log *slog.Logger) error {
	for _, file := range requests(storeDir) {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read what is to be overwritten: %w", err)
		}

		var s Request
		if err := json.Unmarshal(data, &s); err != nil || s.Employee == "" {
			return fmt.Errorf("read what is to be overwritten: %s is no request: remove it, and order the erasure again", file)
		}

		messages, err := s.Run(storeDir)
		if err != nil {
			return err
		}

		log.Info("deleted messages about a worker who was erased are overwritten", "messages", messages)

		if err := os.Remove(file); err != nil {
			return fmt.Errorf("overwrite what was deleted: %w", err)
		}
	}

	return nil
}

// Run overwrites the deleted messages in a store whose server is down, and returns how many it overwrote. Files that
// were set aside as damaged are deleted entirely.
func (s Request) Run(storeDir string) (messages int, err error) {
	if err := os.RemoveAll(filepath.Join(storeDir, AsideDir)); err != nil {
		return 0, fmt.Errorf("delete what was set aside: %w", err)
	}

	streams, err := filepath.Glob(filepath.Join(storeDir, serverDir, "*", streamsDir, "*"))
	for _, dir := range streams {
		var n int
		if n, err = s.stream(filepath.Base(dir), dir); err != nil {
			return messages, fmt.Errorf("overwrite what was deleted in %s: %w", storeDir, err)
		}

		messages += n
	}

	return messages, err
}

// stream scrubs the blocks of a stream.
func (s Request) stream(stream, dir string) (messages int, err error) {
	files, err := filepath.Glob(filepath.Join(dir, blocksDir, "*.blk"))
	if err != nil {
		return 0, err
	}

	rule := s.Rules[stream]
	rule.LastOnly = rule.LastOnly || strings.HasPrefix(stream, "KV_")
	last := map[string]uint64{} // by subject
	blocks := make([]*block, 0, len(files))
	for _, file := range files {
		b, err := openBlock(stream, file)
		if err != nil {
			return messages, err
		}

		found := false
		for r := range b.records {
			last[r.subject] = max(last[r.subject], r.seq)
			found = found || s.about(rule, r)
		}

		if found {
			blocks = append(blocks, b)
		}
	}

	for _, b := range blocks {
		n := 0
		for r := range b.records {
			if s.about(rule, r) && (r.seq <= s.Through[stream] || rule.LastOnly && r.seq < last[r.subject]) {
				b.overwrite(r)

				n++
			}
		}

		if n > 0 {
			if err := disk.Replace(b.file, b.data); err != nil {
				return messages, err
			}
		}

		messages += n
	}

	return messages, nil
}

// about reports whether a record is about the person.
func (s Request) about(rule Rule, r record) bool {
	switch {
	case rule.BySubject:
		return slices.Contains(s.Subjects, r.subject)
	case rule.ByWord:
		return s.MentionedIn(r.data)
	default:
		return s.In(r.data)
	}
}

// The form of a block, as the server's file store writes it: records one after the other, each of them
//
//	length uint32, sequence uint64, time int64, length of the subject uint16, subject,
//	[length of the headers uint32, headers,] data, checksum
//
// A bit of the length says that there are headers. Two bits of the sequence say that the record is erased, or that it
// is a tombstone for another one.
const (
	recordHead = 4 + 8 + 8 + 2
	checksum   = highwayhash.Size64
	headersBit = 1 << 31
	erasedBit  = 1 << 63
	tombBit    = 1 << 62
)

// block is a file of records.
type block struct {
	file string
	data []byte
	hash func(parts ...[]byte) []byte
	all  []record
}

// record is a message in a block, at from..to in the block's data.
type record struct {
	from, to int
	seq      uint64
	subject  string
	data     []byte
}

func (b *block) records(yield func(record) bool) {
	for _, r := range b.all {
		if !yield(r) {
			return
		}
	}
}

// errForm means that a file does not have the form that this program knows.
var errForm = errors.New("it is not in the form of nats-server 2.12 to 2.15, or it is encrypted or compressed: nothing in it is changed")

// openBlock reads a block and verifies that it has the known form.
func openBlock(stream, file string) (*block, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}

	key := sha256.Sum256([]byte(stream + "-" + strings.TrimSuffix(filepath.Base(file), ".blk")))

	hash, err := highwayhash.NewDigest64(key[:])
	if err != nil {
		return nil, err
	}

	b := &block{file: file, data: data, hash: func(parts ...[]byte) []byte {
		hash.Reset()

		for _, p := range parts {
			_, _ = hash.Write(p) // never fails
		}

		return hash.Sum(nil)
	}}
	for at := 0; at < len(data); {
		r, err := b.read(at)
		if err != nil && at > 0 {
			break // a crash cut off the end, which the server drops
		}

		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}

		at = r.to
		if r.seq&(erasedBit|tombBit) == 0 {
			b.all = append(b.all, r)
		}
	}

	return b, nil
}

// read reads the record at an offset.
func (b *block) read(at int) (record, error) {
	if at+recordHead+checksum > len(b.data) {
		return record{}, errForm
	}

	head := b.data[at : at+recordHead]
	length, subject := binary.LittleEndian.Uint32(head), int(binary.LittleEndian.Uint16(head[20:]))
	hasHeaders := length&headersBit != 0

	r := record{from: at, to: at + int(length&^headersBit), seq: binary.LittleEndian.Uint64(head[4:])}
	begin, end := at+recordHead+subject, r.to-checksum
	if r.to > len(b.data) || begin > end {
		return r, errForm
	}

	r.subject, r.data = string(b.data[at+recordHead:begin]), b.data[begin:end]
	sum := b.hash(head[4:20], b.data[at+recordHead:begin], r.data)
	if hasHeaders {
		if len(r.data) < 4 || int(binary.LittleEndian.Uint32(r.data)) > len(r.data)-4 {
			return r, errForm
		}

		headers := r.data[4 : 4+binary.LittleEndian.Uint32(r.data)]
		r.data = r.data[4+len(headers):]
		sum = b.hash(head[4:20], b.data[at+recordHead:begin], headers, r.data)
	}

	if !bytes.Equal(sum, b.data[end:r.to]) {
		return r, errForm
	}

	return r, nil
}

// overwrite does to a record what the server does when it deletes a message securely.
func (b *block) overwrite(r record) {
	raw := b.data[r.from:r.to]
	binary.LittleEndian.PutUint32(raw, uint32(len(raw)))
	binary.LittleEndian.PutUint64(raw[4:], r.seq|erasedBit)
	clear(raw[12:recordHead])
	_, _ = rand.Read(raw[recordHead : len(raw)-checksum]) // never fails
	copy(raw[len(raw)-checksum:], b.hash(raw[4:20], raw[recordHead:len(raw)-checksum]))
}
