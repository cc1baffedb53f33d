package bobocsv

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"bobosync/shared/event"
)

const good = "BON,12345,PAY001,20240617,143000,20240617143000,1,40.7128,-74.0060,5.0"

func readAll(t testing.TB, text string, o Options) []Row {
	t.Helper()

	rows, err := collect(NewReader(strings.NewReader(text), o))
	if err != nil {
		t.Fatalf("read: %v", err)
	}

	return rows
}

func collect(r *Reader) ([]Row, error) {
	var rows []Row
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return rows, nil
		}

		if err != nil {
			return rows, err
		}

		rows = append(rows, row)
	}
}

// brief writes rows as "line:employee+at" (on), "line:employee-at" (off) or "line!reason/number".
func brief(rows []Row) string {
	var parts []string
	for _, r := range rows {
		switch {
		case r.Reason != 0 && r.Number != 0:
			parts = append(parts, fmt.Sprintf("%d!%s/%d", r.Line, r.Reason, r.Number))
		case r.Reason != 0:
			parts = append(parts, fmt.Sprintf("%d!%s", r.Line, r.Reason))
		case r.Entry.On:
			parts = append(parts, fmt.Sprintf("%d:%s+%d", r.Line, r.Entry.Employee, r.Entry.At))
		default:
			parts = append(parts, fmt.Sprintf("%d:%s-%d", r.Line, r.Entry.Employee, r.Entry.At))
		}
	}

	return strings.Join(parts, " ")
}

func TestRead(t *testing.T) {
	t.Parallel()
	const header = "Transaction_Type,Employee_ID,Payroll_ID,Clocking_Date,Clocking_Time,DateTime_Created,Geo_Status,Geo_Latitude,Geo_Longitude,Geo_Accuracy\n"
	off := strings.Replace(good, "BON,12345", "BOF,00067", 1)

	tests := []struct{ name, text, want string }{
		{"plain", good + "\n" + off + "\n", "1:12345+1718634600 2:00067-1718634600"},
		{"empty file", "", ""},
		{"header alone", header, ""},
		{"header", header + good + "\n", "2:12345+1718634600"},
		{"header in other case, with byte-order mark and blanks", "\uFEFF tRANSACTION_tYPE ,x\n" + good, "2:12345+1718634600"},
		{"quoted header", `"Transaction_Type","Employee_ID"` + "\n" + good, "2:12345+1718634600"},
		{"header without underscores", strings.ReplaceAll(header, "_", " ") + good, "2:12345+1718634600"},
		{"header with geo columns in another order", strings.Replace(header, "Geo_Status,Geo_Latitude", "Geo_Latitude,Geo_Status", 1) + good, "2:12345+1718634600"},
		{"header with the payroll id before the employee's", strings.Replace(header, "Employee_ID,Payroll_ID", "Payroll_ID,Employee_ID", 1) + good + "\nx,y\n" + good, "2!header 3!columns/2 4!header"},
		{"header with the type at its end", strings.Replace(header, "Transaction_Type,", "", 1)[:len(header)-len("Transaction_Type,")-1] + ",Transaction_Type\n" + good, "2!header"},
		{"quoted header in another order", `"Transaction_Type","Payroll_ID"` + "\n" + good, "2!header"},
		{"header after blank lines", "\n \n" + header + good, "4:12345+1718634600"},
		{"second header is a row", header + header, "2!transaction_type"},
		{"header after a row is a row", good + "\n" + header, "1:12345+1718634600 2!transaction_type"},
		{"byte-order mark before a row", "\uFEFF" + good, "1:12345+1718634600"},
		{"CRLF", good + "\r\n" + good + "\r\n", "1:12345+1718634600 2:12345+1718634600"},
		{"lone CR", good + "\r" + good + "\r\r" + good, "1:12345+1718634600 2:12345+1718634600 4:12345+1718634600"},
		{"blank lines count", "\n" + good + "\n  \t\r\n\n" + good + "\n\n", "2:12345+1718634600 5:12345+1718634600"},
		{"blanks around values", " BON ,\t12345 , x, 20240617 ,143000 , 20240617143000 ,,,,", "1:12345+1718634600"},
		{"quoted", `"BON","12345","P","20240617","143000","20240617143000","1","4","7","5"`, "1:12345+1718634600"},
		{"blanks around quotes", ` "BON" , "12345",P,20240617,143000,"20240617143000" ,,,,"a, b"  `, "1:12345+1718634600"},
		{"quote within quotes", `BON,"1""2",P,20240617,143000,20240617143000,,,,`, `1:1"2+1718634600`},
		{"quoted value over lines", `BON,12345,"P` + "\n\n" + `Q",20240617,143000,20240617143000,,,,` + "\n" + good, "1:12345+1718634600 4:12345+1718634600"},
		{"unterminated quote", strings.Replace(good, "5.0", `"5.0`, 1) + "\n" + good + "\n" + good + "\n", "1!quoting 2:12345+1718634600 3:12345+1718634600"},
		{"two stray quotes keep the rows between", strings.Replace(good, "5.0", `"5.0`, 1) + "\n" + good + "\n" + strings.Replace(good, "5.0", `5.0"`, 1), "1!quoting 2:12345+1718634600 3!quoting"},
		{"unterminated quote at the end", good + "\n" + `BON,"1`, "1:12345+1718634600 2!quoting"},
		{"text beside quotes", `BON,"1"2,P,20240617,143000,20240617143000,,,,`, "1!quoting"},
		{"quote within a value", `BON,1"2,P,20240617,143000,20240617143000,,,,`, "1!quoting"},
		{"nine columns", "BON,12345,P,20240617,143000,20240617143000,,,", "1!columns/9"},
		{"eleven columns", good + ",", "1!columns/11"},
		{"one column", "BON", "1!columns/1"},
		{"quoted comma is no column", `BON,12345,"a,b",20240617,143000,20240617143000,,,`, "1!columns/9"},
		{"unknown type", strings.Replace(good, "BON", "BOX", 1), "1!transaction_type"},
		{"type in lower case", strings.Replace(good, "BON", "bon", 1), "1!transaction_type"},
		{"no type", strings.Replace(good, "BON", "", 1), "1!transaction_type"},
		{"only commas", ",,,,,,,,,", "1!transaction_type"},
		{"no employee", strings.Replace(good, "12345", "  ", 1), "1!employee_missing"},
		{"employee of 64 characters", strings.Replace(good, "12345", strings.Repeat("é", 64), 1), "1:" + strings.Repeat("é", 64) + "+1718634600"},
		{"employee of 65 characters", strings.Replace(good, "12345", strings.Repeat("é", 65), 1), "1!employee_unusable"},
		{"employee with a control character", strings.Replace(good, "12345", "12\x0045", 1), "1!employee_unusable"},
		{"employee with a zero-width space", strings.Replace(good, "12345", "12\u200b45", 1), "1!employee_unusable"},
		{"employee over two lines", strings.Replace(good, "12345", "\"12\n45\"", 1), "1!employee_unusable"},
		{"no such day", "BON,1,P,20240230,143000,20240230143000,,,,", "1!date"},
		{"leap day", "BON,1,P,20240229,000000,20240229000000,,,,", "1:1+1709164800"},
		{"no leap day in 2100", "BON,1,P,21000229,000000,21000229000000,,,,", "1!date"},
		{"no such month", "BON,1,P,20241301,143000,20241301143000,,,,", "1!date"},
		{"day zero", "BON,1,P,20240100,143000,20240100143000,,,,", "1!date"},
		{"year zero", "BON,1,P,00000101,143000,00000101143000,,,,", "1!date"},
		{"no such hour", "BON,1,P,20240617,250000,20240617250000,,,,", "1!time"},
		{"no such minute", "BON,1,P,20240617,146000,20240617146000,,,,", "1!time"},
		{"no such second", "BON,1,P,20240617,143060,20240617143060,,,,", "1!time"},
		{"midnight as 24", "BON,1,P,20240617,240000,20240617240000,,,,", "1!time"},
		{"date with signs", "BON,1,P,2024+617,143000,2024+617143000,,,,", "1!date"},
		{"date with dashes", "BON,1,P,2024-06-17,143000,20240617143000,,,,", "1!date"},
		{"short time", "BON,1,P,20240617,93000,20240617093000,,,,", "1!time"},
		{"no created", "BON,1,P,20240617,143000,,,,,", "1!date"},
		{"created without seconds", "BON,1,P,20240617,143000,202406171430,,,,", "1!time"},
		{"other date", "BON,1,P,20240618,143000,20240617143000,,,,", "1!contradiction"},
		{"other time", "BON,1,P,20240617,143001,20240617143000,,,,", "1!contradiction"},
		{"impossible date beside a possible one", "BON,1,P,20240230,143000,20240617143000,,,,", "1!date"},
		{"impossible time beside a possible one", "BON,1,P,20240617,250000,20240617143000,,,,", "1!time"},
		{"long line", good + "\n" + strings.Repeat("x", MaxLine+1) + "\n" + good, "1:12345+1718634600 2!line_too_long/65537 3:12345+1718634600"},
		{"very long line", strings.Repeat("x", 1_000_000) + "\r\n" + good, "1!line_too_long/1000000 2:12345+1718634600"},
		{"very long last line", good + "\n" + strings.Repeat("x", 1_000_000), "1:12345+1718634600 2!line_too_long/1000000"},
		{"longest line", strings.Repeat("x", MaxLine) + "\n" + good, "1!columns/1 2:12345+1718634600"},
		{"binary", "\x00\xff\xfe,\n\x01", "1!columns/2 2!columns/1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := brief(readAll(t, tt.text, Options{})); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}

			// The result must not depend on how the bytes arrive.
			if rows, err := collect(NewReader(iotest.HalfReader(iotest.DataErrReader(strings.NewReader(tt.text))), Options{})); err != nil || brief(rows) != tt.want {
				t.Errorf("in halves: got %s, %v\nwant %s", brief(rows), err, tt.want)
			}
		})
	}
}

func TestReadUnterminatedQuoteStaysBounded(t *testing.T) {
	t.Parallel()
	// More lines than may be joined, none of which begins as a row does.
	text := `BON,1,"` + strings.Repeat("\nx", 30) + "\n" + good

	rows := readAll(t, text, Options{})
	if len(rows) != 32 || rows[0].Reason != Quoting || rows[1].Line != 2 || rows[1].Reason != Columns || rows[31].Reason != 0 {
		t.Errorf("got %s", brief(rows))
	}
}

func TestReadFuture(t *testing.T) {
	t.Parallel()

	latest := time.Date(2024, 6, 17, 14, 30, 0, 0, time.UTC)
	text := good + "\n" + strings.ReplaceAll(good, "143000", "143001")
	if got := brief(readAll(t, text, Options{Latest: latest})); got != "1:12345+1718634600 2!future" {
		t.Errorf("got %s", got)
	}
}

func TestReadRepeatedHourRank(t *testing.T) {
	t.Parallel()

	text := "BON,1,P,20241027,013000,20241027013000,,,,\nBOF,1,P,20241027,010500,20241027010500,,,,\n"

	rows := readAll(t, text, Options{Zone: zone(t, "Europe/London")})
	first, second := rows[0].Entry.Version(1), rows[1].Entry.Version(1)
	if first.Rank != second.Rank || first.Compare(second) >= 0 {
		t.Errorf("the row read later must win within the repeated hour: %+v, %+v", first, second)
	}
}

func TestReadSourceError(t *testing.T) {
	t.Parallel()

	broken := errors.New("disk on fire")
	src := io.MultiReader(strings.NewReader(good+"\n"+good), iotest.ErrReader(broken))
	rows, err := collect(NewReader(src, Options{}))
	if !errors.Is(err, broken) || len(rows) != 1 {
		t.Errorf("got %s and %v", brief(rows), err)
	}
}

func TestReasonsHaveTexts(t *testing.T) {
	t.Parallel()

	seen := map[string]bool{}
	for _, r := range Reasons() {
		if byte(r) <= byte(event.Dead) || r.String() == "" || r.Text() == "" || seen[r.String()] || seen[r.Text()] {
			t.Errorf("reason %d: %q, %q", r, r.String(), r.Text())
		}

		seen[r.String()], seen[r.Text()] = true, true
	}

	if got := Reason(200).Text(); got != "reason 200" {
		t.Errorf("unknown reason: %q", got)
	}
}

// FuzzSplitQuoted checks that whatever encoding/csv accepts gives the same fields here, except for blanks around
// values.
func FuzzSplitQuoted(f *testing.F) {
	for _, s := range []string{`a,"b"`, `"a""b",c`, `"a,b"`, `a,`, `"",""`, ` "a" `, `"a"b`, `"a`} {
		f.Add(s)
	}

	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(text, "\r\n") || text == "" {
			return
		}

		r := NewReader(nil, Options{})
		columns, state := r.splitQuoted([]byte(text))
		lib := csv.NewReader(strings.NewReader(text))
		lib.TrimLeadingSpace = true

		want, err := lib.Read()
		if err != nil {
			return
		}

		if state != complete || columns != len(want) {
			t.Fatalf("%q: %d columns, state %d; encoding/csv has %d", text, columns, state, len(want))
		}

		for i, field := range r.fields[:min(columns, columnCount)] {
			if strings.TrimSpace(string(field)) != strings.TrimSpace(want[i]) {
				t.Fatalf("%q: column %d is %q, encoding/csv has %q", text, i+1, field, want[i])
			}
		}
	})
}

// FuzzRead checks that no input makes the reader fail, and that every line that is not blank is accounted for: it
// starts an entry or a rejected row, is the header, or belongs to the quoted value of the row before it.
func FuzzRead(f *testing.F) {
	for _, s := range []string{
		good, "\uFEFF" + good, "Transaction_Type\n" + good, `BON,12345,"P` + "\n" + `Q",20240617,143000,20240617143000,,,,`,
		"BON,\"\n" + good, "a\rb\r\nc\n\n", strings.Repeat(",", 20), good + "\x00", "\"\"\"\n\"",
	} {
		f.Add(s)
	}

	london := zone(f, "Europe/London")
	f.Fuzz(func(t *testing.T, text string) {
		rows := readAll(t, text, Options{Zone: london})
		lines := physicalLines(text)
		starts := map[int]Row{}
		last := 0
		for _, row := range rows {
			if row.Line <= last || row.Line > len(lines) {
				t.Fatalf("line %d after line %d of %d", row.Line, last, len(lines))
			}

			if row.Reason == 0 && (row.Entry.Row != row.Line || row.Entry.Employee == "") {
				t.Fatalf("entry %+v on line %d", row.Entry, row.Line)
			}

			starts[row.Line], last = row, row.Line
		}

		checkAccounted(t, lines, starts)
	})
}

func checkAccounted(t *testing.T, lines []string, starts map[int]Row) {
	t.Helper()

	begun, quoted := false, 0
	for i, text := range lines {
		if strings.TrimSpace(text) == "" {
			continue
		}

		row, is := starts[i+1]
		switch {
		case is:
			quoted = 0
			if row.Reason == 0 || row.Reason < Columns || row.Reason != Quoting {
				quoted = maxJoinedLines
			}
		case !begun && strings.Contains(strings.ToLower(text), "transaction_type"):
			// the header
			quoted = maxJoinedLines
		case quoted > 0 && !startsRow([]byte(text)):
			quoted--
		default:
			t.Fatalf("line %d is not accounted for", i+1)
		}

		begun = true
	}
}

func physicalLines(text string) []string {
	text = strings.TrimPrefix(text, "\uFEFF")
	return strings.Split(strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n"), "\n")
}

func BenchmarkRead(b *testing.B) {
	const rows = 1_000_000
	var file bytes.Buffer
	for i := range rows {
		at := time.Date(2024, 6, 17, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Second / 20)
		fmt.Fprintf(&file, "BON,%05d,PAY%05d,%s,%s,%s,1,40.7128,-74.0060,5.0\n", i%20_000, i%20_000,
			at.Format("20060102"), at.Format("150405"), at.Format("20060102150405"))
	}

	london := zone(b, "Europe/London")
	b.SetBytes(int64(file.Len()))
	b.ReportAllocs()

	for b.Loop() {
		r := NewReader(bytes.NewReader(file.Bytes()), Options{Zone: london})
		n := 0
		for {
			row, err := r.Read()
			if errors.Is(err, io.EOF) {
				break
			}

			if err != nil || row.Reason != 0 {
				b.Fatal(row, err)
			}

			n++
		}

		if n != rows {
			b.Fatalf("%d rows", n)
		}
	}
}
