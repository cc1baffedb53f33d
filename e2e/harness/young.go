//go:build unix

package harness

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/minio/highwayhash"
)

// MakeYoung moves the messages of a broker's store to the present, in each stream that drops messages by age: a store
// that was recorded once must remain usable forever. If there is no store, it does nothing. The broker must not be
// running.
func MakeYoung(store string) error {
	metas, err := filepath.Glob(filepath.Join(store, "jetstream", "*", "streams", "*", "meta.inf"))
	if err != nil {
		return err
	}

	for _, meta := range metas {
		var stream struct {
			Name   string        `json:"name"`
			MaxAge time.Duration `json:"max_age"`
		}

		data, err := os.ReadFile(meta)
		if err == nil {
			err = json.Unmarshal(data, &stream)
		}

		if err == nil && stream.MaxAge > 0 {
			err = moveStream(filepath.Join(filepath.Dir(meta), "msgs"), stream.Name, time.Now())
		}

		if err != nil {
			return fmt.Errorf("%s: %w", meta, err)
		}
	}

	return nil
}

// moveStream changes the times of a stream's messages, so that the last message has the given time and the intervals
// stay the same. It removes the index, which the broker rebuilds from the blocks.
func moveStream(dir, stream string, last time.Time) error {
	if err := os.Remove(filepath.Join(dir, "index.db")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}

	blocks, err := filepath.Glob(filepath.Join(dir, "*.blk"))
	if err != nil {
		return err
	}

	var newest int64
	for _, path := range blocks {
		err = errors.Join(err, eachRecord(path, func(r record) { newest = max(newest, r.time()) }))
	}

	if err != nil {
		return err
	}

	shift := last.UnixNano() - newest
	for _, path := range blocks {
		block := strings.TrimSuffix(filepath.Base(path), ".blk")
		err = errors.Join(err, eachRecord(path, func(r record) { r.move(shift, stream+"-"+block) }))
	}

	return err
}

// record is a message in a block of JetStream's file store: length (4 bytes; the highest bit says that there are
// headers), sequence (8), time (8), length of the subject (2), subject, [length of the headers (4), headers,] body,
// checksum (8).
type record []byte

const (
	recordHead = 4 + 8 + 8 + 2
	checksum   = 8
	withHeader = 1 << 31
)

func (r record) time() int64 { return int64(binary.LittleEndian.Uint64(r[12:])) }

// move shifts the message's time, and updates the checksum. The checksum's key consists of the stream's name and the
// block's number.
func (r record) move(by int64, key string) {
	binary.LittleEndian.PutUint64(r[12:], uint64(r.time()+by))

	sum := sha256.Sum256([]byte(key))

	h, err := highwayhash.NewDigest64(sum[:])
	if err != nil {
		panic(err) // the key has the right length
	}

	subject := recordHead + int(binary.LittleEndian.Uint16(r[20:]))
	body := subject
	if binary.LittleEndian.Uint32(r)&withHeader != 0 {
		body += 4
	}

	for _, part := range [][]byte{r[4:20], r[recordHead:subject], r[body : len(r)-checksum]} {
		_, _ = h.Write(part) // it never fails
	}

	h.Sum(r[len(r)-checksum : len(r)-checksum])
}

// eachRecord calls f with each of a block's records, which f may change.
func eachRecord(path string, f func(record)) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}

	for rest := data; len(rest) > 0; {
		if len(rest) < recordHead+checksum {
			return fmt.Errorf("%s ends within a message", path)
		}

		n := int(binary.LittleEndian.Uint32(rest) &^ withHeader)
		if n < recordHead+checksum || n > len(rest) {
			return fmt.Errorf("%s: a message of %d bytes", path, n)
		}

		f(record(rest[:n]))
		rest = rest[n:]
	}

	return os.WriteFile(path, data, 0o600)
}
