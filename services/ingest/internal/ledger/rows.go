package ledger

// What became of the rows of a file, chunk by chunk.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"

	"go.etcd.io/bbolt"
)

// Detail is a number that goes with a rejected line, such as how many columns it has.
type Detail struct {
	Line, Number int
}

// maxDetails bounds the details that are kept for a chunk, so that a file of millions of rejected rows takes about
// one byte for each of them, not nine. Rows beyond the bound still have their reason.
const maxDetails = 100

// Chunk returns the number of the chunk that holds a line, counted from 1, and the line's index in the chunk.
func Chunk(line int) (chunk, index int) { return (line - 1) / ChunkLines, (line - 1) % ChunkLines }

// Rows gives access to the rows of a file. It must not be used after its transaction has ended. An unknown file has
// no rows.
type Rows struct {
	tx  *bbolt.Tx
	id  string
	key []byte // nil if the id is not valid
}

// Rows returns the rows of a file.
func (t *Tx) Rows(id string) Rows { return Rows{t.tx, id, keyOf(id)} }

// Add stores the codes of a chunk's lines as they were read from the file. If the chunk is known from an earlier
// reading, its codes stay as they are, because its rows may be settled already. Add returns the codes that are valid
// now.
func (r Rows) Add(chunk int, codes []byte, details []Detail) ([]byte, error) {
	known, err := r.codes(chunk)
	if err != nil || known != nil {
		return known, err
	}

	if err := r.put(chunk, codes); err != nil {
		return nil, err
	}

	if len(details) == 0 {
		return codes, nil
	}

	details = details[:min(len(details), maxDetails)]
	data := make([]byte, 0, 8*len(details))
	for _, d := range details {
		data = binary.BigEndian.AppendUint32(data, uint32(d.Line))
		data = binary.BigEndian.AppendUint32(data, uint32(d.Number))
	}

	if err := r.tx.Bucket(bucketRejected).Put(numbered(r.key, chunk), data); err != nil {
		return nil, fmt.Errorf("store rejected rows of file %s: %w", Short(r.id), err)
	}

	return codes, nil
}

// Forget drops the rows. The file's record keeps the counts.
func (r Rows) Forget() error {
	if r.key == nil {
		return nil
	}

	return errors.Join(
		deleteAll(r.tx.Bucket(bucketRows), r.key), deleteAll(r.tx.Bucket(bucketRejected), r.key), deleteAll(r.tx.Bucket(bucketDead), r.key),
	)
}

// codes returns a copy of a chunk's codes, nil if the chunk is unknown.
func (r Rows) codes(chunk int) ([]byte, error) {
	if r.key == nil {
		return nil, fmt.Errorf("look up rows: %d characters are no file id", len(r.id))
	}
	return bytes.Clone(r.tx.Bucket(bucketRows).Get(numbered(r.key, chunk))), nil
}

func (r Rows) put(chunk int, codes []byte) error {
	if err := r.tx.Bucket(bucketRows).Put(numbered(r.key, chunk), codes); err != nil {
		return fmt.Errorf("store rows of file %s: %w", Short(r.id), err)
	}
	return nil
}

// lines returns the number of the last line that has a code, 0 if there is none.
func (r Rows) lines() int {
	if r.key == nil {
		return 0
	}

	c := r.tx.Bucket(bucketRows).Cursor()
	next, _ := c.Seek(numbered(r.key, math.MaxUint32))
	before := c.Prev
	if next == nil {
		before = c.Last
	}

	k, codes := before()
	if !bytes.HasPrefix(k, r.key) {
		return 0
	}

	return int(binary.BigEndian.Uint32(k[len(r.key):]))*ChunkLines + len(codes)
}

// chunks yields the chunks in order. The codes are valid within the transaction and must not be changed.
func (r Rows) chunks() iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		if r.key == nil {
			return
		}

		c := r.tx.Bucket(bucketRows).Cursor()
		for k, v := c.Seek(r.key); k != nil && bytes.HasPrefix(k, r.key); k, v = c.Next() {
			if !yield(int(binary.BigEndian.Uint32(k[len(r.key):])), v) {
				return
			}
		}
	}
}

// recode replaces one code by another in all rows, and returns how many lines are known.
func (r Rows) recode(from, to Code) (lines int, err error) {
	changed := map[int][]byte{}
	for chunk, codes := range r.chunks() {
		lines = chunk*ChunkLines + len(codes)
		if bytes.IndexByte(codes, byte(from)) >= 0 {
			changed[chunk] = bytes.ReplaceAll(codes, []byte{byte(from)}, []byte{byte(to)})
		}
	}

	for chunk, codes := range changed {
		if err := r.put(chunk, codes); err != nil {
			return 0, err
		}
	}

	return lines, nil
}

// list returns the rows of a chunk whose codes want accepts. more reports whether the chunk exists.
func (r Rows) list(chunk int, want func(Code) bool) (rows []Row, more bool, err error) {
	if r.key == nil {
		return nil, false, nil
	}

	codes, err := r.codes(chunk)
	if err != nil || codes == nil {
		return nil, false, err
	}

	numbers := map[int]int{}
	data := r.tx.Bucket(bucketRejected).Get(numbered(r.key, chunk))
	for ; len(data) >= 8; data = data[8:] {
		numbers[int(binary.BigEndian.Uint32(data))] = int(binary.BigEndian.Uint32(data[4:]))
	}

	for i, b := range codes {
		c := Code(b)
		if c == NoRow || !want(c) {
			continue
		}

		line := chunk*ChunkLines + i + 1
		detail := r.tx.Bucket(bucketDead).Get(numbered(r.key, line))
		rows = append(rows, Row{Line: line, Code: c, Number: numbers[line], Detail: string(detail)})
	}

	return rows, true, nil
}

// Row is one row of a file, as operators see it.
type Row struct {
	Line int
	Code Code
	// Number belongs to a rejected row: its number of columns, or the length of its line.
	Number int
	// Detail is why a row is dead, if the ledger has kept that.
	Detail string
}

// Rows yields the rows of a file whose codes want accepts, in the order of their lines. Each chunk is read in a
// transaction of its own, so a slow consumer blocks nobody.
func (l *Ledger) Rows(id string, want func(Code) bool) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for chunk := 0; ; chunk++ {
			var rows []Row
			more := false

			err := l.View(func(tx *Tx) (err error) {
				rows, more, err = tx.Rows(id).list(chunk, want)
				return err
			})
			if err != nil {
				yield(Row{}, err)
				return
			}

			for _, r := range rows {
				if !yield(r, nil) {
					return
				}
			}

			if !more {
				return
			}
		}
	}
}
