package topology

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// accessTimeout is how long the broker may take to say what this program may do.
const accessTimeout = 5 * time.Second

// access is what this program may send to at the broker. The zero value is the access of a program to which nothing is
// forbidden.
type access struct {
	limited     bool
	allow, deny []string
}

// askAccess asks the broker for this program's own permissions: NATS drops a forbidden request silently, so it is
// better to know before. Without an answer from the broker nothing counts as forbidden.
func askAccess(ctx context.Context, nc *nats.Conn) (access, error) {
	limited, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()

	answer, err := nc.RequestWithContext(limited, userInfo, nil)
	switch {
	case ctx.Err() != nil:
		return access{}, ctx.Err()
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return access{}, nil
	case err != nil:
		return access{}, fmt.Errorf("ask the broker what this program may do: %w", err)
	}

	return readAccess(answer.Data)
}

// MayRead reports whether this program may read everything that a stream holds, and not just what lies under some of
// its subjects.
func MayRead(ctx context.Context, nc *nats.Conn, stream string) (bool, error) {
	mine, err := askAccess(ctx, nc)
	return mine.may(api("DIRECT.GET.%s", stream)), err
}

// InOwnAccount reports whether a service is logged in under its own account. Every request from others then arrives
// through an import, for which the server names the sender in a header. Where all share one account, no sender is
// named.
func InOwnAccount(ctx context.Context, nc *nats.Conn, service Service) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()

	answer, err := nc.RequestWithContext(ctx, userInfo, nil)
	if errors.Is(err, nats.ErrNoResponders) {
		return false, nil
	}

	if err != nil {
		return false, fmt.Errorf("ask the broker for this program's account: %w", err)
	}

	var info struct {
		Data struct {
			Account string `json:"account"`
		} `json:"data"`
	}
	if err := json.Unmarshal(answer.Data, &info); err != nil {
		return false, fmt.Errorf("read what the broker says of this program's account: %w", err)
	}

	return info.Data.Account == accountOf(string(service)), nil
}

// readAccess reads the answer of a server.
func readAccess(data []byte) (access, error) {
	var answer struct {
		Data struct {
			Permissions *struct {
				Publish *struct {
					Allow []string `json:"allow"`
					Deny  []string `json:"deny"`
				} `json:"publish"`
			} `json:"permissions"`
		} `json:"data"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return access{}, fmt.Errorf("read what the broker says that this program may do: %w", err)
	}

	permissions := answer.Data.Permissions
	if permissions == nil || permissions.Publish == nil {
		return access{}, nil
	}

	return access{limited: true, allow: permissions.Publish.Allow, deny: permissions.Publish.Deny}, nil
}

// may reports whether this program may send to a subject. An empty list of allowed subjects allows everything.
func (a access) may(subject string) bool {
	if !a.limited {
		return true
	}
	return (len(a.allow) == 0 || matchesAny(a.allow, subject)) && !matchesAny(a.deny, subject)
}

func matchesAny(patterns []string, subject string) bool {
	for _, p := range patterns {
		if covers(p, subject) {
			return true
		}
	}

	return false
}
