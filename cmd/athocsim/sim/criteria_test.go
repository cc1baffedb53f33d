package sim

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func testDirectory(t testing.TB) *userStore {
	d, err := newUserStore([]Attribute{{LoginID, TypeString}, {"Collar-Number", TypeString}, {"On-Duty-DTG", TypeDate}, {"NAME", TypeString}}, 10)
	require.NoError(t, err)
	require.NoError(t, d.put([]User{
		{LoginID: "a@example.org", Attributes: map[string]string{"Collar-Number": "00001", "On-Duty-DTG": "31/01/2024 10:00:00"}},
		{LoginID: "b@example.org", Attributes: map[string]string{"Collar-Number": "00002", "On-Duty-DTG": "01/02/2024 09:00:00", "NAME": "O'Neil"}},
		{LoginID: "c@example.org", Attributes: map[string]string{"NAME": "x) or (y"}},
	}))

	return d
}

func TestCriteriaMatch(t *testing.T) {
	d := testDirectory(t)
	for criteria, want := range map[string]string{
		"On-Duty-DTG pr":                                          "ab",
		"On-Duty-DTG PR":                                          "ab",
		"On-Duty-DTG lt '01/02/2024 00:00:00'":                    "a", // as text, 31 is greater than 01
		"On-Duty-DTG gt '01/02/2024 00:00:00'":                    "b",
		"On-Duty-DTG eq '31/01/2024 10:00:00'":                    "a",
		"On-Duty-DTG lt '31/01/2024 10:00:00'":                    "",
		"LOGIN_ID eq 'A@Example.org'":                             "a",
		"NAME eq 'o''neil'":                                       "",
		"NAME eq 'O''Neil'":                                       "b",
		"NAME eq 'x) or (y'":                                      "c",
		"Collar-Number lt '00002'":                                "a",
		"Collar-Number eq '00001' or Collar-Number eq '00002'":    "ab",
		"NAME pr or On-Duty-DTG pr and Collar-Number eq '00001'":  "abc", // and binds tighter
		"(NAME pr or On-Duty-DTG pr)AND Collar-Number eq '00001'": "a",
		"((NAME pr))and On-Duty-DTG pr":                           "b",
	} {
		t.Run(criteria, func(t *testing.T) {
			c, err := parseCriteria(criteria, d.lookup)
			require.NoError(t, err)

			got := ""
			for _, r := range d.order {
				if c.match(r.values) {
					got += r.key[:1]
				}
			}

			require.Equal(t, want, got)
		})
	}
}

func TestCriteriaErrors(t *testing.T) {
	d := testDirectory(t)
	for criteria, want := range map[string]string{
		"":                                "attribute name",
		"Missing pr":                      `"Missing" is unknown`,
		"on-duty-dtg pr":                  `"on-duty-dtg" is unknown`,
		"NAME":                            "eq, lt, gt or pr",
		"NAME ne 'x'":                     "eq, lt, gt or pr",
		"NAME 'eq' 'x'":                   "eq, lt, gt or pr",
		"NAME eq x":                       "single quotes",
		"NAME eq":                         "single quotes",
		"NAME eq ''":                      "is empty",
		"NAME eq 'x":                      "closing quote",
		"NAME pr NAME pr":                 "unexpected",
		"NAME pr and":                     "attribute name",
		"(NAME pr":                        "closing bracket",
		"NAME pr)":                        "unexpected",
		"'NAME' pr":                       "attribute name",
		"On-Duty-DTG lt '2024-01-31'":     "is a date",
		"On-Duty-DTG lt '30/02/2024 1:2'": "is a date",
		strings.Repeat("(", 5000):         "too many brackets",
		strings.Repeat("NAME pr or ", 5000) + "NAME pr": "too many conditions",
	} {
		_, err := parseCriteria(criteria, d.lookup)
		require.ErrorContains(t, err, want, "%.80s", criteria)
	}
}

func FuzzCriteria(f *testing.F) {
	for _, seed := range []string{"NAME pr", "(NAME eq 'a''b') or On-Duty-DTG lt '31/01/2024 10:00:00' and LOGIN_ID gt 'x'", "((", "NAME eq '"} {
		f.Add(seed)
	}

	d := testDirectory(f)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCriteria(text, d.lookup)
		if err != nil {
			return
		}

		canonical := c.String()

		again, err := parseCriteria(canonical, d.lookup)
		if err != nil && strings.Contains(err.Error(), "too many") {
			return // the canonical form has more brackets, and so may have too many
		}

		require.NoError(t, err)
		require.Equal(t, canonical, again.String())

		for _, r := range d.order {
			require.Equal(t, c.match(r.values), again.match(r.values))
		}
	})
}

func TestParseDateIsExact(t *testing.T) {
	for _, good := range []string{"29/02/2024 00:00:00", "31/12/1999 23:59:59"} {
		_, err := parseDate(good)
		require.NoError(t, err)
	}

	for _, bad := range []string{"", "29/02/2023 00:00:00", "1/2/2024 00:00:00", "01/02/2024 1:00:00", "01/02/2024 24:00:00",
		"01/02/2024 00:00:00.5", "01/02/2024 00:00", " 01/02/2024 00:00:00", "2024-02-01 00:00:00", "13/13/2024 00:00:00"} {
		_, err := parseDate(bad)
		require.Error(t, err, bad)
	}
}
