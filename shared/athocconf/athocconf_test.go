package athocconf_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"bobosync/shared/athoc"
	"bobosync/shared/athocconf"
	"bobosync/shared/breaker"
	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/tokens"
	"bobosync/shared/topology"
)

func settings(server string) config.AtHoc {
	return config.AtHoc{
		ServerURL: server, OrgCode: "ORG", ClientID: "client", ClientSecret: "client-secret", APIUser: "operator",
		Username: "not used", Password: "password", Scope: "athoc.iws.web.api", DutyStatusField: "Duty",
		Zone: config.InZone(time.FixedZone("", 3600)),
	}
}

func TestClientSendsWhatTheSettingsSay(t *testing.T) {
	var form url.Values
	var agent, path, body string

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agent = r.UserAgent()
		if r.URL.Path == "/AuthServices/Auth/connect/token" {
			assert.NoError(t, r.ParseForm())
			form = r.PostForm
			_, _ = w.Write([]byte(`{"access_token":"a","expires_in":3600,"token_type":"Bearer"}`))
			return
		}

		path = r.URL.Path
		var users []map[string]string
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&users))
		body = users[0]["Duty"]
		_, _ = w.Write([]byte(`[]`))
	}))
	defer server.Close()

	client, err := athocconf.Client(settings(server.URL), config.Calls{Timeout: 5 * time.Second}, nil, "1.2.3", bustest.Logger())
	require.NoError(t, err)

	defer client.Close()

	_, err = client.UpdateDutyStatus(t.Context(), []athoc.DutyStatus{{Username: "u", Since: time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)}})
	require.NoError(t, err)

	assert.Equal(t, "bobosync/1.2.3", agent)
	assert.Equal(t, "/api/v2/orgs/ORG/users/SyncByCommonNames", path)
	assert.Equal(t, "17/06/2024 13:00:00", body)

	for field, want := range map[string]string{"client_id": "client", "client_secret": "client-secret", "username": "operator",
		"password": "password", "scope": "athoc.iws.web.api", "acr_values": "tenant:ORG"} {
		assert.Equal(t, want, form.Get(field), field)
	}
}

func TestClientNamesTheVariableAtFault(t *testing.T) {
	bad := settings("alerts.example.org")
	bad.SSLCertPath = "no-such-file.pem"
	_, err := athocconf.Client(bad, config.Calls{Timeout: time.Second}, nil, "", bustest.Logger())
	require.ErrorContains(t, err, "ATHOC_SERVER_URL")

	bad.ServerURL = "https://alerts.example.org"
	_, err = athocconf.Client(bad, config.Calls{Timeout: time.Second}, nil, "", bustest.Logger())
	require.ErrorContains(t, err, "SSL_CERT_PATH")
	assert.NotContains(t, err.Error(), "client-secret")
}

// TestLimitsTellSettingsApart: all who have the same settings share a name for them, which is not derived from the
// secrets.
func TestLimitsTellSettingsApart(t *testing.T) {
	t.Parallel()

	limits := func(js jetstream.JetStream, a config.AtHoc) breaker.Limits {
		store, err := tokens.New(js, a, bustest.Logger())
		require.NoError(t, err)
		l, err := athocconf.Limits(t.Context(), a, config.Calls{RateLimit: 2, Timeout: time.Second}, store)
		require.NoError(t, err)
		require.Equal(t, 2.0, l.Rate)
		require.Equal(t, time.Second, l.CallTimeout)

		return l
	}
	bucket := func() jetstream.JetStream {
		js := bustest.Start(t).Connect(t).JS
		_, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: topology.BucketState})
		require.NoError(t, err)
		return js
	}

	js, usual := bucket(), settings("https://alerts.example.org")
	mine := limits(js, usual)
	for _, change := range []func(*config.AtHoc){
		func(a *config.AtHoc) { a.Password = "q" }, func(a *config.AtHoc) { a.ClientSecret = "t" }, func(a *config.AtHoc) { a.Scope = "z" },
		func(a *config.AtHoc) { a.DutyStatusField = "y" }, func(a *config.AtHoc) { a.ServerURL = "https://other.example.org" },
	} {
		a := usual
		change(&a)
		require.NotEqual(t, mine.Settings, limits(js, a).Settings)
		require.Equal(t, mine, limits(js, usual), "the others do not change it")
	}

	a := usual
	a.OrgCode = "x"
	require.NotEqual(t, mine.Settings, limits(js, a).Settings)
	require.NotEqual(t, mine.Settings, limits(bucket(), usual).Settings, "it is random")
}
