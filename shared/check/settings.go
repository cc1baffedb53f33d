package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"bobosync/shared/config"
)

// checkSettings judges the variables: what is missing or wrong, what looks like a typing error, who can read the
// secrets.
func checkSettings(_ context.Context, f *facts) []Result {
	var results []Result
	if f.Findings != nil {
		for line := range strings.SplitSeq(f.Findings.Error(), "\n") {
			results = append(results, finding(line)...)
		}
	}

	if f.Unread {
		return results
	}

	written, err := config.ReadDotEnv(f.EnvFile, true)
	if err != nil {
		written = config.DotEnv{} // there is no file, which is fine, or the findings report it
	}

	results = append(results, slips(slices.Sorted(maps.Keys(written.Vars)), f.Known)...)
	for _, name := range written.Twice {
		results = append(results, named(name, warn("keep one line", "%s has several lines for it, of which the last counts", f.EnvFile))...)
	}

	results = append(results, exposed(f.EnvFile, written.Vars, f.Broker.Creds, f.Getenv)...)
	results = append(results, f.unsafe()...)
	switch {
	case len(results) > 0:
		return results
	case f.Running:
		return good("the service runs with them")
	default:
		return good("%d variables are known, nothing is missing or wrong", len(f.Known))
	}
}

// finding makes a result from a line such as "CSV_DIRECTORY: not set, and there is no default".
func finding(line string) []Result {
	name, text, ok := strings.Cut(line, ": ")
	if !ok || name != strings.ToUpper(name) || strings.Contains(name, " ") {
		return bad("correct the settings; .env.example explains them", "%s", line)
	}

	return named(name, bad("set "+name+" in the environment or in .env; .env.example explains it", "%s", text))
}

// slips finds variables in the .env file that no program reads and that closely resemble one that is read.
func slips(written, known []string) []Result {
	var results []Result
	for _, name := range written {
		if slices.Contains(known, name) || slices.Contains(known, strings.TrimSuffix(name, "_FILE")) {
			continue
		}

		if meant := nearest(name, known); meant != "" {
			results = append(results, named(name, warn("rename it, or remove it", "no program reads this variable: is %s meant?", meant))...)
		}
	}

	return results
}

// nearest returns the known name that was most likely meant by a wrong one; "" if it resembles none.
func nearest(name string, known []string) string {
	best, meant := 3, ""
	for _, k := range known {
		d := distance(bare(name), bare(k))
		if len(name) > 3 && strings.HasPrefix(k, name) {
			d = min(d, 1) // LOG_DIR for LOG_DIRECTORY
		}

		// In a short name, two slips make it another name.
		if d < best && d*4 <= len(k) {
			best, meant = d, k
		}
	}

	return meant
}

// bare returns a name without letter case and underscores, which people get wrong first.
func bare(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "_", "")) }

// distance returns how many letters must be inserted, removed, replaced or swapped with their neighbour to turn a into
// b.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}

	for j := range rows[0] {
		rows[0][j] = j
	}

	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}

			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}

	return rows[len(a)][len(b)]
}

var (
	// secrets are the variables that nobody else should be able to read.
	secrets = []string{
		"PASSWORD", "CLIENT_SECRET", "NOTIFY_SMTP_PASSWORD", "NOTIFY_WEBHOOK_SECRET", "NOTIFY_WEBHOOK_URL", "NOTIFY_TEAMS_URL", "HEARTBEAT_URL",
		"OTEL_EXPORTER_OTLP_HEADERS", "CONSOLE_SESSION_KEY", "CONSOLE_WALL_TOKEN", "CONSOLE_OIDC_CLIENT_SECRET",
	}

	// addresses are the variables that can hold a password.
	addresses = []string{
		"NATS_URL", "NATS_MONITOR_URL", "HTTP_PROXY", "HTTPS_PROXY", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
	}

	// trusted are the variables that name a file by which we tell others from impostors, in addition to the key for the
	// broker.
	trusted = []string{
		"SSL_CERT_PATH", "NATS_CA", "NOTIFY_SMTP_CA", "CONSOLE_CLIENT_CA", "CONSOLE_TLS_CERT", "CONSOLE_TLS_KEY", "CONSOLE_OPERATOR_CREDS", "CONSOLE_USERS_FILE",
	}
)

// exposed warns of files with secrets that everybody on the machine can read, or that others can write: whoever writes
// a secret chooses the account that is used.
func exposed(envFile string, written map[string]string, creds string, getenv func(string) string) []Result {
	var results []Result
	for _, file := range []string{envFile, creds} {
		if file == envFile && !holdsSecret(written) {
			continue
		}

		info, err := os.Stat(file)
		if err == nil && open(info.Mode()) {
			results = append(results, warn("chmod 600 "+file, "everybody on this machine can read the secrets in %s", file)...)
		}

		if errors.Is(err, fs.ErrNotExist) && file == creds && creds != "" {
			results = append(results, named("NATS_CREDS", bad("name the file with this service's credentials", "%s does not exist", file))...)
		}
	}

	files := []string{envFile, creds}
	for _, name := range secrets {
		files = append(files, cmp.Or(getenv(name+"_FILE"), written[name+"_FILE"]))
	}

	for _, name := range trusted {
		files = append(files, cmp.Or(getenv(name), written[name]))
	}

	for _, file := range files {
		if file == "" {
			continue
		}

		if info, err := os.Stat(file); err == nil && changeable(info.Mode()) {
			results = append(results, warn("chmod go-w "+file, "others on this machine can write to %s, and so choose what is read from it", file)...)
		}

		dir := filepath.Dir(file)
		if info, err := os.Stat(dir); err == nil && changeable(info.Mode()&^0o020) && info.Mode()&fs.ModeSticky == 0 { // groups are often personal
			results = append(results, warn("chmod go-w "+dir, "others on this machine can write to %s, and so replace %s", dir, file)...)
		}
	}

	return results
}

// holdsSecret reports whether one of the variables is a secret, or an address that contains one.
func holdsSecret(written map[string]string) bool {
	return slices.ContainsFunc(secrets, func(name string) bool { return written[name] != "" }) ||
		slices.ContainsFunc(addresses, func(name string) bool { return strings.Contains(written[name], "@") })
}

// changeable reports whether others than the owner may write to a file. On Windows the mode says nothing about that.
func changeable(mode fs.FileMode) bool { return runtime.GOOS != "windows" && mode.Perm()&0o022 != 0 }

// open reports whether others than owner and group may read a file. On Windows the mode says nothing about that.
func open(mode fs.FileMode) bool { return runtime.GOOS != "windows" && mode.Perm()&0o004 != 0 }

// unsafe warns of settings that are allowed but unwise.
func (f *facts) unsafe() []Result {
	if f.AtHoc == nil {
		return nil
	}

	var results []Result
	if f.AtHoc.DisableSSLVerify {
		results = append(results, named("DISABLE_SSL_VERIFY", warn(
			"unset it; if AtHoc's certificate is signed by an authority of your own, name that authority's certificate in SSL_CERT_PATH",
			"AtHoc's certificate is not verified: anyone in between can read the password and answer in AtHoc's place"))...)
	}

	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} {
		set := map[string]string{"HTTP_PROXY": f.AtHoc.HTTPProxy, "HTTPS_PROXY": f.AtHoc.HTTPSProxy, "NO_PROXY": f.AtHoc.NoProxy}[name]
		if lower := strings.ToLower(name); set == "" && runtime.GOOS != "windows" && f.Getenv(lower) != "" {
			results = append(results, named(lower, warn(fmt.Sprintf("set %s if the services are to use it", name),
				"it is set in the environment, but only %s is read", name))...)
		}
	}

	return results
}

// Variables lists the names of all variables that a settings struct reads, taken from its env tags.
func Variables(settings reflect.Type) []string {
	var names []string
	for field := range settings.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
		switch {
		case name != "":
			names = append(names, name)
		case field.Type.Kind() == reflect.Struct:
			names = append(names, Variables(field.Type)...)
		}
	}

	slices.Sort(names)

	return slices.Compact(names)
}
