package main

import "time"

// Paths in the images.
const (
	dataDir  = "/data"
	filesDir = "/files"
	caFile   = "/etc/ssl/certs/ca-certificates.crt"
)

// userID is the user that programs run as. It is a number, since there is no /etc/passwd, and Kubernetes can then see that it is
// not root.
const userID = 65532

// program is what an image runs.
type program struct {
	// name is the file in the root directory.
	name string
	// module is the directory from which it is built, below the root of the source tree; pkg is the package.
	module, pkg string
	// module's own version and time zones are built into the project's programs, not into others'.
	own bool
}

// spec is what an image is made of.
type spec struct {
	name, title string
	programs    []program // the first is the one to run
	cmd         []string
	env         []string
	health      []string
	startPeriod time.Duration
	dirs        []string // that belong to userID
	ports       []string
}

// probe asks an address over HTTP, for images whose programs do not answer for themselves.
var probe = program{name: "healthcheck", module: "deploy", pkg: "./images/cmd/healthcheck"}

// addresses of the pages on health and figures.
const (
	statusPort = "8080"
	// consolePort is where the console listens; what it demands for that is said in docs/deploy.md.
	consolePort = "8470"
	statusEnv   = "HTTP_ADDR=:" + statusPort
)

func service(name, title string, env []string, dirs ...string) spec {
	return spec{
		name: "bobosync-" + name, title: title,
		programs: []program{{name: name, module: "services/" + name, pkg: "./cmd/" + name, own: true}},
		env:      append([]string{statusEnv}, env...),
		health:   []string{"/" + name, "-healthcheck"}, startPeriod: 30 * time.Second,
		dirs: dirs, ports: []string{statusPort + "/tcp"},
	}
}

// ingestEnv names the directories of files. They lie in one directory, to be mounted as one: between two mounts a file is
// copied, and cannot be renamed.
var ingestEnv = []string{
	"CSV_DIRECTORY=" + filesDir + "/in", "PROCESSED_DIRECTORY=" + filesDir + "/processed", "FAILED_FILES_DIRECTORY=" + filesDir + "/failed",
}

// catalog is every image, in the order in which they are made.
func catalog() []spec {
	memory := "DATA_DIRECTORY=" + dataDir
	files := []string{filesDir, filesDir + "/in", filesDir + "/processed", filesDir + "/failed"}

	return []spec{
		service("ingest", "BOBO Sync: reads the duty clock's files", append([]string{memory}, ingestEnv...), append([]string{dataDir}, files...)...),
		service("resolver", "BOBO Sync: finds each worker's latest event", []string{memory}, dataDir),
		service("publisher", "BOBO Sync: writes duty statuses to AtHoc", nil),
		service("janitor", "BOBO Sync: does what is done by the clock", nil),
		service("console", "BOBO Sync: the operators' web console", []string{"CONSOLE_ADDR=:" + consolePort}),
		{
			// Without what runs services and broker in one process: here each has an image of its own.
			name: "bobosync", title: "BOBO Sync: the operators' commands",
			programs: []program{{name: "bobosync", module: "cmd", pkg: "./bobosync/operator", own: true}},
			cmd:      []string{"--help"},
		},
		{
			name: "bobosync-athocsim", title: "Simulator of the AtHoc web API, to try BOBO Sync out",
			programs: []program{{name: "athocsim", module: "cmd/athocsim", pkg: ".", own: true}, probe},
			env:      []string{"ATHOCSIM_LISTEN=:8480"},
			health:   []string{"/healthcheck", "http://127.0.0.1:8480/sim/stats"},
			dirs:     []string{dataDir}, ports: []string{"8480/tcp"},
		},
		{
			name: "bobosync-nats", title: "NATS server, as its makers publish its source",
			programs: []program{{name: "nats-server", module: "deploy", pkg: "github.com/nats-io/nats-server/v2"}, probe},
			cmd:      []string{"-c", "/etc/nats/nats.conf"},
			health:   []string{"/healthcheck", "http://127.0.0.1:8222/healthz"}, startPeriod: 30 * time.Second,
			dirs: []string{dataDir}, ports: []string{"4222/tcp", "6222/tcp", "8222/tcp"},
		},
	}
}
