package main

import "time"

// Paths in the images.
const (
	dataDir  = "/data"
	filesDir = "/files"
	caFile   = "/etc/ssl/certs/ca-certificates.crt"
)

// userID is the user that programs run as. It is a number because there is no /etc/passwd, and because Kubernetes can
// then see that it is not root.
const userID = 65532

// program is a program in an image.
type program struct {
	// name is its file in the root directory.
	name string
	// module is the directory of the module that it is built in, below the root of the source tree; pkg is the
	// package.
	module, pkg string
	// own marks the project's own programs: the version and the time zones are built into these alone.
	own bool
}

// spec describes an image.
type spec struct {
	name, title string
	programs    []program // the first is the one to run
	cmd         []string
	env         []string
	health      []string
	startPeriod time.Duration
	dirs        []string // directories that belong to userID
	ports       []string
}

// probe asks an address over HTTP. It is for images whose programs have no health check of their own.
var probe = program{name: "healthcheck", module: "deploy", pkg: "./images/cmd/healthcheck"}

// Ports of the services' pages for health and metrics, and of the console.
const (
	statusPort = "8080"
	// consolePort is where the console listens; docs/deploy.md says what else it needs for that.
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

// ingestEnv names the directories of files. They lie below one directory, which should be mounted as a whole: between
// two mounts a file cannot be renamed and must be copied.
var ingestEnv = []string{
	"CSV_DIRECTORY=" + filesDir + "/in", "PROCESSED_DIRECTORY=" + filesDir + "/processed", "FAILED_FILES_DIRECTORY=" + filesDir + "/failed",
}

// catalog returns every image, in the order in which they are made.
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
			// It has no all-in-one program, which runs the services and the broker in one process: here each has an
			// image of its own.
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
