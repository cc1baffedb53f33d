package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// readText returns the text of a file of the project, given by its path from the root.
func readText(t *testing.T, path string) string {
	t.Helper()

	text, err := os.ReadFile(filepath.Join("../..", path))
	require.NoError(t, err)

	return string(text)
}

const runbookPath = "docs/runbook.md"

// TestRunbookQuotesThePrograms checks that a program says each text in double quotes.
func TestRunbookQuotesThePrograms(t *testing.T) {
	said := programTexts(t)
	quotes := quoted(readText(t, runbookPath))
	require.Greater(t, len(quotes), 150)

	for _, quote := range quotes {
		if !strings.Contains(said, quote) {
			t.Errorf("no program says %q", quote)
		}
	}
}

// quoted lists the texts in double quotes, except in code.
func quoted(page string) (quotes []string) {
	page = regexp.MustCompile("`[^`\n]*`").ReplaceAllString(page, "")
	page = regexp.MustCompile(`\n *`).ReplaceAllString(page, " ")
	for _, m := range regexp.MustCompile(`"([^"]*)"`).FindAllStringSubmatch(page, -1) {
		quotes = append(quotes, m[1])
	}

	return quotes
}

// programTexts returns all constant texts of the programs, one a line; texts that are written in parts are joined.
func programTexts(t *testing.T) string {
	t.Helper()

	var said strings.Builder
	for _, root := range []string{"../../services", "../../shared", "../../cmd/bobosync"} {
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}

			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}

			ast.Inspect(file, func(n ast.Node) bool {
				expr, isExpr := n.(ast.Expr)
				if !isExpr {
					return true
				}

				text, constant := constantText(expr)
				if constant {
					said.WriteString(text + "\n")
				}

				return !constant
			})

			return nil
		})
		require.NoError(t, err)
	}

	return said.String()
}

// constantText returns the value of a string literal, or of a sum of them.
func constantText(expr ast.Expr) (text string, constant bool) {
	switch e := expr.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, e.Kind == token.STRING && err == nil
	case *ast.BinaryExpr:
		left, isLeft := constantText(e.X)
		right, isRight := constantText(e.Y)
		return left + right, e.Op == token.ADD && isLeft && isRight
	}

	return "", false
}

// TestRunbookHasEveryFinding checks that each cause that bobosync status knows leads to a section.
func TestRunbookHasEveryFinding(t *testing.T) {
	_, section, _ := strings.Cut(readText(t, runbookPath), "\n## What status says\n")
	section, _, _ = strings.Cut(section, "\n## ")

	causes := []string{"no_ingest", "no_resolver", "no_publisher", "no_janitor"}
	for _, m := range regexp.MustCompile(`(?m)^\tCause\w+ += "(\w+)"`).FindAllStringSubmatch(readText(t, "shared/verdict/causes.go"), -1) {
		causes = append(causes, m[1])
	}

	require.Greater(t, len(causes), 20)

	for _, cause := range causes {
		row := regexp.MustCompile("(?m)^\\|.*`" + cause + "`.*\\(#[a-z-]+\\) \\|$")
		require.Regexp(t, row, section, "no row for %s", cause)
	}
}

// TestRunbookNamesMetricsAndAlertsThatExist checks the names of metrics and alerts, so that a search for them
// succeeds.
func TestRunbookNamesMetricsAndAlertsThatExist(t *testing.T) {
	page, metrics, rules := readText(t, runbookPath), readText(t, "docs/metrics.md"), readText(t, rulesPath)
	found := 0
	for _, name := range regexp.MustCompile(`\bbobosync_[a-z_]+`).FindAllString(page, -1) {
		require.True(t, strings.Contains(metrics, "| `"+name+"` |"), "there is no metric %s", name)

		found++
	}

	for _, name := range regexp.MustCompile(`\bBobosync[A-Z]\w+`).FindAllString(page, -1) {
		require.True(t, strings.Contains(rules, "- alert: "+name+"\n"), "there is no alert %s", name)

		found++
	}

	require.Greater(t, found, 20)
}

// TestOldGuideIsAccountedFor checks that each row of the table has a command, or says why there is nothing to do.
func TestOldGuideIsAccountedFor(t *testing.T) {
	_, table, ok := strings.Cut(readText(t, runbookPath), "\n## The old guide, line by line\n")
	require.True(t, ok)

	rows := 0
	command := regexp.MustCompile("^`bobosync [a-z][^`]*`$")
	reason := regexp.MustCompile(`^nothing to do: .{10,}$`)
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| then |") || strings.HasPrefix(line, "| --- |") {
			continue
		}

		cells := strings.Split(strings.Trim(line, "| "), " | ")
		require.Len(t, cells, 3, line)
		require.NotEmpty(t, cells[1], line)
		require.True(t, command.MatchString(cells[2]) || reason.MatchString(cells[2]), line)

		rows++
	}

	require.GreaterOrEqual(t, rows, 200)
}

// TestRunbookLinks checks that each link leads to an existing heading.
func TestRunbookLinks(t *testing.T) {
	page := readText(t, runbookPath)
	links := regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(page, -1)
	require.Greater(t, len(links), 50)

	of := map[string]map[string]bool{"": anchors(page)} // by page
	for _, m := range links {
		if of[m[1]] == nil {
			of[m[1]] = anchors(readText(t, filepath.Join("docs", m[1])))
		}

		if m[2] != "" {
			require.Contains(t, of[m[1]], m[2], m[0])
		}
	}
}

var (
	heading   = regexp.MustCompile(`(?m)^#+ (.*)$`)
	notLinked = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors returns the names by which links refer to a page's headings.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		kept := notLinked.ReplaceAllString(strings.ToLower(m[1]), "")
		found[strings.ReplaceAll(kept, " ", "-")] = true
	}

	return found
}

const rulesPath = "deploy/prometheus/bobosync.rules.yaml"

// TestAlertsLeadToTheRunbook checks that each alert names an existing section, and a command that can be run as it is
// written.
func TestAlertsLeadToTheRunbook(t *testing.T) {
	rules := readText(t, rulesPath)
	alerts := strings.Split(rules, "- alert: ")[1:]
	require.Greater(t, len(alerts), 30)

	sections := anchors(readText(t, runbookPath))
	annotation := func(alert, name string) string {
		m := regexp.MustCompile(`(?m)^ +` + name + `: (.+)$`).FindStringSubmatch(alert)
		require.NotNil(t, m, "no %s: %s", name, alert)
		return m[1]
	}
	for _, alert := range alerts {
		section, isSection := strings.CutPrefix(annotation(alert, "runbook"), runbookPath+"#")
		require.True(t, isSection, alert)
		require.Contains(t, sections, section, alert)
		requireCommand(t, annotation(alert, "command"))
		annotation(alert, "summary")
		annotation(alert, "description")
	}
}

// requireCommand fails unless the program accepts a command line.
func requireCommand(t *testing.T, line string) {
	t.Helper()

	words := strings.Fields(line)
	require.Equal(t, "bobosync", words[0], line)

	root := wholeTree()
	cmd, rest, err := root.Find(words[1:])
	require.NoError(t, err, line)
	require.True(t, cmd.Runnable() && cmd != root, line)
	require.NoError(t, cmd.ParseFlags(rest), line)
	require.NoError(t, cobra.NoArgs(cmd, cmd.Flags().Args()), line)
}
