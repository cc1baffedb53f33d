package login

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const password = "correct horse battery"

func TestPasswords(t *testing.T) {
	t.Parallel()

	hash, err := Hash(password)
	require.NoError(t, err)
	again, err := Hash(password)
	require.NoError(t, err)
	require.NotEqual(t, hash, again, "each has a salt of its own")
	require.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$"), hash)

	users, err := ReadUsers([]byte("\ufeff# who may\r\n\n" + Line("j.smith", "operator", hash) + "\n" + Line("éa@x", "viewer", again)))
	require.NoError(t, err)
	require.Len(t, users, 2)
	require.True(t, users["j.smith"].Matches(password))
	require.False(t, users["j.smith"].Matches(password+"x"))
	require.False(t, users["j.smith"].Matches(""))
	require.False(t, users["nobody"].Matches(password))
	require.NotEqual(t, users["j.smith"].Mark(), users["éa@x"].Mark())

	for _, bad := range []string{"", "short", strings.Repeat("x", MaxPassword+1)} {
		_, err := Hash(bad)
		require.Error(t, err)
	}
}

// TestLinesThatAreNone: the error contains the line's number and nothing of its hash.
func TestLinesThatAreNone(t *testing.T) {
	t.Parallel()

	hash, err := Hash(password)
	require.NoError(t, err)

	good := Line("a", "viewer", hash)
	for line, why := range map[string]string{
		"a viewer":                    "must be a name",
		"a viewer x y":                "must be a name",
		"a root " + hash:              "role",
		"-a viewer " + hash:           "name",
		"a/b viewer " + hash:          "name",
		good + "\n" + good:            "another line",
		"a viewer " + password:        "must be a name",
		"a viewer secretsecret":       "argon2id",
		"a viewer " + hash[:60] + "$": "argon2id",
		"a viewer " + strings.Replace(hash, "m=19456", "m=4000000", 1): "argon2id",
		"a viewer " + strings.Replace(hash, "t=2", "t=900", 1):         "argon2id",
		"a viewer " + strings.Replace(hash, "p=1", "p=0", 1):           "argon2id",
		"a viewer " + strings.Replace(hash, "argon2id", "argon2i", 1):  "argon2id",
		"a viewer " + strings.Replace(hash, "v=19", "v=16", 1):         "argon2id",
	} {
		_, err := ReadUsers([]byte("# first\n" + line))
		require.ErrorContains(t, err, why, line)
		require.Regexp(t, `^line [23] `, err.Error())
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	dir, now := t.TempDir(), time.Unix(1_800_000_000, 0)
	_, err := NewLink(dir, "x", now)
	require.ErrorContains(t, err, "CONSOLE_AUTH=link")

	old, err := NewLinks(dir, "http://127.0.0.1:8490")
	require.NoError(t, err)
	stale := token(t, dir, "old", now)
	links, err := NewLinks(dir, "http://127.0.0.1:8490")
	require.NoError(t, err)

	if runtime.GOOS != "windows" {
		info, err := os.Stat(filepath.Join(dir, KeyFile))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode())
	}

	tok := token(t, dir, "j.smith", now)
	other := token(t, dir, "j.smith", now)
	forged := sign(make([]byte, 32), []byte(`{"n":"root","u":9999999999,"i":"x"}`))
	for name, bad := range map[string]string{
		"none": "", "forged": forged, "of the console before": stale, "cut": tok[:len(tok)-1], "longer": tok + "A",
		"without a signature": strings.Split(tok, ".")[0] + ".", "another's signature": strings.Split(tok, ".")[0] + "." + strings.Split(other, ".")[1],
	} {
		_, ok := links.Use(bad, now)
		require.False(t, ok, name)
	}

	name, ok := links.Use(tok, now.Add(LinkLife))
	require.True(t, ok)
	require.Equal(t, "j.smith", name)

	_, ok = links.Use(tok, now)
	require.False(t, ok, "it is used")
	_, ok = links.Use(other, now.Add(LinkLife+time.Second))
	require.False(t, ok, "it is too old")
	_, ok = links.Use(other, now.Add(LinkLife))
	require.True(t, ok)

	_, ok = old.Use(stale, now)
	require.True(t, ok)
}

func token(t *testing.T, dir, name string, now time.Time) string {
	t.Helper()

	link, err := NewLink(dir, name, now)
	require.NoError(t, err)

	before, tok, found := strings.Cut(link, "?t=")
	require.True(t, found)
	require.Equal(t, "http://127.0.0.1:8490"+LinkPath, before)

	return tok
}
