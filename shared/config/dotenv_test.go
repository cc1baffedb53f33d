package config

import (
	"os"
	"path/filepath"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/require"
)

// TestHarmlessSlips: what an editor does to a .env file does not change its values.
func TestHarmlessSlips(t *testing.T) {
	t.Parallel()

	want := map[string]string{"A": "1", "B": "two words", "C": "a#b", "D": "x$Y", "E": "it's"}
	for name, text := range map[string]string{
		"plain":           "A=1\nB=two words\nC=a#b\nD='x$Y'\nE=it's\n",
		"byte-order mark": "\ufeffA=1\nB=\"two words\"\nC='a#b'\nD='x$Y'\nE=\"it's\"",
		"Windows":         "A=1\r\nB=two words\r\n\r\nC=a#b\r\nD='x$Y'\r\nE=it's\r\n",
		"old Mac":         "A=1\rB=two words\rC=a#b\rD='x$Y'\rE=it's",
		"a shell's":       "# comment\nexport A=1\nexport B='two words' # comment\nC=a#b\n  D = 'x$Y'\nE=it's\n",
		"colons":          "A: 1\nB: two words\nC: a#b\nD: 'x$Y'\nE: it's\n",
		"one refers":      "Z=wo\nA=1\nB=t${Z} words\nC=a#b\nD='x$Y'\nE=it's\n",
	} {
		env, err := parseDotEnv([]byte(text))
		require.NoError(t, err, name)
		delete(env.Vars, "Z")
		require.Equal(t, want, env.Vars, name)
		require.Empty(t, env.Twice, name)
	}

	env, err := parseDotEnv([]byte("A=1\nB=2\nA=3\nA=4\n"))
	require.NoError(t, err)
	require.Equal(t, []string{"A"}, env.Twice)
	require.Equal(t, "4", env.Vars["A"], "the last one counts")
}

func inUTF16(text string, low, high int) []byte {
	var b []byte
	for _, unit := range utf16.Encode([]rune("\ufeff" + text)) {
		pair := [2]byte{}
		pair[low], pair[high] = byte(unit), byte(unit>>8)
		b = append(b, pair[:]...)
	}

	return b
}

// TestSlipsAreNamed: errors name the line, but quote nothing of it.
func TestSlipsAreNamed(t *testing.T) {
	t.Parallel()

	const secret = "s3cret"
	for says, text := range map[string][]byte{
		"UTF-16, or is no text":           inUTF16("PASSWORD="+secret, 0, 1),
		"is written in UTF-16":            inUTF16("PASSWORD="+secret, 1, 0),
		"no text: save it as UTF-8":       inUTF16("PASSWORD="+secret, 0, 1)[2:],
		"older encoding: see line 2":      []byte("A=1\nPASSWORD=" + secret + "\xe9\n"),
		"line 3 has a quote that is not":  []byte("A=1\n\nPASSWORD=\"" + secret + "\nB=2\n"),
		"line 1 has a quote that is not":  []byte("PASSWORD='" + secret + "\nB='x'\n"),
		"line 2 has no =":                 []byte("A=1\nPASSWORD " + secret + "\n"),
		"line 1 does not begin with the ": []byte("PASS WORD=" + secret + "\n"),
		"line 2 has a $ before a name":    []byte("A=1\nPASSWORD=" + secret + "$WORD\n"),
	} {
		_, err := parseDotEnv(text)
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), secret)
	}

	for says, lines := range map[string][]string{
		"does not begin with the name": {"set A=" + secret, "$env:A=" + secret, "- A=" + secret, "A\u200b=" + secret, "\x1b[0mA=" + secret, "A B: " + secret},
		"has no =":                     {"A＝" + secret, "A " + secret},
		"that nobody sees (U+":         {"A=" + secret + "\u200b", "A=\u200e" + secret, "A='s3\u00adcret'", "A=s3\u2028cret", "A=\x1b[0m" + secret, "A=\ufeff" + secret},
		"typographic quotes":           {"A=“" + secret + "”", "A=„" + secret + "“", "A=‘" + secret + "’", "A=«" + secret + "»"},
		"behind its closing quote":     {`A="` + secret + `" x`, `A="` + secret + `"x`, `A="s3"cret"`, `A='` + secret + `' x`, `A='s3'cret'`},
		"a backslash within double":    {`A="C:\new\` + secret + `"`, `A="` + secret + `\table"`, `A="\\\new` + secret + `"`, `A="` + secret + `\1"`},
		"a quote that is not closed":   {`A="` + secret + `\"`, `A='` + secret},
		"a $( in it, of which a part":  {"A=" + secret + "$(CD)", `A="` + secret + `$(1x)"`, "A=" + secret + "$$(B)", "A=" + secret + "$(B)"},
	} {
		for _, line := range lines {
			_, err := parseDotEnv([]byte("B=1\n" + line + "\n"))
			require.ErrorContains(t, err, says, line)
			require.ErrorContains(t, err, "line 2 ", line)
			require.NotContains(t, err.Error(), secret)
		}
	}

	_, err := parseDotEnv([]byte("A=it's-" + secret + "\nB=x${A}\n"))
	require.ErrorContains(t, err, "line 2 has a $ before a name whose value above has a single quote")
	require.NotContains(t, err.Error(), secret)

	for line, want := range map[string]string{
		"A=a$(b)": "a$(b)", "A='a$(B)'": "a$(B)", `A=a\$(B)`: "a$(B)", "A=a$": "a$",
		`A="C:\\new\\in"`: `C:\new\in`, `A='C:\new\in'`: `C:\new\in`, `A=C:\new\in`: `C:\new\in`, `A="a \" b"`: `a " b`, `A="a\$b"`: "a$b", `A="x" # a comment`: "x",
		`A='x'# a comment`: "x", "A=\u00a0x\u00a0": "x", "A=caf\u00e9 “x”.": "caf\u00e9 “x”.", `A="pa\!ss"`: "pa!ss", "A= = x": "= x", "A=a\tb": "a\tb",
	} {
		env, err := parseDotEnv([]byte(line))
		require.NoError(t, err, line)
		require.Equal(t, want, env.Vars["A"], line)
	}
}

// TestFoundSettingsAreTrusted: a file in the current directory is trusted only if nobody else could have put it there.
func TestFoundSettingsAreTrusted(t *testing.T) {
	t.Parallel()

	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}

	path := filepath.Join(t.TempDir(), ".env")
	for name, c := range map[string]struct {
		owner, group int
		mode         os.FileMode
		says         string
	}{
		"one's own":          {0, 0, 0o600, ""},
		"all may read":       {0, 0, 0o644, ""},
		"all may write":      {0, 0, 0o646, "others may write to it"},
		"a group may write":  {0, 4242, 0o660, "others may write to it"},
		"somebody else's":    {4242, 0, 0o600, "belongs to another user (4242)"},
		"root's group's own": {0, 0, 0o660, ""},
	} {
		require.NoError(t, os.WriteFile(path, []byte("A=1\n"), 0o600))
		require.NoError(t, os.Chown(path, c.owner, c.group))
		require.NoError(t, os.Chmod(path, c.mode))

		_, err := Environment(path, false)
		if c.says == "" {
			require.NoError(t, err, name)
		} else {
			require.ErrorContains(t, err, c.says, name)
			require.ErrorContains(t, err, "--env", name)
		}

		_, err = Environment(path, true)
		require.NoError(t, err, "%s: who names it means it", name)
		require.NoError(t, os.Remove(path))
	}

	real := filepath.Join(t.TempDir(), "settings")
	require.NoError(t, os.WriteFile(real, []byte("A=1\n"), 0o600))
	require.NoError(t, os.Symlink(real, path))
	require.NoError(t, os.Lchown(path, 4242, 4242))
	_, err := Environment(path, false)
	require.ErrorContains(t, err, "belongs to another user", "a link that somebody else has made")
}

func TestPathsOfAShell(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	var c struct {
		Broker Broker
		Data   Data
		Log    Log
	}

	require.NoError(t, os.WriteFile(filepath.Join(home, "ca"), []byte("\ufeffx.pem\r\n"), 0o600))
	require.NoError(t, Load(t.Context(), Map(map[string]string{"DATA_DIRECTORY": "~/data", "LOG_DIRECTORY": "~", "NATS_CREDS": "/a~b", "NATS_CA_FILE": "~/ca"}), &c))
	require.Equal(t, filepath.Join(home, "data"), c.Data.Directory)
	require.Equal(t, home, c.Log.Directory)
	require.Equal(t, "/a~b", c.Broker.Creds)
	require.Equal(t, "x.pem", c.Broker.CA)

	for value, says := range map[string]string{
		"~joe/in": "a user's name", `"/in"`: "begins with a quote", "'/in'": "begins with a quote", "$HOME/in": "a variable", "${HOME}/in": "a variable",
		`%USERPROFILE%\in`: "a variable", "“/in”": "a typographic quote", "file:///in": "begins with file:", "File:/in": "begins with file:",
		"/in\u200b": "that nobody sees", "/a\nb": "that nobody sees", "/\u202ein": "that nobody sees",
	} {
		err := Load(t.Context(), Map(map[string]string{"DATA_DIRECTORY": value}), &c)
		require.ErrorContains(t, err, "DATA_DIRECTORY: ")
		require.ErrorContains(t, err, says)
	}
}

// TestAddresses: a password that is not percent-encoded is refused, and no part of an address is quoted.
func TestAddresses(t *testing.T) {
	t.Parallel()

	const reserved, none = "encode /, @, : in the password", "must be an address such as"
	for value, says := range map[string]string{
		"http://proxy:3128": "", "proxy:3128": "", "proxy": "", "HTTP://u:p%2Fss@proxy:3128/": "", "socks5://proxy": "", "http://[::1]:3128": "",
		"http://user:pa/ss@localhost:3128": reserved, "http://user:pa@ss@localhost:3128": reserved, "http://user:pa?ss@localhost": reserved,
		"http://user:pa#ss@localhost": reserved, "http://user:p%zz@localhost": reserved, "user:pa/ss@localhost:3128": reserved,
		"http://us/er:pass@localhost": reserved, "http://user:pa ss@localhost": reserved, `http://user:pa\ss@localhost`: reserved,
		"http://user:pa:ss@localhost:3128": "", "http://token@localhost": "", "http://[fe80::1%25eth0]:3128": "", "http://user:p%40ss@[::1]:3128": "",
		"http://user:pa%ss@localhost": reserved, "http://user:pa[ss@localhost": reserved, "http://user:pa\tss@localhost": reserved,
		"http://user:pa\"ss@localhost": reserved, "http://user:pa^ss@localhost": reserved, "http://user:pa|ss@localhost": reserved,
		"http://user@example.org:pass@localhost": reserved, "HTTPS://user:pa/ss@localhost": reserved, "socks5://user:pa#ss@localhost": reserved,
		"http:/user:pa/ss@localhost": reserved, "//user:pa/ss@localhost": reserved, "user:pa@ss@localhost": reserved, "http://user:pa/ss@": reserved,
		"http://user:pass@": none, "http://:3128": none, "http://localhost:3128:": none, "http://local host": none,
		"http://user:pass,word@localhost": none, "ftp://proxy": none, "http://": none, "http://proxy:port": none, "http://a b": none,
	} {
		err := Addresses("HTTPS_PROXY", value, "http", "https", "socks5")
		if says == "" {
			require.NoError(t, err, value)
			continue
		}

		require.ErrorContains(t, err, "HTTPS_PROXY: ", value)
		require.ErrorContains(t, err, says, value)

		for _, part := range []string{"ss@", "pa/", "pa?", "localhost", "zz", "user:"} {
			require.NotContains(t, err.Error(), part)
		}
	}

	require.NoError(t, Addresses("NATS_URL", "nats://a:4222, tls://u:p@b", "nats", "tls"))
	require.ErrorContains(t, Addresses("NATS_URL", "nats://a:4222,nats://u:p/w@b", "nats", "tls"), reserved)

	a := AtHoc{ServerURL: "https://u:p/w@host", HTTPProxy: "http://u:p/w@host", HTTPSProxy: "http://u:p@w@host"}
	for _, name := range []string{"ATHOC_SERVER_URL", "HTTP_PROXY", "HTTPS_PROXY"} {
		require.ErrorContains(t, a.Validate(), name+": a user or password in it")
	}
}
