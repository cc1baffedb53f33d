package bobocsv

import (
	"errors"
	"io"
)

// MaxLine is the longest line that is read, in bytes, without its line end. A longer one is skipped and rejected, so
// that a file without line ends cannot fill the memory.
const MaxLine = 64 << 10

// line is one physical line without its end. Its text is valid until the next call of next.
type line struct {
	number int
	text   []byte
	// size is the true length, even if text was cut because the line is longer than MaxLine.
	size int
}

// lineReader cuts a stream into physical lines. CRLF, LF and a lone CR each end a line.
type lineReader struct {
	src        io.Reader
	buf        []byte
	start, end int // the part of buf that is not yet returned
	number     int
	err        error // of src; io.EOF at its end
	skipLF     bool  // the last line ended in CR at the buffer's end: an LF that follows belongs to it
}

// firstBuffer and largestBuffer bound the size of the buffer. Most files are small, and there are thousands of them.
const firstBuffer, largestBuffer = 4 << 10, 2 * MaxLine

func newLineReader(src io.Reader) *lineReader {
	return &lineReader{src: src, buf: make([]byte, firstBuffer)}
}

// next returns the next line, or the source's error: io.EOF at its end.
func (r *lineReader) next() (line, error) {
	scanned := 0
	for {
		if r.skipLF && r.start < r.end {
			r.skipLF = false
			if r.buf[r.start] == '\n' {
				r.start++
			}
		}

		if i := indexLineEnd(r.buf[r.start+scanned : r.end]); i >= 0 {
			return r.cut(scanned + i), nil
		}

		scanned = r.end - r.start
		if scanned > MaxLine {
			return r.skipLong()
		}

		if r.err != nil {
			return r.rest()
		}

		r.fill()
	}
}

// cut returns the next n bytes as a line and drops the line end after them.
func (r *lineReader) cut(n int) line {
	r.number++

	l := line{number: r.number, text: r.buf[r.start : r.start+n], size: n}
	r.skipLF = r.buf[r.start+n] == '\r'
	r.start += n + 1
	if n > MaxLine {
		l.text = l.text[:MaxLine]
	}

	return l
}

// rest returns the last line, which has no line end, or the source's error.
func (r *lineReader) rest() (line, error) {
	if r.start == r.end || !errors.Is(r.err, io.EOF) {
		return line{}, r.err
	}

	r.number++
	l := line{number: r.number, text: r.buf[r.start:r.end], size: r.end - r.start}
	r.start = r.end

	return l, nil
}

// skipLong skips a line that is too long, up to its end, and returns its first bytes.
func (r *lineReader) skipLong() (line, error) {
	size := 0

	kept := append([]byte(nil), r.buf[r.start:r.start+MaxLine]...)
	for {
		if i := indexLineEnd(r.buf[r.start:r.end]); i >= 0 {
			l := r.cut(i)
			l.text, l.size = kept, size+i
			return l, nil
		}

		size += r.end - r.start
		r.start, r.end = 0, 0
		if r.err != nil {
			if !errors.Is(r.err, io.EOF) {
				return line{}, r.err
			}

			r.number++

			return line{number: r.number, text: kept, size: size}, nil
		}

		r.fill()
	}
}

// fill reads more into the buffer, after what is there.
func (r *lineReader) fill() {
	if r.start > 0 {
		copy(r.buf, r.buf[r.start:r.end])
		r.start, r.end = 0, r.end-r.start
	}

	if r.end == len(r.buf) && len(r.buf) < largestBuffer {
		r.buf = append(r.buf, make([]byte, min(3*len(r.buf), largestBuffer-len(r.buf)))...)
	}

	const patience = 100 // reads without a byte and without an error, as in bufio
	for range patience {
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		r.err = err
		if n > 0 || err != nil {
			return
		}
	}

	r.err = io.ErrNoProgress
}

func indexLineEnd(b []byte) int {
	for i, c := range b {
		if c <= '\r' && (c == '\n' || c == '\r') {
			return i
		}
	}

	return -1
}
