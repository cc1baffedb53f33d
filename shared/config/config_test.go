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

// TestPasswordsDoNotTravelInTheClear: http is refused unless it is this machine, or allowed.
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
