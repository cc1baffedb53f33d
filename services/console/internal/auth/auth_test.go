package auth

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHeaders checks that every answer has the headers, even a refusal.
func TestHeaders(t *testing.T) {
	t.Parallel()

	d := open(t, Config{Mode: ModeFile, UsersFile: usersFile(t), URL: "https://console.example.org"})
	for _, w := range []*httptest.ResponseRecorder{
		d.get("/nobody"), d.get("/viewer"), d.get("/nothing"), d.get("/login"), d.send("PUT", "/nobody", nil), d.get("/nobody", "Host", "evil.example.org"),
		d.send("POST", "/operator", url.Values{}, "Origin", "https://evil.example.org"),
	} {
		require.Equal(t, "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "+
			"frame-ancestors 'none'; require-trusted-types-for 'script'", w.Header().Get("Content-Security-Policy"))
		require.Equal(t, "no-referrer", w.Header().Get("Referrer-Policy"))
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		require.Equal(t, "max-age=31536000", w.Header().Get("Strict-Transport-Security"))
	}
}

// TestOtherSites checks that requests of other sites change nothing, whether or not a proxy has changed Host.
func TestOtherSites(t *testing.T) {
	t.Parallel()

	const url1 = "https://console.example.org"
	for _, c := range []struct {
		about, consoleURL string
		method            string
		headers           []string
		code              int
	}{
		{"this site", "", "POST", nil, 200},
		{"another site", "", "POST", []string{"Origin", "https://evil.example.org"}, 403},
		{"another port", "", "POST", []string{"Origin", "http://127.0.0.1:1"}, 403},
		{"a page without an origin", "", "POST", []string{"Origin", "null"}, 403},
		{"as the browser says", "", "POST", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"a neighbour", "", "POST", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"this site, as the browser says", "", "POST", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"looking", "", "GET", []string{"Origin", "https://evil.example.org", "Sec-Fetch-Site", "cross-site"}, 200},
		{"behind a proxy that changes Host", url1, "POST", []string{"Origin", url1, "Sec-Fetch-Site", "cross-site"}, 200},
		{"behind a proxy that changes Host, without CONSOLE_URL", "", "POST", []string{"Origin", url1}, 403},
		{"another site, behind a proxy", url1, "POST", []string{"Origin", "https://evil.example.org", "Sec-Fetch-Site", "cross-site"}, 403},
		{"the same name without TLS", url1, "POST", []string{"Origin", "http://console.example.org"}, 403},
		{"a method that changes", "", "DELETE", nil, 405},
		{"a method that traces", "", "TRACE", nil, 405},
		{"a method that asks", "", "OPTIONS", []string{"Origin", "https://evil.example.org"}, 405},
	} {
		d := open(t, Config{Mode: ModeFile, UsersFile: usersFile(t), URL: c.consoleURL})
		d.in("anna")
		require.Equal(t, c.code, d.send(c.method, "/approver", url.Values{}, c.headers...).Code, c.about)
	}
}

// TestNamesThatLeadHere checks that a request is refused if its host is somebody else's name that leads to this
// machine, so that no page of that site can read this console's.
func TestNamesThatLeadHere(t *testing.T) {
	t.Parallel()

	for host, code := range map[string]int{
		"127.0.0.1:8470": 200, "localhost:8470": 200, "LOCALHOST": 200, "[::1]:8470": 200, "[::1]": 200, "127.0.0.9:1": 200, "console.example.org": 200,
		"evil.example.org": 421, "evil.example.org:8470": 421, "localhost.evil.example.org": 421, "127.0.0.1.evil.example.org:8470": 421, "": 421,
		"console.example.org.evil.example.org": 421, "10.0.0.1:8470": 421,
	} {
		d := open(t, Config{Mode: ModeFile, UsersFile: usersFile(t), URL: "https://console.example.org"})
		require.Equal(t, code, d.get("/nobody", "Host", host).Code, host)
	}
}

// TestFormsAreBounded checks that forms are limited in size, and that a huge form is not read to its end.
func TestFormsAreBounded(t *testing.T) {
	t.Parallel()
	d := file(t)
	var err error
	h := d.auth.Protect(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, err = io.Copy(io.Discard, r.Body) }))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, d.origin+"/", strings.NewReader(strings.Repeat("x", maxBody+1)))
	h.ServeHTTP(httptest.NewRecorder(), r)
	require.ErrorContains(t, err, "too large")
	require.Equal(t, http.StatusUnauthorized, d.logIn("olga", strings.Repeat("x", maxBody), "/").Code)
	require.Equal(t, http.StatusUnauthorized, d.logIn("olga", strings.Repeat("x", 2000), "/").Code)
}
