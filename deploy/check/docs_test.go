package check

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the root of the source tree.
const root = "../.."

// documents returns all pages of the source tree, by path from its root.
func documents(t *testing.T) map[string]string {
	t.Helper()

	pages := map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}

		name, _ := filepath.Rel(root, path)
		if d.IsDir() && (name == "bin" || name == "data" || strings.HasPrefix(d.Name(), ".") && name != "." && name != ".github") {
			return fs.SkipDir
		}

		if filepath.Ext(path) == ".md" {
			text, err := os.ReadFile(path)
			pages[name] = string(text)
			return err
		}

		return nil
	}))
	require.Contains(t, pages, "CONTRIBUTING.md")
	require.Contains(t, pages, "docs/testing.md")

	return pages
}

// exists reports whether a path exists. The path may be a pattern.
func exists(path string) bool {
	found, err := filepath.Glob(path)
	return err == nil && len(found) > 0
}

// TestLinksLeadSomewhere checks that every link of a page within the source tree leads to something that exists.
func TestLinksLeadSomewhere(t *testing.T) {
	found := 0
	for page, text := range documents(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(text, -1) {
			target, _, _ := strings.Cut(m[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}

			found++

			if !exists(filepath.Join(root, filepath.Dir(page), target)) {
				t.Errorf("%s: there is no %s", page, target)
			}
		}
	}

	require.Greater(t, found, 20)
}

// made matches paths that exist only once something has been built, or that the user makes.
var made = regexp.MustCompile(`^(bin|deploy/(try|secrets|\.env|kubernetes/overlays/production)|deploy/nats/(creds|tls|keys\.conf))(/|$)`)

// TestPathsAreThere checks that every path of the source tree that a page names exists.
func TestPathsAreThere(t *testing.T) {
	found := 0
	path := regexp.MustCompile("(?:^|[\\s`(])(?:\\./)?((?:services|shared|cmd|e2e|deploy|docs|\\.ci|\\.github)/[\\w@.*/-]*[\\w*])")
	for page, text := range documents(t) {
		for _, m := range path.FindAllStringSubmatch(text, -1) {
			name := strings.TrimSuffix(m[1], "/...")
			if made.MatchString(name) {
				continue
			}

			found++

			if !exists(filepath.Join(root, name)) {
				t.Errorf("%s: there is no %s", page, name)
			}
		}
	}

	require.Greater(t, found, 60)
}

// TestMakeTargetsAreThere checks that every make target that a page names exists.
func TestMakeTargetsAreThere(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	require.NoError(t, err)

	found := 0
	for page, text := range documents(t) {
		for _, m := range regexp.MustCompile("(?m)(?:`|^ {4})make ([a-z][a-z-]*)").FindAllStringSubmatch(text, -1) {
			found++

			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s: make has no target %s", page, m[1])
			}
		}
	}

	require.Greater(t, found, 40)
}

// TestTestsAreThere checks that every test that a page names exists.
func TestTestsAreThere(t *testing.T) {
	tests := map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}

		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(string(text), -1) {
			tests[m[1]] = true
		}

		return err
	}))

	found := 0
	for page, text := range documents(t) {
		for _, m := range regexp.MustCompile(`\b(Test[A-Z]\w+)\b`).FindAllStringSubmatch(text, -1) {
			found++

			if m[1] != "TestName" && !tests[m[1]] {
				t.Errorf("%s: there is no test %s", page, m[1])
			}
		}
	}

	require.Greater(t, found, 8)
}

// TestFunctionsAreThere checks that whatever a page says is in a Go file is declared there.
func TestFunctionsAreThere(t *testing.T) {
	found := 0
	for page, text := range documents(t) {
		for _, m := range regexp.MustCompile("`(\\w+)`(?: and `(\\w+)`)? in `([\\w/.]+\\.go)`").FindAllStringSubmatch(text, -1) {
			file, err := os.ReadFile(filepath.Join(root, m[3]))
			require.NoError(t, err, page)

			for _, name := range m[1:3] {
				if name == "" {
					continue
				}

				found++

				if !regexp.MustCompile(`(?m)^(func (\([^)]*\) )?|type |var |const |\t)` + name + `\b`).Match(file) {
					t.Errorf("%s: there is no %s in %s", page, name, m[3])
				}
			}
		}
	}

	require.Greater(t, found, 6)
}
