package main

import (
	"cmp"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/bobosync/commands"
	"bobosync/cmd/bobosync/settings"
	"bobosync/services/console"
	"bobosync/services/ingest"
	"bobosync/services/janitor"
	"bobosync/services/publisher"
	"bobosync/services/resolver"
	"bobosync/shared/check"
)

// variables collects the names of all environment variables that a settings struct reads.
func variables(t reflect.Type, into map[string]bool) {
	for field := range t.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("env"), ","); name != "" {
			into[name] = true
			continue
		}

		if field.Type.Kind() == reflect.Struct {
			variables(field.Type, into)
		}
	}
}

// TestEnvExampleNamesEveryVariable checks that .env.example has each variable that a program reads, and no other.
func TestEnvExampleNamesEveryVariable(t *testing.T) {
	read := map[string]bool{}
	variables(reflect.TypeFor[settings.All](), read)
	require.Contains(t, read, "CSV_DIRECTORY")
	delete(read, "USERNAME") // the older name of APIUSER, mentioned in the text

	text, err := os.ReadFile("../../.env.example")
	require.NoError(t, err)

	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(?:# )?([A-Z][A-Z_]+)=`).FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = true
	}

	require.Equal(t, read, listed)
	require.Contains(t, string(text), "USERNAME")
}

// pages returns the pages that users read, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()

	paths, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)

	texts := map[string]string{}
	for _, path := range append(paths, "../../README.md") {
		text, err := os.ReadFile(path)
		require.NoError(t, err)

		texts[path] = string(text)
	}

	return texts
}

// TestDocsNameCommandsThatExist checks that each bobosync command with its flags, and each make target, that the
// README and the docs name exists.
func TestDocsNameCommandsThatExist(t *testing.T) {
	root := wholeTree()
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)

	flags := map[string]bool{}
	commands.EachCommand(root, func(cmd *cobra.Command) {
		cmd.InitDefaultHelpFlag()
		cmd.Flags().VisitAll(func(f *pflag.Flag) { flags["--"+f.Name] = true })
		cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { flags["--"+f.Name] = true })
	})

	found := 0
	for path, text := range pages(t) {
		code := codeOf(text)
		for _, m := range regexp.MustCompile(`(?m)(?:^|[\s(/"])bobosync ((?:[a-z]+ ?)+)([^\n]*)`).FindAllStringSubmatch(code, -1) {
			words := strings.TrimPrefix(m[1], "bobosync ") // docker compose exec bobosync bobosync status
			cmd, rest, err := root.Find(strings.Fields(words))
			require.NoError(t, err, "%s: bobosync %s", path, words)
			require.NotEqual(t, root, cmd, "%s: bobosync %s", path, words)
			require.Empty(t, slices.DeleteFunc(rest, func(arg string) bool { return takesArgs(cmd) }), "%s: bobosync %s", path, words)

			for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(strings.Split(m[2], "#")[0], -1) {
				require.NotNil(t, cmd.Flag(flag[1]), "%s: bobosync %s --%s", path, words, flag[1])
			}

			found++
		}

		for _, m := range regexp.MustCompile(`(?m)^(--[a-z-]+)`).FindAllStringSubmatch(code, -1) {
			require.True(t, flags[m[1]], "%s: no command has the flag %s", path, m[1])

			found++
		}

		for _, m := range regexp.MustCompile(`(?m)^make ([a-z-]+)`).FindAllStringSubmatch(code, -1) {
			require.Contains(t, string(makefile), "\n"+m[1]+":", "%s: make %s", path, m[1])

			found++
		}
	}

	require.Greater(t, found, 50)
}

// foreign matches names in capitals that are not settings of the services, but of neighbouring systems and tools.
var foreign = regexp.MustCompile(`^(LOGIN_ID|USER_ID|CAP_[A-Z_]+|NO_COLOR|GO[A-Z]+|OTEL_[A-Z_]+|ATHOCSIM_[A-Z_]+|KV_[A-Z_]+|NKEY_[A-Z_]+|XDG_[A-Z_]+|COMPOSE_[A-Z_]+|BOBOSYNC_[A-Z_]+|NATS_HOSTS|NATS_ACCOUNTS|NATS_KEYS)$`)

// TestDocsNameVariablesThatExist checks that each variable in the README and the docs is one that a program reads, and
// that the docs have each variable that is read.
func TestDocsNameVariablesThatExist(t *testing.T) {
	read := map[string]bool{}
	variables(reflect.TypeFor[settings.All](), read)

	named := map[string]bool{}
	for path, text := range pages(t) {
		for _, name := range regexp.MustCompile(`\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b`).FindAllString(codeOf(text), -1) {
			known := read[name] || read[strings.TrimSuffix(name, "_FILE")] || foreign.MatchString(name)
			require.True(t, known, "%s: no program reads %s", path, name)
		}

		for _, name := range regexp.MustCompile("`([A-Z][A-Z0-9_]+)`").FindAllStringSubmatch(text, -1) {
			named[name[1]] = true
		}
	}

	for name := range read {
		require.True(t, named[name], "the docs do not name %s", name)
	}
}

var update = flag.Bool("update", false, "write the pages that are made from the program")

// TestDocsNameTestsThatExist checks that each test that a page names as its evidence exists.
func TestDocsNameTestsThatExist(t *testing.T) {
	found := map[string]bool{}
	require.NoError(t, filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}

		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)`).FindAllSubmatch(text, -1) {
			found[string(m[1])] = true
		}

		return err
	}))

	for path, text := range pages(t) {
		for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(text, -1) {
			require.True(t, found[name], "%s names %s, which is no test", path, name)
		}
	}
}

// TestCommandsPage checks that docs/commands.md describes each command, flag and variable exactly as the program does,
// and no other. Write it again with: go test ./cmd/bobosync -run TestCommandsPage -update
func TestCommandsPage(t *testing.T) {
	const path = "../../docs/commands.md"
	page := commandsPage(wholeTree())
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(page), 0o644))
	}

	have, err := os.ReadFile(path)
	require.NoError(t, err)

	want, got := strings.Split(page, "\n"), strings.Split(string(have), "\n")
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			t.Fatalf("line %d is not what the program says; write the page again: go test ./cmd/bobosync -run TestCommandsPage -update", i+1)
		}
	}
}

// TestEveryCommandHelps checks that the help of each command says what the command does and shows how to call it.
func TestEveryCommandHelps(t *testing.T) {
	root := wholeTree()
	commands.EachCommand(root, func(cmd *cobra.Command) {
		if cmd == root || ownByCobra(cmd) {
			return
		}

		require.NotEmpty(t, cmd.Short, cmd.CommandPath())

		if takesArgs(cmd) || cmd.HasLocalFlags() { // otherwise its name is the example
			require.Contains(t, cmd.Example, cmd.CommandPath(), "%s: no example", cmd.CommandPath())
		}

		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			require.NotEmpty(t, f.Usage, "%s --%s", cmd.CommandPath(), f.Name)
		})
	})
}

// wholeTree returns the root command with the commands that cobra adds.
func wholeTree() *cobra.Command {
	root := rootCommand()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	return root
}

// ownByCobra reports whether a command was made by cobra.
func ownByCobra(cmd *cobra.Command) bool {
	for c := cmd; c != nil; c = c.Parent() {
		if c.Name() == "completion" || c.Name() == "help" {
			return true
		}
	}

	return false
}

const pageHead = `# Commands

This page is made from the program itself, and a test keeps it true; ` + "`bobosync help`" + ` says the same. Each command takes ` + "`--help`" + `,
and ` + "`--env file`" + ` to read its settings from another file than ` + "`.env`" + `.

**Something is wrong? Begin with ` + "`bobosync status`" + `.**

The commands that look and repair ask the services over the broker: that of ` + "`NATS_URL`" + `, or the one inside a ` + "`bobosync run`" + ` with the
same ` + "`DATA_DIRECTORY`" + `. They work wherever the broker can be reached, and need no other setting.

Exit status: 0 done, 1 it failed, 2 it was called wrongly or a setting is wrong. ` + "`bobosync status`" + ` and ` + "`bobosync check`" + `
have their own: 0 well, 1 warnings, 2 problems.

` + "`bobosync completion bash`" + ` (or zsh, fish, powershell) prints what lets the shell complete commands, flags, and names of files,
replays and dead letters; its ` + "`--help`" + ` says where to put it.

The demo is a program of its own: ` + "`make demo`" + `, or ` + "`bin/demo --help`" + `.
`

// commandsPage returns the reference of all commands and variables.
func commandsPage(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(pageHead)

	for _, group := range root.Groups() {
		fmt.Fprintf(&b, "\n## %s\n", strings.TrimSuffix(group.Title, ":"))

		for _, cmd := range root.Commands() {
			if cmd.GroupID == group.ID {
				commands.EachCommand(cmd, func(cmd *cobra.Command) { describeCommand(&b, cmd) })
			}
		}
	}

	fmt.Fprint(&b, "\n## Variables\n\n`.env.example` explains each. Any variable can come from a file: add `_FILE` to its name.\n\n"+
		"| variable | default | read by |\n| --- | --- | --- |\n")

	for _, row := range variableRows() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", row[0], row[1], row[2])
	}

	return b.String()
}

func describeCommand(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n### %s\n\n", cmd.CommandPath())

	if cmd.HasSubCommands() && !cmd.HasLocalFlags() {
		fmt.Fprintf(b, "%s\n", plain(cmp.Or(cmd.Long, cmd.Short)))
		return
	}

	fmt.Fprintf(b, "    %s\n\n%s\n", cmd.UseLine(), plain(cmp.Or(cmd.Long, cmd.Short)))
	var flags []string
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}

		value, usage := pflag.UnquoteUsage(f)
		name := strings.TrimSpace("--" + f.Name + " " + value)
		if !slices.Contains([]string{"", "false", "[]"}, f.DefValue) {
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}

		flags = append(flags, fmt.Sprintf("| `%s` | %s |\n", name, usage))
	})

	if len(flags) > 0 {
		fmt.Fprintf(b, "\n| flag | |\n| --- | --- |\n%s", strings.Join(flags, ""))
	}

	if cmd.Example != "" {
		b.WriteByte('\n')
	}

	for line := range strings.Lines(cmd.Example) {
		fmt.Fprintf(b, "    %s\n", strings.TrimSpace(line))
	}
}

// plain turns a help text into Markdown: indented text becomes a block of code.
func plain(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if code, indented := strings.CutPrefix(line, "  "); indented {
			line = "    " + code
		}

		lines = append(lines, line)
	}

	return strings.Join(lines, "\n")
}

// variableRows lists each variable with its default and its readers.
func variableRows() (rows [][3]string) {
	defaults := map[string]string{}
	defaultsOf(reflect.TypeFor[settings.All](), defaults)

	services := []struct {
		name   string
		config reflect.Type
	}{
		{"ingest", reflect.TypeFor[ingest.Config]()}, {"resolver", reflect.TypeFor[resolver.Config]()},
		{"publisher", reflect.TypeFor[publisher.Config]()}, {"janitor", reflect.TypeFor[janitor.Config]()}, {"console", reflect.TypeFor[console.Config]()},
	}
	for _, name := range slices.Sorted(maps.Keys(defaults)) {
		var by []string
		for _, s := range services {
			read := map[string]bool{}
			if variables(s.config, read); read[name] {
				by = append(by, s.name)
			}
		}

		who := strings.Join(by, ", ")
		if len(by) == 0 || len(by) == len(services) {
			who = "all"
		}

		monitor := map[string]bool{}
		if variables(reflect.TypeFor[check.Monitor](), monitor); monitor[name] {
			who = "`bobosync check`"
		}

		rows = append(rows, [3]string{name, defaults[name], who})
	}

	return rows
}

// defaultsOf collects the defaults of all environment variables that a settings struct reads.
func defaultsOf(t reflect.Type, into map[string]string) {
	for field := range t.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("env"), ",")
		switch {
		case name != "":
			_, value, _ := strings.Cut(options, "default=")
			if value != "" {
				value = "`" + value + "`"
			}

			into[name] = value
		case field.Type.Kind() == reflect.Struct:
			defaultsOf(field.Type, into)
		}
	}
}

func takesArgs(cmd *cobra.Command) bool { return cmd.ValidateArgs([]string{"x"}) == nil }

// codeOf returns the code in a page: indented lines, fenced blocks, and what is in back quotes.
func codeOf(page string) string {
	var code []string
	fenced := false
	for line := range strings.Lines(page) {
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			fenced = !fenced
		case fenced, strings.HasPrefix(line, "    "):
			code = append(code, strings.TrimSpace(line))
		default:
			for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(line, -1) {
				code = append(code, m[1])
			}
		}
	}

	return strings.Join(code, "\n")
}
