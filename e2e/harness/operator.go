//go:build unix

package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Operate runs a bobosync command as an operator does, and returns what it printed.
func (s *Stack) Operate(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(s.cfg.Bin, "bobosync"), args...)
	cmd.Dir = s.cfg.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.cfg.Dir, "TZ=UTC", "DATA_DIRECTORY=" + s.Path(dataDir)}
	if !s.cfg.AllInOne {
		cmd.Env = append(cmd.Env, "NATS_URL="+s.BrokerURL())
	}

	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("bobosync %s: %w: %s", strings.Join(args, " "), err, out)
	}

	return string(out), nil
}

// BrokerURL returns the broker's address. The broker inside the all-in-one program has a different one.
func (s *Stack) BrokerURL() string { return "nats://" + address(s.ports.broker) }

// PeakMemory returns the most memory that a process has had, in bytes, on systems that report it in /proc.
func (p *Process) PeakMemory() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()

	if !p.runs() {
		return 0, fmt.Errorf("%s does not run", p.Name)
	}

	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("look at the memory of %s: %w", p.Name, err)
	}

	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}

	return 0, fmt.Errorf("the system does not tell the memory of %s", p.Name)
}
