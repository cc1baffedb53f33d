//go:build linux

package containers

import (
	"context"
	"os"
	"strings"
	"time"
)

// What operators do to a running project, as docs/deploy.md describes it.

// recreate replaces the containers of the given services, which then read all of their files again.
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

// Operators changes which operators have a key of their own (ADD=name, WITHDRAW=name).
func (p *Project) Operators(ctx context.Context, change string) error {
	if err := p.make(ctx, "nats-operators", change); err != nil {
		return err
	}
	return p.recreate(ctx, "nats")
}

// Upgrade replaces the running release with another.
func (p *Project) Upgrade(ctx context.Context, root, version string) error {
	p.cfg.Root, p.cfg.Version = root, version
	p.env = append(p.env, "BOBOSYNC_VERSION="+version)
	if err := p.keys(ctx); err != nil { // also for users that did not exist before
		return err
	}

	_, err := p.Compose(ctx, "up", "--detach")

	return err
}

// Key copies a user's key to a place where it stays when the user gets a new one, and returns the path of the copy.
func (p *Project) Key(user string) (string, error) {
	key, err := os.ReadFile(p.path("nats", "creds", user+".nk"))
	if err != nil {
		return "", err
	}

	path := p.path(user + ".of-old.nk")

	return path, os.WriteFile(path, key, 0o644) // the user in the containers reads it
}

// Operate runs a bobosync command with this key, and returns what it prints.
func (p *Project) Operate(ctx context.Context, key string, args ...string) (string, error) {
	return p.Compose(ctx, append([]string{
		"run", "--rm", "--no-deps", "--no-TTY", "--volume", key + ":/operator.nk:ro", "--env", "NATS_CREDS=/operator.nk", "operator",
	}, args...)...)
}

// Begin starts a bobosync command with this key, and returns the container in which it runs until the project is
// closed.
func (p *Project) Begin(ctx context.Context, key string, args ...string) (container string, err error) {
	return p.Compose(ctx, append([]string{
		"run", "--rm", "--no-deps", "--detach", "--volume", key + ":/operator.nk:ro", "--env", "NATS_CREDS=/operator.nk", "operator",
	}, args...)...)
}

// Says waits until a container has printed words.
func (p *Project) Says(ctx context.Context, container, words string, within time.Duration) error {
	return eventually(ctx, within, "the container says "+words, func() (bool, error) {
		said, err := p.cfg.Engine.run(ctx, "sh", "-c", "docker logs "+container+" 2>&1")
		return strings.Contains(said, words), err
	})
}

// LongestStop returns the longest time since a moment in which no file left the input directory. It makes sense when
// all files have left, and when there were files in it all the time.
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
