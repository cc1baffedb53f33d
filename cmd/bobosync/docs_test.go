package main

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// variables collects the names of all variables that a settings struct reads.
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

// TestEnvExampleNamesEveryVariable: .env.example has each variable that a program reads, and no other.
func TestEnvExampleNamesEveryVariable(t *testing.T) {
	read := map[string]bool{}
	variables(reflect.TypeFor[settings](), read)
	require.Contains(t, read, "CSV_DIRECTORY")
	delete(read, "USERNAME") // the older name of APIUSER, told of in the text

	text, err := os.ReadFile("../../.env.example")
	require.NoError(t, err)
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(?:# )?([A-Z][A-Z_]+)=`).FindAllStringSubmatch(string(text), -1) {
		listed[m[1]] = true
	}
	require.Equal(t, read, listed)
	require.Contains(t, string(text), "USERNAME")
}

// TestDocsNameCommandsThatExist: each bobosync command and each make target in the README and the docs exists.
func TestDocsNameCommandsThatExist(t *testing.T) {
	root := rootCommand()
	makefile, err := os.ReadFile("../../Makefile")
	require.NoError(t, err)
	found := 0
	for _, path := range []string{"../../README.md", "../../docs/architecture.md"} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(`bobosync ((?:[a-z]+ ?)+)([^\n]*)`).FindAllStringSubmatch(codeOf(string(text)), -1) {
			cmd, rest, err := root.Find(strings.Fields(m[1]))
			require.NoError(t, err, "%s: bobosync %s", path, m[1])
			require.NotEqual(t, root, cmd, "%s: bobosync %s", path, m[1])
			require.Empty(t, slices.DeleteFunc(rest, func(arg string) bool { return takesArgs(cmd) }), "%s: bobosync %s", path, m[1])
			for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(strings.Split(m[2], "#")[0], -1) {
				require.NotNil(t, cmd.Flag(flag[1]), "%s: bobosync %s --%s", path, m[1], flag[1])
			}
			found++
		}
		for _, m := range regexp.MustCompile(`make ([a-z-]+)`).FindAllStringSubmatch(codeOf(string(text)), -1) {
			require.Contains(t, string(makefile), "\n"+m[1]+":", "%s: make %s", path, m[1])
			found++
		}
	}
	require.Greater(t, found, 10)
}

func takesArgs(cmd *cobra.Command) bool { return cmd.ValidateArgs([]string{"x"}) == nil }

// codeOf returns the code in a page: indented lines and what stands in back quotes.
func codeOf(page string) string {
	var code []string
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "    ") {
			code = append(code, strings.TrimSpace(line))
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(line, -1) {
			code = append(code, m[1])
		}
	}
	return strings.Join(code, "\n")
}
