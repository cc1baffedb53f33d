//go:build linux

package containers

import (
	"context"
	"os"
	"strings"
	"time"
)

// What operators do to a project that runs, as docs/deploy.md says it.

// recreate puts other containers in the place of those of some services, which then read all of their files again.
func (p *Project) recreate(ctx context.Context, services ...string) error {
	_, err := p.Compose(ctx, append([]string{"up", "--detach", "--force-recreate", "--no-deps"}, services...)...)
	return err
}

// Rotate gives services new keys.
func (p *Project) Rotate(ctx context.Context, services ...string) error {
	if err := p.make(ctx, "secrets", "ROTATE="+strings.Join(services, ",")); err != nil {
		return err
	}
	return p.recreate(ctx, append([]string{"nats"}, services...)...)
}

// Operators changes who has an operator's key of his own (ADD=name, WITHDRAW=name).
func (p *Project) Operators(ctx context.Context, change string) error {
	if err := p.make(ctx, "nats-operators", change); err != nil {
		return err
	}
	return p.recreate(ctx, "nats")
}

// Upgrade puts another release in the place of the one that runs.
func (p *Project) Upgrade(ctx context.Context, root, version string) error {
	p.cfg.Root, p.cfg.Version = root, version
	p.env = append(p.env, "BOBOSYNC_VERSION="+version)
	if err := p.keys(ctx); err != nil { // also for users that there were not before
		return err
	}

	_, err := p.Compose(ctx, "up", "--detach")

	return err
}

// Key copies a user's key to a place where it stays when the user gets another, and returns that.
func (p *Project) Key(user string) (string, error) {
	key, err := os.ReadFile(p.path("nats", "creds", user+".nk"))
	if err != nil {
		return "", err
	}

	path := p.path(user + ".of-old.nk")

	return path, os.WriteFile(path, key, 0o644) // the containers' user reads it
}

// Operate runs a command of bobosync with this key, and returns what it prints.
func (p *Project) Operate(ctx context.Context, key string, args ...string) (string, error) {
	return p.Compose(ctx, append([]string{
		"run", "--rm", "--no-deps", "--no-TTY", "--volume", key + ":/operator.nk:ro", "--env", "NATS_CREDS=/operator.nk", "operator",
	}, args...)...)
}

// Begin begins a command of bobosync with this key, and returns the container in which it runs until the project is closed.
func (p *Project) Begin(ctx context.Context, key string, args ...string) (container string, err error) {
	return p.Compose(ctx, append([]string{
		"run", "--rm", "--no-deps", "--detach", "--volume", key + ":/operator.nk:ro", "--env", "NATS_CREDS=/operator.nk", "operator",
	}, args...)...)
}

// Says waits until a container has printed something.
func (p *Project) Says(ctx context.Context, container, words string, within time.Duration) error {
	return eventually(ctx, within, "the container says "+words, func() (bool, error) {
		said, err := p.cfg.Engine.run(ctx, "sh", "-c", "docker logs "+container+" 2>&1")
		return strings.Contains(said, words), err
	})
}

// LongestStop returns the longest time from a moment on in which no file has left the input directory; it is for when all have, and
// files were there all the while.
func (p *Project) LongestStop(since time.Time) time.Duration {
	_, departures, _ := p.In.Record()
	var longest time.Duration
	for _, d := range departures {
		if d.Gone.After(since) {
			longest, since = max(longest, d.Gone.Sub(since)), d.Gone
		}
	}

	return longest
}
