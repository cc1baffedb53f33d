package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sethvargo/go-envconfig"
	"github.com/stretchr/testify/require"
)

type all struct {
	Broker   Broker
	AtHoc    AtHoc
	Calls    Calls
	Lifetime Lifetime
	Log      Log
}

func (a *all) Validate() error {
	for _, v := range []Validator{a.Broker, a.AtHoc, a.Calls, a.Lifetime, a.Log} {
		if err := v.Validate(); err != nil {
			return err
		}
	}

	return nil
}

func good() map[string]string {
	return map[string]string{
		"ATHOC_SERVER_URL": "https://alerts.example.org", "CLIENT_ID": "c", "CLIENT_SECRET": "s3cret", "USERNAME": "u",
		"PASSWORD": "pa55word", "ORG_CODE": "o",
	}
}

func TestDefaults(t *testing.T) {
	var c all
	require.NoError(t, Load(t.Context(), Map(good()), &c))
	require.Equal(t, 2.0, c.Calls.RateLimit)
	require.Equal(t, 30*time.Second, c.Calls.Timeout)
	require.Equal(t, 24*time.Hour, c.Lifetime.Duration())
	require.Equal(t, "On-Duty-DTG", c.AtHoc.DutyStatusField)
	require.Equal(t, "u", c.AtHoc.Account())
	require.Equal(t, time.Local, c.AtHoc.Zone.Location())
}

// TestEverythingWrongIsNamedAtOnce: one run names each variable that is wrong, and quotes no secret.
func TestEverythingWrongIsNamedAtOnce(t *testing.T) {
	vars := good()
	vars["ATHOC_TIMEOUT"] = "thirty"
	vars["STREAM_REPLICAS"] = "x"
	vars["DISABLE_SSL_VERIFY"] = "maybe"
	vars["ATHOC_TIMEZONE"] = "Europe/Nowhere"
	vars["ATHOC_RATE_LIMIT"] = "fast"
	vars["PASSWORD"] = ""
	delete(vars, "ORG_CODE")
	err := Load(t.Context(), Map(vars), &all{})
	require.Error(t, err)

	for _, name := range []string{
		"ATHOC_TIMEOUT: not a duration", "STREAM_REPLICAS: not a whole number", "DISABLE_SSL_VERIFY: neither true nor false",
		"ATHOC_TIMEZONE: ", "ATHOC_RATE_LIMIT: not a number", "PASSWORD: not set", "ORG_CODE: not set",
	} {
		require.ErrorContains(t, err, name)
	}

	require.NotContains(t, err.Error(), "s3cret")
	require.Len(t, strings.Split(err.Error(), "\n"), 7, err)
}

func TestFilesHoldSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte("from file\n"), 0o600))

	vars := good()
	delete(vars, "PASSWORD")
	vars["PASSWORD_FILE"] = path
	var c all
	require.NoError(t, Load(t.Context(), Map(vars), &c))
	require.Equal(t, "from file", c.AtHoc.Password.Reveal())

	vars["PASSWORD"] = "both"
	require.ErrorContains(t, Load(t.Context(), Map(vars), &all{}), "PASSWORD and PASSWORD_FILE are both set")

	delete(vars, "PASSWORD")
	vars["PASSWORD_FILE"] = path + ".missing"
	require.ErrorContains(t, Load(t.Context(), Map(vars), &all{}), "PASSWORD_FILE: open ")
}

func TestEnvironmentWinsOverDotenv(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".env")
	require.NoError(t, os.WriteFile(path, []byte("ORG_CODE=dotenv\nUSERNAME=dotenv\nCLIENT_ID='a$b#c'\n"), 0o600))
	t.Setenv("ORG_CODE", "environment")
	t.Setenv("USERNAME", "logged-in")

	source, err := Environment(path, true)
	require.NoError(t, err)
	var c struct{ AtHoc AtHoc }
	require.NoError(t, Load(t.Context(), source, &c))
	require.Equal(t, "environment", c.AtHoc.OrgCode)
	require.Equal(t, "dotenv", c.AtHoc.Account(), "Windows sets USERNAME to the user logged in")
	require.Equal(t, "a$b#c", c.AtHoc.ClientID)
}

func TestDotenvMustExistWhenNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent.env")
	_, err := Environment(path, false)
	require.NoError(t, err)
	_, err = Environment(path, true)
	require.ErrorContains(t, err, path)
}

func TestSecretsStayHidden(t *testing.T) {
	s := Secret("s3cret")
	data, err := json.Marshal(map[string]any{"s": s})
	require.NoError(t, err)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "struct", AtHoc{Password: s})

	for _, text := range []string{string(data), log.String(), fmt.Sprintf("%v %+v %#v %s %q", s, AtHoc{Password: s}, AtHoc{Password: s}, s, s)} {
		require.NotContains(t, text, "s3cret")
	}
}

// TestPasswordsDoNotTravelInTheClear: http is refused unless the host is this machine, or http is allowed.
func TestPasswordsDoNotTravelInTheClear(t *testing.T) {
	t.Parallel()

	for address, refused := range map[string]bool{
		"https://alerts.example.org": false, "http://alerts.example.org": true, "HTTP://alerts.example.org": true,
		"http://localhost:8480": false, "http://127.0.0.2": false, "http://[::1]:80": false, "http://localhost.example.org": true, "http://10.0.0.1": true,
	} {
		a := AtHoc{ServerURL: address, ClientID: "c", ClientSecret: "s", APIUser: "u", Password: "p", OrgCode: "o"}
		err := a.Validate()
		require.Equal(t, refused, err != nil, "%s: %v", address, err)

		if !refused {
			require.Empty(t, a.Insecure())
			continue
		}

		require.ErrorContains(t, err, "ATHOC_ALLOW_HTTP")

		a.AllowHTTP, a.DisableSSLVerify = true, true
		require.NoError(t, a.Validate())
		require.Equal(t, []string{"ATHOC_ALLOW_HTTP", "DISABLE_SSL_VERIFY"}, a.Insecure())
	}
}

// TestValuesInFiles: what editors and shells do to a file with one value, and files that hold no value.
func TestValuesInFiles(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	const secret = "pa ss\u00e9"
	for name, c := range map[string]struct {
		content []byte
		value   string
		says    string
	}{
		"a line":           {[]byte(secret + "\n"), secret, ""},
		"no line end":      {[]byte(secret), secret, ""},
		"line ends":        {[]byte(secret + "\r\n\r\n"), secret, ""},
		"a mark":           {[]byte("\ufeff" + secret + "\r\n"), secret, ""},
		"blanks belong":    {[]byte(" " + secret + " \n"), " " + secret + " ", ""},
		"UTF-16":           {inUTF16(secret, 0, 1), "", "is written in UTF-16"},
		"UTF-16, no mark":  {inUTF16(secret, 1, 0)[2:], "", "is written in UTF-16"},
		"an older charset": {[]byte("pa ss\xe9\n"), "", "older encoding"},
		"too large":        {make([]byte, maxDotEnv+1), "", "too large for a value"},
		"empty":            {nil, "", "PASSWORD: not set"},
	} {
		path := filepath.Join(dir, "value")
		require.NoError(t, os.WriteFile(path, c.content, 0o600))

		vars := good()
		delete(vars, "PASSWORD")
		vars["PASSWORD_FILE"] = path

		var got all
		err := Load(t.Context(), Map(vars), &got)
		if c.says == "" {
			require.NoError(t, err, name)
			require.Equal(t, c.value, got.AtHoc.Password.Reveal(), name)
			continue
		}

		require.ErrorContains(t, err, c.says, name)
		require.ErrorContains(t, err, "PASSWORD", name)
		require.NotContains(t, err.Error(), "pa ss", name)
	}

	vars := good()
	delete(vars, "PASSWORD")
	vars["PASSWORD_FILE"] = dir
	require.ErrorContains(t, Load(t.Context(), Map(vars), &all{}), "PASSWORD_FILE: ", "a directory")
}

// TestValuesThatCannotBeMeant: numbers that parse but would overflow or practically stop the sending, and quotes that
// nothing removes.
func TestValuesThatCannotBeMeant(t *testing.T) {
	for variable, values := range map[string][]string{
		"ATHOC_RATE_LIMIT":   {"NaN", "+Inf", "-Inf", "0", "-1", "1e-300", "1e300"},
		"ATHOC_TIMEOUT":      {"0s", "-30s", "2000000h", "30"},
		"AUTO_CLEANUP_HOURS": {"-1", "9999999999", "2562048", "24h", "1.5"},
		"LOG_PURGE_DAYS":     {"-1", "9223372036854775807"},
		"STREAM_MAX_AGE":     {"0", "-1h", "9999999999h", "168"},
		"AUDIT_DAYS":         {"0", "-400", "40000"},
		"ENTRIES_MAX_BYTES":  {"2GB", "-1", "0"},
		"STREAM_REPLICAS":    {"0", "-1", "three"},
	} {
		for _, value := range values {
			vars := good()
			vars[variable] = value
			require.ErrorContains(t, Load(t.Context(), Map(vars), &all{}), variable+": ", value)
		}
	}

	for variable, value := range map[string]string{"ORG_CODE": `"org"`, "ATHOC_RATE_LIMIT": "'2'", "PASSWORD": `"s3cret"`} {
		t.Setenv(variable, value)

		source := Map(good())
		source.env = envconfig.OsLookuper()
		err := Load(t.Context(), source, &all{})
		require.ErrorContains(t, err, variable+": begins and ends with a quote")
		require.NotContains(t, err.Error(), "s3cret")
		t.Setenv(variable, "")
	}
}
