package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/joho/godotenv"
)

// DotEnv is the content of a .env file.
type DotEnv struct {
	Vars map[string]string
	// Twice are the names that have more than one line, of which the last counts.
	Twice []string
}

// maxDotEnv limits the size of a .env file, in bytes.
const maxDotEnv = 1 << 20

// ReadDotEnv reads a .env file. A file that was found in the current directory rather than named must belong to this
// user or to root, and nobody else may be able to write to it. Errors name the line at fault but quote nothing of it,
// because it may hold a secret. If the file does not exist, the error wraps fs.ErrNotExist.
func ReadDotEnv(path string, named bool) (DotEnv, error) {
	file, err := os.Open(path)
	if err != nil {
		return DotEnv{}, fmt.Errorf("read the settings: %w", err)
	}
	defer file.Close()

	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() && !named {
		err = fmt.Errorf("%s is no file", path)
	}

	if err == nil && !named {
		err = trusted(path, info)
	}

	if err != nil {
		return DotEnv{}, fmt.Errorf("read the settings: %w", err)
	}

	text, err := io.ReadAll(io.LimitReader(file, maxDotEnv+1))
	if err == nil && len(text) > maxDotEnv {
		err = errors.New("is too large for settings")
	}

	var env DotEnv
	if err == nil {
		env, err = parseDotEnv(text)
	}

	if err != nil {
		return DotEnv{}, fmt.Errorf("read the settings: %s %w", path, withoutPath(err))
	}

	return env, nil
}

func withoutPath(err error) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("cannot be read: %w", file.Err)
	}
	return err
}

// parseDotEnv reads one line at a time, so that it can name the line that is wrong.
func parseDotEnv(text []byte) (DotEnv, error) {
	if err := encoding(text); err != nil {
		return DotEnv{}, err
	}

	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))

	env := DotEnv{Vars: map[string]string{}}
	for i, line := range strings.Split(string(text), "\n") {
		name, value, err := parseLine(line, env.Vars)
		if err != nil {
			return DotEnv{}, fmt.Errorf("is not a list of NAME=value lines: line %d %w", i+1, err)
		}

		if name == "" {
			continue
		}

		if _, has := env.Vars[name]; has && !slices.Contains(env.Twice, name) {
			env.Twice = append(env.Twice, name)
		}

		env.Vars[name] = value
	}

	return env, nil
}

// encoding reports text that is not UTF-8.
func encoding(text []byte) error {
	switch {
	case bytes.HasPrefix(text, []byte{0xff, 0xfe}), bytes.HasPrefix(text, []byte{0xfe, 0xff}), bytes.IndexByte(text, 0) >= 0:
		return errors.New("is written in UTF-16, or is no text: save it as UTF-8 (in Notepad: Save as, encoding UTF-8)")
	case !utf8.Valid(text):
		line := 1
		for rest := text; len(rest) > 0; {
			r, size := utf8.DecodeRune(rest)
			if r == utf8.RuneError && size == 1 {
				break
			}

			if r == '\n' {
				line++
			}

			rest = rest[size:]
		}

		return fmt.Errorf("is not written in UTF-8, but in an older encoding: see line %d, and save it as UTF-8", line)
	}

	return nil
}

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)
	// expansion matches what godotenv replaces in a value that is not in single quotes; of $(NAME), all but the closing
	// parenthesis.
	expansion = regexp.MustCompile(`(\\?)\$(\(?)\{?([A-Z0-9_]+)\}?`)
)

// parseLine reads one line; name is empty for an empty line or a comment.
func parseLine(line string, before map[string]string) (name, value string, err error) {
	line = strings.TrimSpace(line)
	if line == "" || strings.HasPrefix(line, "#") {
		return "", "", nil
	}

	name, raw, has := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
	if colon, rest, yaml := strings.Cut(line, ":"); yaml && (!has || len(colon) < len(name)) {
		name, raw, has = strings.TrimPrefix(colon, "export "), rest, true // YAML style, which godotenv accepts too
	}

	name, raw = strings.TrimSpace(name), strings.TrimSpace(raw)
	switch {
	case !has:
		return "", "", errors.New("has no =")
	case !variableName.MatchString(name):
		return "", "", errors.New("does not begin with the name of a variable and =")
	case unclosed(raw):
		return "", "", errors.New("has a quote that is not closed on it")
	}

	if err := misread(raw); err != nil {
		return "", "", err
	}

	if err := lostTo(raw, before); err != nil {
		return "", "", err
	}

	// The values of earlier lines must be present for a value that refers to them.
	vars, err := godotenv.Unmarshal(referred(raw, before) + name + "=" + raw)
	if err != nil {
		return "", "", errors.New("cannot be read: put the value into single quotes")
	}

	return name, vars[name], nil
}

// unclosed reports whether a value begins with a quote that does not end on its line.
func unclosed(raw string) bool {
	return raw != "" && (raw[0] == '"' || raw[0] == '\'') && closing(raw) < 0
}

// closing returns the index at which the value's opening quote is closed, or -1.
func closing(raw string) int {
	for i := 1; i < len(raw); i++ {
		if raw[i] == raw[0] && raw[i-1] != '\\' {
			return i
		}
	}

	return -1
}

// escaped matches escapes that double quotes would turn into a line break, or whose backslash they would drop, as in
// "C:\new\table".
var escaped = regexp.MustCompile(`(^|[^\\])(\\\\)*\\[A-Za-z0-9]`)

// misread reports a value that would be read differently than meant, or that contains an invisible character.
func misread(raw string) error {
	for _, r := range raw {
		if r != '\t' && unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
			return fmt.Errorf("has a character in it that nobody sees (%U): type the value again", r)
		}
	}

	const typographic = "“”„‘’‚«»"
	first, _ := utf8.DecodeRuneInString(raw)
	last, _ := utf8.DecodeLastRuneInString(raw)
	if strings.ContainsRune(typographic, first) && strings.ContainsRune(typographic, last) {
		return errors.New("has typographic quotes around its value: leave them out, or use plain ones")
	}

	if raw == "" || raw[0] != '"' && raw[0] != '\'' {
		return nil
	}

	end := closing(raw)
	if behind := strings.TrimSpace(raw[end+1:]); behind != "" && behind[0] != '#' {
		return errors.New("has something behind its closing quote: put the whole value into single quotes")
	}

	if raw[0] == '"' && escaped.MatchString(raw[1:end]) {
		return errors.New("has a backslash within double quotes: put the value into single quotes")
	}

	return nil
}

// lostTo reports a value of which a part would be replaced by nothing, or by something other than what is meant.
func lostTo(raw string, before map[string]string) error {
	if strings.HasPrefix(raw, "'") {
		return nil
	}

	for _, m := range expansion.FindAllStringSubmatch(raw, -1) {
		value, has := before[m[3]]
		switch {
		case m[1] != "":
		case m[2] != "":
			return errors.New("has a $( in it, of which a part would get lost: put the value into single quotes")
		case !has:
			return errors.New("has a $ before a name that is not set above: put the value into single quotes")
		case !passedOn(value):
			return errors.New("has a $ before a name whose value above has a single quote in it: write that value out instead of the name")
		}
	}

	return nil
}

// passedOn reports whether a value can be written in single quotes, so that a later value can refer to it.
func passedOn(value string) bool { return !strings.ContainsAny(value, "'\n") }

// referred returns assignments for the earlier variables that a value refers to.
func referred(raw string, before map[string]string) string {
	var b strings.Builder
	for _, m := range expansion.FindAllStringSubmatch(raw, -1) {
		if value, has := before[m[3]]; has && passedOn(value) {
			fmt.Fprintf(&b, "%s='%s'\n", m[3], value)
		}
	}

	return b.String()
}

// Path resolves a path as it is meant: a leading ~ is this user's home directory, as in a shell. What only a shell or a
// browser would understand is refused, because otherwise a directory of that name would be made.
func Path(value string) (string, error) {
	switch {
	case value == "~" || strings.HasPrefix(value, "~/") || strings.HasPrefix(value, `~\`):
		home, err := os.UserHomeDir()
		if err != nil {
			return "", errors.New("begins with ~, and this user has no home directory: write the whole path")
		}

		return filepath.Join(home, value[1:]), nil
	case strings.HasPrefix(value, "~"):
		return "", errors.New("begins with ~ and a user's name: write the whole path")
	case strings.HasPrefix(value, `"`), strings.HasPrefix(value, `'`):
		return "", errors.New("begins with a quote: outside of a .env file quotes belong to the value")
	case strings.ContainsAny(value[:1], "$%") || strings.ContainsAny(value, "“”„‘’«»"):
		return "", errors.New("begins with a variable, which nobody replaces here, or has a typographic quote: write the whole path as it is")
	case strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) }):
		return "", errors.New("has a character in it that nobody sees: type the path again")
	case strings.HasPrefix(strings.ToLower(value), "file:"):
		return "", errors.New("begins with file: - write the path alone")
	}

	return value, nil
}

// isPath reports whether a variable names a file or directory.
func isPath(key string) bool {
	return strings.HasSuffix(key, "_DIRECTORY") || strings.HasSuffix(key, "_FILE") || strings.HasSuffix(key, "_CREDS") ||
		slices.Contains([]string{"SSL_CERT_PATH", "NATS_CA", "NOTIFY_SMTP_CA", "CONSOLE_TLS_CERT", "CONSOLE_TLS_KEY", "CONSOLE_CLIENT_CA"}, key)
}
