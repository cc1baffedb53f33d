package sim

// What an impostor in AtHoc's place answers: answers that are meant to fill a client's memory or to keep it waiting,
// and answers that say more than was asked.

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
)

// Forms of a bomb.
const (
	BombGzip       = "gzip"       // a gigabyte of users in a megabyte of gzip
	BombEndless    = "endless"    // users without end, until the client gives up
	BombDeep       = "deep"       // brackets within brackets
	BombAttributes = "attributes" // one user with attributes without end
	BombHeaders    = "headers"    // header lines without end
)

// Forms of a drip.
const (
	DripHead = "head" // a header line that arrives letter by letter
	DripBody = "body" // a body that arrives letter by letter
)

var forms = map[string][]string{
	FaultBomb: {BombGzip, BombEndless, BombDeep, BombAttributes, BombHeaders},
	FaultDrip: {DripHead, DripBody},
}

const (
	// bombSize is the most bytes of a bomb, before compression.
	bombSize = 1 << 30
	// dripEvery is the pause between two letters.
	dripEvery = 50 * time.Millisecond
)

// openings are the beginnings of a genuine answer of each end point.
var openings = map[string]string{EndpointSearch: `{"TotalUsers":1,"Users":[`, EndpointUpdate: `[`, EndpointToken: `{"access_token":"`}

// bombParts returns the beginning of a bomb's body, and the text that is repeated after it.
func bombParts(form, endpoint string) (opening, unit string) {
	opening = openings[endpoint]
	switch {
	case form == BombDeep:
		return "", "[{\"a\":"
	case endpoint == EndpointToken:
		return opening, "x"
	case form == BombAttributes:
		return opening + `{"LOGIN_ID":"x","a":"`, `","b":"`
	}

	return opening, `{},`
}

// bomb sends an answer that has no end. It finishes the call's record first: nothing shows when the client has had
// enough.
func (s *Simulator) bomb(w http.ResponseWriter, c *Call, form string) {
	s.finish(c, http.StatusOK)

	if form == BombHeaders {
		s.raw(w, "HTTP/1.1 200 OK\r\n", strings.Repeat("X-More: and more\r\n", 1<<10), 0)
		return
	}

	opening, unit := bombParts(form, c.Endpoint)
	chunk := []byte(strings.Repeat(unit, (1<<20)/len(unit)))

	pack := func(b []byte) []byte { return b }
	if form == BombGzip {
		w.Header().Set("Content-Encoding", "gzip")

		pack = packed
	}

	w.Header().Set("Content-Type", "application/json; charset=utf-8")

	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute))
	_, err := w.Write(pack([]byte(opening)))
	chunk = pack(chunk) // a gzip file may have many members, so one packed member can be sent again and again
	for sent := 0; err == nil && sent < bombSize && s.ctx.Err() == nil; sent += 1 << 20 {
		_, err = w.Write(chunk)
	}

	panic(http.ErrAbortHandler)
}

func packed(b []byte) []byte {
	var out bytes.Buffer

	z := gzip.NewWriter(&out)
	_, err := z.Write(b)
	if err = errors.Join(err, z.Close()); err != nil {
		panic(err) // writing to a buffer does not fail
	}

	return out.Bytes()
}

// raw sends begin, and then again over and over, beyond what HTTP allows. With a pause it sends again letter by
// letter.
func (s *Simulator) raw(w http.ResponseWriter, begin, again string, pause time.Duration) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()

	_, err = io.WriteString(conn, begin)
	for sent := 0; err == nil && sent < bombSize && s.ctx.Err() == nil; {
		next := again
		if pause > 0 {
			next = again[sent%len(again):][:1]

			wait(s.ctx, pause)
		}

		_ = conn.SetWriteDeadline(time.Now().Add(time.Minute))
		_, err = io.WriteString(conn, next)
		sent += len(next)
	}

	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
}

// drip sends an answer that never ends, but with no long pause between two letters.
func (s *Simulator) drip(w http.ResponseWriter, c *Call, form string, a answer) {
	begin, again := "HTTP/1.1 200 OK\r\nX-Slow: ", "a"
	if form == DripBody {
		begin, again = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n", " "
		begin += string(a.body[:min(1, len(a.body))])
	}
	defer func() { s.finish(c, http.StatusOK) }()

	s.raw(w, begin, again, dripEvery)

	c.ClientGone = true
}

// lies adds to a genuine answer what was not asked for: other users, the same users again, values of the wrong type,
// false counts. What is true of the users who were asked for stays in the answer, and is not contradicted.
func (f *Fault) lies(c *Call, a answer) answer {
	if a.status != http.StatusOK {
		return a
	}

	rng := rand.New(rand.NewPCG(f.Seed, c.Seq))
	switch c.Endpoint {
	case EndpointUpdate:
		a.body = spliced(a.body, "[", falseOutcomes(rng, c.Users))
	case EndpointSearch:
		a.body = spliced(a.body, `"Users":[`, falseUsers(rng))
	}

	return a
}

// spliced inserts elements at the beginning of the list that follows mark.
func spliced(body []byte, mark string, elements []string) []byte {
	at := bytes.Index(body, []byte(mark))
	if at < 0 || len(elements) == 0 {
		return body
	}

	at += len(mark)
	more := strings.Join(elements, ",")
	if rest := bytes.TrimSpace(body[at:]); len(rest) > 0 && rest[0] != ']' {
		more += ","
	}

	return append(append(bytes.Clone(body[:at]), more...), body[at:]...)
}

func falseOutcomes(rng *rand.Rand, users []UserCall) []string {
	lies := []string{
		`{"LOGIN_ID":"stranger@example.org",":SyncStatus":"OK",":SyncDetails":"not asked for"}`,
		`{"LOGIN_ID":"stranger2@example.org",":SyncStatus":"Error",":SyncDetails":"permission denied"}`,
		`{"LOGIN_ID":"probe@example.org\u0000",":SyncStatus":"Error",":SyncDetails":"does not exists in the Organization"}`,
		`{"LOGIN_ID":{"LOGIN_ID":"x"},":SyncStatus":["OK"],":SyncDetails":{}}`,
		`{"LOGIN_ID":null,":SyncStatus":null}`, `null`, `"OK"`, `[]`, `{}`, `17`,
		`{"LOGIN_ID":"\u202egro.elpmaxe@eborp",":SyncStatus":"OK",":SyncDetails":"` + strings.Repeat("x", 4<<10) + `"}`,
	}
	rng.Shuffle(len(lies), func(i, j int) { lies[i], lies[j] = lies[j], lies[i] })

	for _, u := range users {
		if rng.IntN(3) == 0 { // a user who was updated is listed again, this time in capitals
			if login := strings.ToUpper(u.LoginID); u.Outcome == OutcomeUpdated {
				lies = append(lies, fmt.Sprintf(`{"LOGIN_ID":%s,":SyncStatus":"OK"}`, appendString(nil, login)))
			}
		}
	}

	return lies[:1+rng.IntN(len(lies))]
}

func falseUsers(rng *rand.Rand) []string {
	lies := []string{
		`{"LOGIN_ID":"stranger@example.org"}`, `{}`, `{"LOGIN_ID":""}`, `{"LOGIN_ID":null}`,
		`{"LOGIN_ID":"stranger3@example.org","Not-Asked-For":"` + strings.Repeat("x", 1<<10) + `","Password":"secret"}`,
		`{"LOGIN_ID":"\u001b[2Jstranger4","` + DefaultCollar + `":"\u001b[1mOK\u0007"}`,
		`{"LOGIN_ID":"stranger5@example.org","` + DefaultCollar + `":["1","2"]}`,
		`{"LOGIN_ID":"stranger6@example.org","` + DefaultDutyAttribute + `":"tomorrow"}`,
	}
	rng.Shuffle(len(lies), func(i, j int) { lies[i], lies[j] = lies[j], lies[i] })

	return lies[:1+rng.IntN(len(lies))]
}
