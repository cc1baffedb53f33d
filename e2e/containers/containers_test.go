//go:build linux

package containers_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/containers"
	"bobosync/e2e/harness"
	"bobosync/e2e/workload"
)

// Variables that make test-containers sets.
const (
	imagesVariable  = "BOBOSYNC_IMAGES"  // directory with the images
	versionVariable = "BOBOSYNC_VERSION" // their tag
	composeVariable = "BOBOSYNC_COMPOSE" // the compose command
)

const idleWithin = 90 * time.Second

var engine *containers.Engine

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (status int) {
	if os.Getenv(imagesVariable) == "" {
		fmt.Println("the images are not run: make test-containers does it")
		return m.Run()
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	var err error
	engine, err = containers.FindEngine(ctx)
	if errors.Is(err, containers.ErrNoEngine) {
		fmt.Printf("SKIPPED: the images are not run: %v\n", err)
		return m.Run()
	}

	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer func() {
		if err := engine.Close(); err != nil {
			fmt.Println(err)

			status = 1
		}
	}()

	if err := load(ctx, os.Getenv(imagesVariable)); err != nil {
		fmt.Println(err)
		return 1
	}

	return m.Run()
}

// load loads the images in a directory into the engine.
func load(ctx context.Context, dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.tar"))
	if err == nil && len(paths) == 0 {
		err = errors.New("make images has left nothing there")
	}

	for _, path := range paths {
		if err == nil {
			_, err = engine.Docker(ctx, "load", "--quiet", "--input", path)
		}
	}

	return err
}

func start(t *testing.T, seed uint64, files int, compose ...string) (*containers.Project, workload.Plan) {
	needEngine(t)
	return startOf(t, root(t), os.Getenv(versionVariable), seed, files, compose...)
}

func needEngine(t *testing.T) {
	t.Helper()

	if engine == nil {
		t.Skip("it needs a container engine and images: make test-containers")
	}
}

// root returns the root of the source tree.
func root(t *testing.T) string {
	t.Helper()

	root, err := filepath.Abs("../..")
	require.NoError(t, err)

	return root
}

// startOf starts the release in a source tree.
func startOf(t *testing.T, root, version string, seed uint64, files int, compose ...string) (*containers.Project, workload.Plan) {
	zone, err := time.LoadLocation(harness.BoboZone)
	require.NoError(t, err)

	plan := workload.New(workload.Options{
		Seed: seed, Now: time.Now(), Zone: zone, Lifetime: harness.Lifetime, Files: files, Span: time.Duration(files) * 250 * time.Millisecond,
	})
	for i := range plan.Files {
		plan.Files[i].Pieces = nil // a busy machine might write them too slowly
	}

	p, err := containers.Start(t.Context(), containers.Config{
		Engine: engine, Dir: workDir(t), Root: root, Compose: strings.Fields(os.Getenv(composeVariable)), Version: version,
		Files: append(compose, "deploy/compose.try.yaml", "e2e/containers/testdata/test.yaml"), Plan: plan,
	})
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	require.NoError(t, err)
	require.NoError(t, p.Healthy(t.Context(), time.Minute))

	return p, plan
}

// workDir is like t.TempDir, but the directory is kept if the test fails.
func workDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "containers-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755)) // the user in the containers must be able to enter it
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("logs and files are in %s", dir)
			return
		}

		require.NoError(t, os.RemoveAll(dir))
	})

	return dir
}

// judge waits until everything is done and lets the auditor judge.
func judge(t *testing.T, p *containers.Project) {
	t.Helper()
	idle := p.Idle(t.Context(), idleWithin)
	report, err := p.Judge(t.Context())
	require.NoError(t, err)

	for _, f := range report.Findings {
		t.Error(f)
	}

	require.NoError(t, idle)
	require.Positive(t, report.Rows)
	require.Positive(t, report.Sent)
	t.Logf("%d rows, %d of them rejected; %d calls with %d users", report.Rows, report.Rejected, report.Updates, report.Sent)
}

// during drops files while do changes something about the containers, and returns when both are done.
func during(t *testing.T, p *containers.Project, files []workload.File, do func()) {
	t.Helper()

	dropped := make(chan error, 1)
	go func() { dropped <- p.DropAll(t.Context(), files) }()

	do()
	require.NoError(t, <-dropped)
}

func calls(t *testing.T, p *containers.Project) int {
	n, err := p.Calls(t.Context())
	require.NoError(t, err)
	return n
}

// from shifts the files' times so that the first file is dropped at once.
func from(files []workload.File) []workload.File {
	files = append([]workload.File(nil), files...)
	first := files[0].At
	for i := range files {
		files[i].At -= first
	}

	return files
}

// refused is what a command says if the broker does not know its key.
const refused = "broker refuses the login"

// requireShortStop checks that files did not wait for long because of what an operator has done since then.
func requireShortStop(t *testing.T, p *containers.Project, since time.Time) {
	t.Helper()

	stop := p.LongestStop(since)
	t.Logf("nothing was confirmed for %s at most", stop)
	require.Positive(t, stop)
	require.Less(t, stop, time.Minute)
}

// TestContainersWithOneBroker runs deploy/compose.yaml and plays the faults that containers meet.
func TestContainersWithOneBroker(t *testing.T) {
	p, plan := start(t, 1, 210)
	ctx := t.Context()

	t.Run("scale publishers up and down", func(t *testing.T) {
		during(t, p, from(plan.Files[:20]), func() { require.NoError(t, p.Scale(ctx, "publisher", 4)) })
		ids, err := p.Containers(ctx, "publisher")
		require.NoError(t, err)
		require.Len(t, ids, 4)
		during(t, p, from(plan.Files[20:40]), func() { require.NoError(t, p.Scale(ctx, "publisher", 1)) })
		ids, err = p.Containers(ctx, "publisher")
		require.NoError(t, err)
		require.Len(t, ids, 1)
		judge(t, p)
	})
	t.Run("kill each container and replace it", func(t *testing.T) {
		during(t, p, from(plan.Files[40:60]), func() {
			for _, service := range []string{"ingest", "resolver", "publisher", "janitor", "nats", "athocsim"} {
				require.NoError(t, p.Kill(ctx, service))
			}
		})
		// An upgrade replaces the containers, with work in flight.
		during(t, p, from(plan.Files[60:80]), func() {
			_, err := p.Compose(ctx, "up", "--detach", "--force-recreate", "--no-deps", "ingest", "resolver", "publisher", "janitor")
			require.NoError(t, err)
		})
		judge(t, p)
	})
	t.Run("cut the publisher off from AtHoc", func(t *testing.T) {
		during(t, p, from(plan.Files[80:120]), func() {
			require.NoError(t, p.AwaitCalls(ctx, calls(t, p), time.Minute))
			require.NoError(t, p.Cut(ctx, "publisher", "outside", 5*time.Second))
		})
		judge(t, p)
	})
	t.Run("rotate the keys of services", func(t *testing.T) {
		key, err := p.Key("ingest")
		require.NoError(t, err)
		var since time.Time
		during(t, p, from(plan.Files[120:150]), func() {
			require.NoError(t, p.AwaitCalls(ctx, calls(t, p), time.Minute))

			since = time.Now()

			require.NoError(t, p.Rotate(ctx, "ingest", "publisher"))
		})
		judge(t, p)
		requireShortStop(t, p, since)
		_, err = p.Operate(ctx, key, "files", "list")
		require.ErrorContains(t, err, refused)
	})
	t.Run("withdraw an operator's key that is in use", func(t *testing.T) {
		require.NoError(t, p.Operators(ctx, "ADD=jsmith"))
		key, err := p.Key("operator-jsmith")
		require.NoError(t, err)
		require.Eventually(t, func() bool { // the broker was restarted for the key, and the janitor may not have connected to it again
			_, err = p.Operate(ctx, key, "mapping", "refresh", "--no-wait")
			return err == nil
		}, time.Minute, time.Second)

		watch, err := p.Begin(ctx, key, "status", "--watch")
		require.NoError(t, err)
		require.NoError(t, p.Says(ctx, watch, "complete up to", time.Minute))
		var since time.Time
		during(t, p, from(plan.Files[150:170]), func() {
			require.NoError(t, p.AwaitCalls(ctx, calls(t, p), time.Minute))

			since = time.Now()

			require.NoError(t, p.Operators(ctx, "WITHDRAW=jsmith"))
		})
		judge(t, p)
		requireShortStop(t, p, since)
		require.NoError(t, p.Says(ctx, watch, refused, time.Minute))
		_, err = p.Operate(ctx, key, "mapping", "refresh", "--no-wait")
		require.ErrorContains(t, err, refused)
	})
	t.Run("lose the broker's volume", func(t *testing.T) {
		before := calls(t, p)
		_, err := p.Sim.Fault(ctx, sim.Fault{Kind: sim.FaultStatus, Status: 503})
		require.NoError(t, err)
		during(t, p, from(plan.Files[170:]), func() {
			require.NoError(t, p.AwaitCalls(ctx, before, time.Minute)) // an update waits that AtHoc has not accepted
			require.NoError(t, p.LoseStore(ctx, "nats", "nats-data"))
		})
		names, err := p.In.Names()
		require.NoError(t, err)
		require.NotEmpty(t, names, "files wait for AtHoc")
		require.NoError(t, p.Sim.Calm(ctx))
		judge(t, p)
	})
	require.NoError(t, p.Healthy(ctx, time.Minute))
	said, err := p.Compose(ctx, "run", "--rm", "--no-deps", "operator", "files", "show", "probe.csv")
	require.NoError(t, err)
	require.Contains(t, said, "probe.csv")
}

// TestContainersWithThreeBrokers runs deploy/compose.cluster.yaml, and checks that work goes on while one of three
// brokers is down.
func TestContainersWithThreeBrokers(t *testing.T) {
	p, plan := start(t, 2, 60, "deploy/compose.cluster.yaml", "e2e/containers/testdata/cluster.yaml")
	ctx := t.Context()
	_, err := p.Compose(ctx, "stop", "nats-1")
	require.NoError(t, err)
	require.NoError(t, p.DropAll(ctx, from(plan.Files[:30])))
	judge(t, p) // nothing waits for the broker that is gone\p
	_, err = p.Compose(ctx, "start", "nats-1")
	require.NoError(t, err)
	during(t, p, from(plan.Files[30:]), func() { require.NoError(t, p.Kill(ctx, "nats-2")) })
	require.NoError(t, p.Healthy(ctx, time.Minute))
	judge(t, p)
}

// ofOneAccount is the last commit in which all users of the broker shared one account.
const ofOneAccount = "8e1707d"

// TestContainersAreUpgraded replaces the release from before accounts with this one while files arrive, as
// docs/deploy.md describes it, and checks that nothing stops for long.
func TestContainersAreUpgraded(t *testing.T) {
	needEngine(t)

	ctx, old := t.Context(), t.TempDir()
	if err := harness.Checkout(ctx, ofOneAccount, old); errors.Is(err, harness.ErrNoHistory) {
		t.Skip(err)
	} else {
		require.NoError(t, err)
	}

	const version = "of-one-account"
	images := exec.CommandContext(ctx, "make", "-C", old, "images", "ARCHES="+runtime.GOARCH, "VERSION="+version, "REVISION="+ofOneAccount, "CREATED=0")
	out, err := images.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, load(ctx, filepath.Join(old, "bin", "images")))

	p, plan := startOf(t, old, version, 3, 60)
	during(t, p, from(plan.Files[:20]), func() { require.NoError(t, p.AwaitCalls(ctx, calls(t, p), time.Minute)) })
	var since time.Time
	during(t, p, from(plan.Files[20:]), func() {
		require.NoError(t, p.AwaitCalls(ctx, calls(t, p), time.Minute))

		since = time.Now()

		require.NoError(t, p.Upgrade(ctx, root(t), os.Getenv(versionVariable)))
	})
	judge(t, p)
	requireShortStop(t, p, since)
	require.NoError(t, p.Healthy(ctx, time.Minute))
	key, err := p.Key("operator")
	require.NoError(t, err)

	said, _ := p.Operate(ctx, key, "check", "--running") // the exit status is not 0, because AtHoc is called without TLS
	require.Contains(t, said, "0 problems")
}
