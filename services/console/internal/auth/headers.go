package auth

// The headers of every answer.

import "net/http"

// contentPolicy lets a page load only what the console itself serves, and run nothing that is written in the page.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// setHeaders sets the headers of every answer; secure says that browsers connect over TLS. Assets that have a hash in
// their name set another Cache-Control.
func setHeaders(h http.Header, secure bool) {
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")

	if secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}
