package athoc

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestAByteOrderMarkIsSkipped: it may precede the JSON of a token, of a page of users and of an answer to an update.
func TestAByteOrderMarkIsSkipped(t *testing.T) {
	t.Parallel()
	const mark = "\uFEFF"
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			answer(200, mark+`{"Users":[{"LOGIN_ID":"alice.ng@example.org"}],"TotalUsers":"1","FetchedRecords":1}`)(w, r)
			return
		}

		answer(200, mark+` [{"LOGIN_ID":"alice.ng@example.org",":SyncStatus":"OK"},{"LOGIN_ID":"bob.o@example.org",":SyncStatus":"OK"}]`)(w, r)
	})
	f.valid, f.token = "abc", answer(200, mark+`{"access_token":"abc","token_type":"Bearer"}`)
	c := newClient(t, f.server.URL)
	results, err := c.UpdateDutyStatus(t.Context(), twoUsers)
	require.NoError(t, err)
	assert.Equal(t, Applied, results[0].Outcome)
	assert.Equal(t, Applied, results[1].Outcome)

	for page, err := range c.SearchUsers(t.Context(), Query{}) {
		require.NoError(t, err)
		assert.Len(t, page.Users, 1)
	}

	require.NoError(t, c.Ping(t.Context()))
}

// TestHarmlessVariantsOfAnUpdatesAnswer: however the JSON is written, both users were updated.
func TestHarmlessVariantsOfAnUpdatesAnswer(t *testing.T) {
	t.Parallel()

	const a, b = `{"LOGIN_ID":"alice.ng@example.org",":SyncStatus":"OK"}`, `{"LOGIN_ID":"bob.o@example.org",":SyncStatus":"OK"}`
	for name, body := range map[string]string{
		"blank lines around it":      "\r\n\t [" + a + "," + b + "]\r\n\r\n",
		"a mark and blank lines":     "\ufeff\r\n[" + a + "," + b + "]\n",
		"another order":              "[" + b + "," + a + "]",
		"names in other cases":       `[{"login_id":"ALICE.NG@EXAMPLE.ORG",":SYNCSTATUS":" ok "},{"Login_Id":"Bob.O@example.org",":syncStatus":"Ok"}]`,
		"escaped":                    `[{"LOGIN_ID":"alice\u002eng\u0040example.org","\u003aSyncStatus":"\u004fK"},` + b + `]`,
		"further fields":             `[{"a":[{"b":null}],"LOGIN_ID":"alice.ng@example.org",":SyncStatus":"OK","z":1e400},` + b + `]`,
		"details of another kind":    `[{"LOGIN_ID":"alice.ng@example.org",":SyncStatus":"OK",":SyncDetails":["Updated"]},` + b + `]`,
		"entries that say nothing":   "[null," + a + ",{}," + b + "]",
		"each twice":                 "[" + a + "," + b + "," + a + "," + b + "]",
		"a key twice, the last good": `[{"LOGIN_ID":"x","LOGIN_ID":"alice.ng@example.org",":SyncStatus":"OK"},` + b + `]`,
	} {
		f := newFake(t, answer(200, body))
		results, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), twoUsers)
		require.NoError(t, err, name)

		for _, r := range results {
			assert.Equal(t, Applied, r.Outcome, "%s: %s", name, r.Detail)
		}
	}
}

// TestHarmlessVariantsOfAPage: however the numbers are written, all users are read, and nobody else.
func TestHarmlessVariantsOfAPage(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		pages []string
		users int
	}{
		"numbers as texts":             {[]string{`{"Users":[{"LOGIN_ID":"a"}],"TotalUsers":"2","FetchedRecords":"1"}`, `{"Users":[{"LOGIN_ID":"b"}],"TotalUsers":"2"}`}, 2},
		"texts with blanks":            {[]string{`{"Users":[{"LOGIN_ID":"a"}],"TotalUsers":" 2 "}`, `{"Users":[{"LOGIN_ID":"b"}],"TotalUsers":" 2 "}`}, 2},
		"numbers with a point":         {[]string{`{"Users":[{"LOGIN_ID":"a"}],"TotalUsers":2.0}`, `{"Users":[{"LOGIN_ID":"b"}],"TotalUsers":2.0}`}, 2},
		"numbers with an exponent":     {[]string{`{"Users":[{"LOGIN_ID":"a"}],"TotalUsers":2E0}`, `{"Users":[{"LOGIN_ID":"b"}],"TotalUsers":0.2e1}`}, 2},
		"nobody, with a point":         {[]string{`{"Users":null,"TotalUsers":0.0}`}, 0},
		"nobody, without a list":       {[]string{`{"FetchedRecords":0}`}, 0},
		"names in other cases":         {[]string{`{"USERS":[{"login_id":"a"}],"totalusers":2}`, `{"users":[{"Login_Id":"b"}],"TOTALUSERS":2}`}, 2},
		"a mark, blank lines, further": {[]string{"\ufeff\r\n{\"x\":{\"Users\":[]},\"Users\":[{\"LOGIN_ID\":\"a\"}],\"TotalUsers\":1}\r\n"}, 1},
		"the total after the users":    {[]string{`{"TotalUsers":2,"Users":[{"LOGIN_ID":"a"}]}`, `{"Users":[{"LOGIN_ID":"b"}],"TotalUsers":2}`}, 2},
		"a total that is no number":    {[]string{`{"Users":[{"LOGIN_ID":"a"}],"TotalUsers":"many"}`}, 1},
		"a total without end":          {[]string{`{"Users":[{"LOGIN_ID":"a"}],"TotalUsers":1e999}`, `{"Users":[],"TotalUsers":1e999}`}, 1},
	} {
		next := 0
		f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
			answer(200, c.pages[min(next, len(c.pages)-1)])(w, r)
			next++
		})
		names, err := collect(t, newClient(t, f.server.URL), Query{PageSize: 10})
		require.NoError(t, err, name)
		assert.Len(t, names, c.users, name)
		assert.Equal(t, len(c.pages), next, "%s: calls", name)
	}
}

// TestAnswersBeyondWhatWasAskedFor: some KB of gzip that would unpack to millions of users are refused soon, without
// filling the memory.
func TestAnswersBeyondWhatWasAskedFor(t *testing.T) { // not in parallel: it measures the memory
	pack := func(text string) []byte {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write([]byte(text))
		_ = w.Close()

		return packed.Bytes()
	}

	// A gzip file may have many members, so one that was packed once can be used many times.
	bomb := func(open, entry, closing string) []byte {
		chunk := pack(strings.Repeat(entry, 1<<14))
		return slices.Concat(pack(open), bytes.Repeat(chunk, 1<<10), pack(closing))
	}
	for name, body := range map[string][]byte{
		"empty users":      bomb(`{"Users":[`, `{},`, `{}],"TotalUsers":1}`),
		"something else":   bomb(`{"Junk":[`, `{},`, `{}],"Users":[],"TotalUsers":0}`),
		"one long text":    bomb(`{"Users":[{"LOGIN_ID":"`, `x`, `"}],"TotalUsers":1}`),
		"empty entries":    bomb(`[`, `{},`, `{}]`),
		"the same user":    bomb(`[`, `{"LOGIN_ID":"alice.ng@example.org",":SyncStatus":"OK"},`, `{}]`),
		"spaces":           bomb(``, ` `, `[]`),
		"a nested bracket": bomb(``, `[`, ``),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = w.Write(body)
			})
			c := newClient(t, f.server.URL)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)

			began := time.Now()
			_, err := c.UpdateDutyStatus(t.Context(), twoUsers)
			assert.Equal(t, Outage, callError(t, err).Kind)
			err = c.Ping(t.Context())
			assert.Equal(t, Outage, callError(t, err).Kind)
			assert.Less(t, time.Since(began), 10*time.Second)
			runtime.ReadMemStats(&after)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))
		})
	}
}

// TestAWebPageIsNamed: the page of a login or of a firewall may arrive instead of an answer.
func TestAWebPageIsNamed(t *testing.T) {
	t.Parallel()

	const page = "\uFEFF\n<!DOCTYPE html><HTML><head><title>\n Sign in &amp; wait</title></head><body>s3cr%22s</body></html>"
	for status, want := range map[int]Kind{200: Outage, 403: Forbidden, 503: Outage} {
		f := newFake(t, answer(status, page))
		_, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), twoUsers)
		call := callError(t, err)
		assert.Equal(t, want, call.Kind)
		assert.Contains(t, call.Detail, "a web page")
		assert.Contains(t, call.Detail, "Sign in & wait")
		assert.NotContains(t, call.Detail, "body")
	}
}

// TestAtHocsWordsDoNotHoldTheToken: what AtHoc says about a user is stored and shown.
func TestAtHocsWordsDoNotHoldTheToken(t *testing.T) {
	t.Parallel()
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		answer(200, `[{"LOGIN_ID":"alice.ng@example.org",":SyncStatus":"Error",":SyncDetails":"invalid value `+token+` of the attribute"}]`)(w, r)
	})
	f.valid, f.token = "opaque-token-4711", answer(200, `{"access_token":"opaque-token-4711","expires_in":3600,"token_type":"Bearer"}`)
	results, err := newClient(t, f.server.URL).UpdateDutyStatus(t.Context(), twoUsers)
	require.NoError(t, err)
	assert.Contains(t, results[0].Detail, "[hidden]")
	assert.NotContains(t, results[0].Detail, "4711")
}

// TestAttributesThatNobodyAskedFor: a page may be as large as that of a thousand users. If it holds one user with as
// many attributes as fit, only those that were asked for are kept.
func TestAttributesThatNobodyAskedFor(t *testing.T) { // not in parallel: it measures the memory
	var page strings.Builder
	page.WriteString(`{"TotalUsers":1,"Users":[{"LOGIN_ID":"a@example.org","login_id":"b"`)

	for i := range 320_000 {
		fmt.Fprintf(&page, `,"%d":""`, i)
	}

	page.WriteString(`}]}`)
	f := newFake(t, answer(200, page.String()))
	c := newClient(t, f.server.URL)
	var before, during runtime.MemStats

	runtime.GC()
	runtime.ReadMemStats(&before)

	for got, err := range c.SearchUsers(t.Context(), Query{}) {
		require.NoError(t, err)
		runtime.GC()
		runtime.ReadMemStats(&during)
		assert.Equal(t, []User{{"LOGIN_ID": "a@example.org", "login_id": "b"}}, got.Users)

		break
	}

	assert.Less(t, int64(during.HeapAlloc)-int64(before.HeapAlloc), int64(1<<20))
}
