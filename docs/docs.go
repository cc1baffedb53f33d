// Package docs holds the pages that the console shows as its help, so that they can be read even if everything else
// is down.
package docs

import "embed"

// Pages holds the pages as they are written, in Markdown.
//
//go:embed *.md
var Pages embed.FS
