package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/natsext"
)

// Finding is a resource of the topology as a broker has it.
type Finding struct {
	Resource
	Missing bool `json:"missing,omitempty"`
	// Changes are the settings that are not as wanted.
	Changes []Change `json:"changes,omitempty"`

	found found
}

// AsWanted reports whether there is nothing to do.
func (f Finding) AsWanted() bool { return !f.Missing && len(f.Changes) == 0 }

// Refused reports whether some setting of the resource is left as it is.
func (f Finding) Refused() bool {
	return slices.ContainsFunc(f.Changes, func(c Change) bool { return c.Refused != "" })
}

// Repairable reports whether Apply has something to do.
func (f Finding) Repairable() bool {
	return f.Missing || slices.ContainsFunc(f.Changes, func(c Change) bool { return c.Refused == "" })
}

// Survey compares all resources with what a broker has, and changes nothing. The findings are in the order in which the
// resources can be made.
func Survey(ctx context.Context, js jetstream.JetStream, s Settings) ([]Finding, error) {
	if err := requireServer(ctx, js); err != nil {
		return nil, err
	}

	now := time.Now()
	var all []Finding
	for _, res := range s.resources() {
		have, err := res.get(ctx, js)
		if err != nil {
			return nil, err
		}

		f := Finding{Resource: res.Resource, Missing: have.missing, found: have}
		if !have.missing {
			f.Changes = have.changes(now)
		}

		all = append(all, f)
	}

	return all, nil
}

// Apply makes the resource if it is missing, and otherwise changes what is not refused.
func (f Finding) Apply(ctx context.Context, js jetstream.JetStream) error {
	if f.Missing {
		return f.found.create(ctx, js)
	}

	left, err := f.found.apply(ctx, js, f.Changes)
	if err == nil && slices.ContainsFunc(left, func(c Change) bool { return c.Refused == ErrNoRoom.Error() }) {
		err = f.found.wrap("change", ErrNoRoom)
	}

	return err
}

// Server is what a server of the broker says about its store.
type Server struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Syncs says that messages are on the disk before they are acknowledged.
	Syncs bool `json:"syncs"`
}

// serversTimeout is how long servers have to answer.
const serversTimeout = 2 * time.Second

// Servers asks the broker's servers how they store messages. It returns none if this broker does not say, for instance
// because it is not configured for that.
func Servers(ctx context.Context, nc *nats.Conn) ([]Server, error) {
	ctx, cancel := context.WithTimeout(ctx, serversTimeout)
	defer cancel()

	answers, err := natsext.RequestMany(ctx, nc, SubjectServers, []byte(`{"config":true}`), natsext.RequestManyStall(serversTimeout/4))
	if err != nil {
		return nil, fmt.Errorf("ask the servers how they store: %w", err)
	}

	var all []Server
	for answer, err := range answers {
		switch {
		case errors.Is(err, nats.ErrNoResponders):
			return nil, nil
		case err != nil:
			return all, fmt.Errorf("ask the servers how they store: %w", err)
		}

		if s, ok := readServer(answer.Data); ok {
			all = append(all, s)
		}
	}

	return all, nil
}

// readServer reads an answer; it returns false for a server without JetStream.
func readServer(data []byte) (Server, bool) {
	var answer struct {
		Server struct {
			Name    string `json:"name"`
			Version string `json:"ver"`
		} `json:"server"`
		Data *struct {
			Disabled bool `json:"disabled"`
			Config   struct {
				Syncs bool `json:"sync_always"`
			} `json:"config"`
		} `json:"data"`
	}
	if json.Unmarshal(data, &answer) != nil || answer.Data == nil || answer.Data.Disabled {
		return Server{}, false
	}

	return Server{Name: answer.Server.Name, Version: answer.Server.Version, Syncs: answer.Data.Config.Syncs}, true
}
