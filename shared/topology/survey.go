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

// Finding is a part of the topology as a broker has it.
type Finding struct {
	Part
	Missing bool `json:"missing,omitempty"`
	// Changes are the settings that are not as wanted.
	Changes []Change `json:"changes,omitempty"`

	found found
}

// AsWanted says that there is nothing to do.
func (f Finding) AsWanted() bool { return !f.Missing && len(f.Changes) == 0 }

// Refused says that something about it is left as it is.
func (f Finding) Refused() bool {
	return slices.ContainsFunc(f.Changes, func(c Change) bool { return c.Refused != "" })
}

// Mendable says that Mend has something to do.
func (f Finding) Mendable() bool {
	return f.Missing || slices.ContainsFunc(f.Changes, func(c Change) bool { return c.Refused == "" })
}

// Survey compares all parts with what a broker has, and changes nothing. The findings are in the order in which the parts can
// be made.
func Survey(ctx context.Context, js jetstream.JetStream, s Settings) ([]Finding, error) {
	if err := requireServer(ctx, js); err != nil {
		return nil, err
	}
	now := time.Now()
	var all []Finding
	for _, part := range s.parts() {
		have, err := part.look(ctx, js)
		if err != nil {
			return nil, err
		}
		f := Finding{Part: part.Part, Missing: have.missing, found: have}
		if !have.missing {
			f.Changes = have.changes(now)
		}
		all = append(all, f)
	}
	return all, nil
}

// Mend makes the part if it is missing, and otherwise changes what is not refused.
func (f Finding) Mend(ctx context.Context, js jetstream.JetStream) error {
	if f.Missing {
		return f.found.create(ctx, js)
	}
	return f.found.mend(ctx, js, f.Changes)
}

// Server is what a broker's server says of its store.
type Server struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	// Syncs says that messages are on the disk before they are acknowledged.
	Syncs bool `json:"syncs"`
}

// serversWait is how long servers have to answer.
const serversWait = 2 * time.Second

// Servers asks the broker's servers how they store. It returns none if this broker does not tell, as one that is not configured
// for it.
func Servers(ctx context.Context, nc *nats.Conn) ([]Server, error) {
	ctx, cancel := context.WithTimeout(ctx, serversWait)
	defer cancel()
	answers, err := natsext.RequestMany(ctx, nc, SubjectServers, []byte(`{"config":true}`), natsext.RequestManyStall(serversWait/4))
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

// readServer reads an answer; false for a server without JetStream.
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
