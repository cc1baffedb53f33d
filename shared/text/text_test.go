package text_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"bobosync/shared/text"
)

// TestClean: characters that could control a terminal or hide something are shown as escapes; readable ones stay as
// they are.
func TestClean(t *testing.T) {
	t.Parallel()

	for in, want := range map[string]string{
		"":                               "",
		"monday.csv":                     "monday.csv",
		"Zoë Ω 数据 🚒 a\u0301":             "Zoë Ω 数据 🚒 a\u0301",
		"a\x1b[2J\x1b[HOK.csv":           `a\x1b[2J\x1b[HOK.csv`,
		"a\nOK: duty data is fresh\r\t":  `a\nOK: duty data is fresh\r\t`,
		"\u202egpj.csv\u2066\u2069":      `\u202egpj.csv\u2066\u2069`,
		"a\u200bb\u200d\ufeff\u00ad":     `a\u200bb\u200d\ufeff\u00ad`,
		"a\u2028b\u2029c\u0085":          `a\u2028b\u2029c\u0085`,
		"a\u00a0b\u3000":                 `a\u00a0b\u3000`,
		"\u3164\u115f\u2800\u034f\ufe0f": `\u3164\u115f\u2800\u034f\ufe0f`,
		"\U000e0041\u009b31m\x7f\x00":    `\U000e0041\u009b31m\x7f\x00`,
		"caf\xe9.csv":                    `caf\xe9.csv`,
	} {
		require.Equal(t, want, text.Clean(in))
	}
}

// TestCleanLeavesNothingInvisible tries every character that there is.
func TestCleanLeavesNothingInvisible(t *testing.T) {
	t.Parallel()

	for r := rune(0); r <= unicode.MaxRune; r++ {
		for _, shown := range text.Clean(string(r)) {
			if shown != ' ' && (!unicode.IsPrint(shown) || unicode.Is(unicode.Cf, shown) || unicode.IsControl(shown)) {
				t.Fatalf("%U is shown as %U", r, shown)
			}
		}
	}
}

func TestCellsAreNoFormulas(t *testing.T) {
	t.Parallel()

	for in, want := range map[string]string{
		"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@SUM(A1)": "'@SUM(A1)", " =1": "' =1", "＝1": "'＝1", `"=1"`: `'"=1"`, "|cmd": "'|cmd",
		"\t=1": `\t=1`, "\r=1": `\r=1`, "": "", "columns": "columns", "a=1": "a=1", "12": "12",
		"a;=1+1": "a;'=1+1", "a; @x;b": "a;' @x;b", "a;b": "a;b", ";": ";",
	} {
		require.Equal(t, want, text.Cell(in))
	}

	var out bytes.Buffer
	require.NoError(t, text.To(&out).CSV([]string{"file", "reason"}, []string{"=1+1.csv", "@x"}))
	require.Equal(t, "file,reason\n'=1+1.csv,'@x\n", out.String())
}

type named struct{ name string }

func (n named) String() string { return n.name }

// word is a named string type, as services' answers contain them.
type word string

// TestAPrintersLinesAreItsOwn: no argument begins a line or a colour, however it becomes text.
func TestAPrintersLinesAreItsOwn(t *testing.T) {
	t.Parallel()
	const evil = "x\n\x1b[32mOK\u202e"
	var out bytes.Buffer
	p := text.To(&out)
	p.Printf("%s %v %q %-3s %v %d%s %s%s\n", evil, errors.New(evil), evil, named{evil}, []string{evil}, 7, text.Raw("\x1b[0m"), word(evil), []byte(evil))
	p.Line(evil)
	p.Table([][]string{{"NAME"}, {evil}, {"a\tb"}})
	require.NoError(t, p.Err())
	require.Equal(t, 5, strings.Count(out.String(), "\n"))
	require.Equal(t, 1, strings.Count(out.String(), "\x1b"), "the program's own")
	require.NotContains(t, out.String(), "\u202e")
	require.NotContains(t, out.String(), "\t")
}

func TestAPrinterKeepsItsFirstError(t *testing.T) {
	t.Parallel()

	p := text.To(broken{})
	p.Line("a")
	p.Printf("b")
	require.EqualError(t, p.Err(), "write the answer: full")
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestErrorsAreLines(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{`a\nb`}, text.Lines(errors.New("a\nb")))
	require.Equal(t, []string{"a", `b\nc`, "d"}, text.Lines(errors.Join(errors.New("a"), errors.Join(errors.New("b\nc"), errors.New("d")))))
	require.Equal(t, []string{`read: a\nb`}, text.Lines(fmt.Errorf("read: %w", errors.Join(errors.New("a"), errors.New("b")))))
}

// TestJSONStaysWhatItIs: the text is visible, and a reader gets what was written.
func TestJSONStaysWhatItIs(t *testing.T) {
	t.Parallel()

	want := map[string]string{"name": "a\u202e\u200b\n\x1b\x7f\U000e0041<é>"}
	var out bytes.Buffer
	require.NoError(t, text.JSON(&out, want))
	require.Equal(t, strings.ReplaceAll(out.String(), "\n", ""), text.Clean(strings.ReplaceAll(out.String(), "\n", "")))
	require.Contains(t, out.String(), `<é>`)
	var got map[string]string
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	require.Equal(t, want, got)
	require.Error(t, text.JSON(broken{}, want))
}

func TestWords(t *testing.T) {
	t.Parallel()

	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min", time.Hour: "1 h", 119 * time.Second: "1 min", 90 * time.Minute: "1 h 30 min", 2*time.Hour + 20*time.Second: "2 h",
		48*time.Hour - time.Second: "47 h 59 min", 71 * time.Hour: "2 days",
	} {
		require.Equal(t, want, text.Ago(d))
	}

	require.Equal(t, "1 file", text.Count(1, "file"))
	require.Equal(t, "0 files", text.Count(0, "file"))
	require.Equal(t, "once", text.Times(1))
	require.Equal(t, "3 times", text.Times(3))
	require.Equal(t, "-", text.When(time.Time{}))
	require.Equal(t, "0123456789ab", text.Short("0123456789abcdef"))
	require.Equal(t, "-", text.Dash(""))
}
