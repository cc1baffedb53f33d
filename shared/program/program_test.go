package program_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"bobosync/shared/bustest"
	"bobosync/shared/config"
	"bobosync/shared/program"
)

// helper makes the test binary act as a program, with the behaviour that the variable's value names.
const helper = "PROGRAM_TEST_SERVICE"

func TestMain(m *testing.M) {
	if behaviour := os.Getenv(helper); behaviour != "" {
		var s settings
		os.Exit(program.Main("tester", &s, services[behaviour]))
	}

	os.Exit(m.Run())
}

type settings struct {
	Broker config.Broker
	Log    config.Log
}

func (s *settings) Validate() error { return errors.Join(s.Broker.Validate(), s.Log.Validate()) }

func (s *settings) Common() (config.Broker, config.Log) { return s.Broker, s.Log }

var services = map[string]program.Service{
	"fails": func(context.Context, program.Deps) error { return errors.New("the disk is full") },
	"ends":  func(context.Context, program.Deps) error { return nil },
	"waits": func(ctx context.Context, deps program.Deps) error {
		fmt.Println("at work with", deps.Conn.NC.Opts.Name)
		<-ctx.Done()
		return fmt.Errorf("stopped in the middle: %w", ctx.Err())
	},
}

// command returns the command that runs the program. It inherits no settings from the test's own environment.
func command(t *testing.T, behaviour string, env []string, args ...string) *exec.Cmd {
	t.Helper()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)

	cmd := exec.CommandContext(ctx, os.Args[0], args...)

	cmd.Env = append([]string{helper + "=" + behaviour}, env...)
	cmd.Dir = t.TempDir()

	return cmd
}

func TestMainsExitStatusAndText(t *testing.T) {
	srv := bustest.Start(t)
	broker := "NATS_URL=" + srv.ClientURL()
	envFile := filepath.Join(t.TempDir(), "settings.env")
	require.NoError(t, os.WriteFile(envFile, []byte(broker+"\n"), 0o600))

	for name, c := range map[string]struct {
		behaviour string
		env, args []string
		status    int
		says      []string
	}{
		"version":         {"fails", nil, []string{"-version"}, 0, []string{"tester dev"}},
		"help":            {"fails", nil, []string{"-h"}, 0, []string{"-env", ".env"}},
		"unknown flag":    {"ends", []string{broker}, []string{"-nope"}, 2, []string{"-nope"}},
		"an argument":     {"ends", []string{broker}, []string{"production.env"}, 2, []string{"no arguments", "production.env"}},
		"no broker":       {"ends", nil, nil, 2, []string{"tester cannot start", "NATS_URL: not set", "nats://localhost:4222"}},
		"no such file":    {"ends", []string{broker}, []string{"-env", "missing.env"}, 2, []string{"missing.env"}},
		"all bad at once": {"ends", []string{"STREAM_REPLICAS=9", "LOG_LEVEL=LOUD", "ENTRIES_MAX_BYTES=1"}, nil, 2, []string{"STREAM_REPLICAS", "LOG_LEVEL", "ENTRIES_MAX_BYTES"}},
		"bad address":     {"ends", []string{"NATS_URL=nats://user:hunter2@"}, nil, 2, []string{"tester cannot start", "nats://host:port"}},
		"it fails":        {"fails", []string{broker}, nil, 1, []string{"tester cannot go on", "the disk is full"}},
		"it ends":         {"ends", nil, []string{"-env", envFile}, 0, []string{"tester starts", "tester has stopped"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			cmd := command(t, c.behaviour, c.env, c.args...)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err != nil {
				require.ErrorAs(t, err, &exit, "%s", out)
			}

			require.Equal(t, c.status, cmd.ProcessState.ExitCode(), "%s", out)

			for _, text := range c.says {
				require.Contains(t, string(out), text)
			}

			require.NotContains(t, string(out), "hunter2")
		})
	}
}

// TestASignalIsNoFailure: an error that the service returns when it is stopped does not count.
func TestASignalIsNoFailure(t *testing.T) {
	srv := bustest.Start(t)
	cmd := command(t, "waits", []string{"NATS_URL=" + srv.ClientURL()})
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var log strings.Builder
	cmd.Stderr = &log
	require.NoError(t, cmd.Start())
	var line [64]byte
	n, err := out.Read(line[:])
	require.NoError(t, err)
	require.Equal(t, "at work with bobosync tester\n", string(line[:n]))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), log.String())
	require.Contains(t, log.String(), "tester has stopped")
	require.NotContains(t, log.String(), "cannot go on")
}

// TestALogThatCannotBeOpenedIsNoSlip: a full disk, or a share that is not there yet, recovers; a program that exited
// with the status for wrong settings would not be started again.
func TestALogThatCannotBeOpenedIsNoSlip(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	cmd := command(t, "ends", []string{"NATS_URL=nats://127.0.0.1:1", "LOG_DIRECTORY=" + filepath.Join(dir, "file", "logs")})
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode(), string(out))
	require.Contains(t, string(out), "LOG_DIRECTORY: make the directory")
}
