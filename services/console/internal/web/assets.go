package web

// The style sheet, scripts and images of pages. Their names hold the hash of the content, so that browsers may keep
// them forever.

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"
)

// The scripts of htmx 4.0.1, as npm has them (htmx.org, dist/htmx.min.js and dist/ext/hx-sse.min.js), lie here with
// their licence.
//
//go:embed assets
var assetFiles embed.FS

// assets has the files by the names under which they are served, and those names by the plain ones.
type assets struct {
	content map[string][]byte
	names   map[string]string
}

// parts lists the files that make up each asset. htmx starts as soon as its script has run, so its extensions have to
// be in the same asset.
var parts = map[string][]string{
	"console.css": {"console.css"}, "console.js": {"console.js"}, "live.js": {"htmx.min.js", "hx-sse.min.js", "trusted.js"},
	"ok.svg": {"ok.svg"}, "warning.svg": {"warning.svg"}, "problem.svg": {"problem.svg"}, "dead.svg": {"dead.svg"},
}

func loadAssets() (assets, error) {
	a := assets{map[string][]byte{}, map[string]string{}}
	for name, files := range parts {
		var b bytes.Buffer
		for _, file := range files {
			content, err := assetFiles.ReadFile("assets/" + file)
			if err != nil {
				return a, fmt.Errorf("read an asset: %w", err)
			}

			b.Write(content)
			b.WriteByte('\n')
		}

		sum := sha256.Sum256(b.Bytes())
		base, ext, _ := strings.Cut(name, ".")
		hashed := base + "." + hex.EncodeToString(sum[:6]) + "." + ext
		a.names[name], a.content[hashed] = hashed, b.Bytes()
	}

	return a, nil
}

// path returns the address of an asset.
func (a assets) path(name string) (string, error) {
	hashed, known := a.names[name]
	if !known {
		return "", fmt.Errorf("there is no asset %s", name)
	}

	return "/assets/" + hashed, nil
}

var assetTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

func (a assets) serve(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	content, known := a.content[name]
	if !known {
		http.NotFound(w, r)
		return
	}

	w.Header().Set("Content-Type", assetTypes[path.Ext(name)])
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}
