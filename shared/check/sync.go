package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"bobosync/shared/config"
	"bobosync/shared/text"
	"bobosync/shared/topology"
)

// storeServer is what a server of the broker reports of itself, on its monitoring page /varz or over its system
// account.
type storeServer struct {
	Name      string   `json:"server_name"`
	JetStream *storing `json:"jetstream"`
}

// storing is a server's JetStream; it has no configuration if JetStream is off.
type storing struct {
	Config *storeConfig `json:"config"`
}

type storeConfig struct {
	SyncAlways   bool          `json:"sync_always"`
	SyncInterval time.Duration `json:"sync_interval"`
	lazy         bool          // known not to sync always, but not how rarely it does
}

// checkSync finds out whether the broker syncs to disk before it acknowledges.
//
// A client cannot ask for that: it is part of the server's configuration, which is visible on the monitoring page
// /varz, over the system account, and through a subject if the broker's configuration maps one. Measuring how long an
// acknowledgement takes proves nothing: a disk may sync in a tenth of a millisecond, a network may take ten, and it
// would need a stream to write to. So without access the answer is unknown.
func checkSync(ctx context.Context, f *facts) []Result {
	if f.inside {
		return good("the broker inside syncs each message before it acknowledges it")
	}

	ctx, cancel := f.part(ctx, 2*askShare)
	defer cancel()

	var servers []storeServer
	var err error
	switch {
	case f.Monitor.SysCreds != "" && len(f.broker.urls) > 0:
		servers, err = fromSystemAccount(ctx, f)
	case f.Monitor.URL != "":
		servers, err = fromMonitor(ctx, f.Monitor.URL)
	case f.nc != nil && f.mayAsk(topology.SubjectServers):
		servers, err = fromBroker(ctx, f.nc)
	}

	if len(servers) == 0 && err == nil {
		return warn("check whether its configuration has jetstream { sync_interval: always }; or set NATS_MONITOR_URL (such as http://localhost:8222) or NATS_SYS_CREDS, and this is read from it",
			"whether the broker syncs to disk before it acknowledges cannot be seen from here")
	}

	if err != nil {
		return warn("check NATS_MONITOR_URL or NATS_SYS_CREDS", "whether the broker syncs to disk before it acknowledges could not be read: %v", err)
	}

	return judgeSync(servers, f.Broker.Replicas)
}

// fromBroker asks over the subject that deploy/nats/accounts.conf maps to the system account; it returns none if this
// broker does not map it.
func fromBroker(ctx context.Context, nc *nats.Conn) ([]storeServer, error) {
	listed, err := topology.Servers(ctx, nc)
	if err != nil {
		return nil, err
	}

	servers := make([]storeServer, 0, len(listed))
	for _, s := range listed {
		// This reports whether the broker syncs always, but not the interval otherwise.
		servers = append(servers, storeServer{Name: s.Name, JetStream: &storing{Config: &storeConfig{SyncAlways: s.Syncs, lazy: !s.Syncs}}})
	}

	return servers, nil
}

// judgeSync judges all servers that have JetStream.
func judgeSync(servers []storeServer, replicas int) []Result {
	var lazy, silent []string
	storing := 0
	for _, s := range servers {
		if s.JetStream == nil || s.JetStream.Config == nil {
			continue
		}

		storing++

		c := s.JetStream.Config
		switch {
		case c.SyncAlways:
		case c.SyncInterval > 0:
			lazy = append(lazy, fmt.Sprintf("%s (every %s)", s.Name, c.SyncInterval))
		case c.lazy:
			lazy = append(lazy, s.Name)
		default:
			silent = append(silent, s.Name)
		}
	}

	const advice = "set jetstream { sync_interval: always } in the broker's configuration, as deploy/nats/server.conf does, and start it again"
	switch {
	case len(lazy) > 0 && replicas < 2:
		return bad(advice, "the broker acknowledges before it syncs to disk: a power failure loses what it has acknowledged since; %s", strings.Join(lazy, ", "))
	case len(lazy) > 0:
		return warn(advice, "servers acknowledge before they sync to disk: what saves it is that not all of them fail at once; %s", strings.Join(lazy, ", "))
	case storing == 0:
		return warn("name a server that has JetStream in NATS_MONITOR_URL", "the servers that answer have no JetStream")
	case len(silent) > 0:
		return warn("look into its configuration", "%s does not say whether it syncs to disk", strings.Join(silent, ", "))
	}

	return good("each message is synced to disk before it is acknowledged (%s)", text.Count(storing, "server"))
}

// maxPage limits how much of a monitoring page is read, in bytes.
const maxPage = 4 << 20

// fromMonitor reads the monitoring page of one server.
func fromMonitor(ctx context.Context, base string) ([]storeServer, error) {
	if err := config.Addresses("NATS_MONITOR_URL", base, "http", "https"); err != nil {
		return nil, err // else part of a password might be taken for the host, and printed
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/varz", nil)
	if err != nil {
		return nil, errors.New("NATS_MONITOR_URL is no address such as http://localhost:8222")
	}

	resp, err := pages.Do(req)
	if err != nil {
		return nil, errors.New(whyNoConnection(err, req.URL.Host))
	}
	defer resp.Body.Close()
	var s storeServer

	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers with status %d: it is no monitoring page of a NATS server", req.URL.Host, resp.StatusCode)
	}

	if err := json.NewDecoder(io.LimitReader(resp.Body, maxPage)).Decode(&s); err != nil || s.Name == "" {
		return nil, fmt.Errorf("%s is no monitoring page of a NATS server", req.URL.Host)
	}

	return []storeServer{s}, nil
}

// quietAfter is how long to wait for another server of the cluster to answer.
const quietAfter = 300 * time.Millisecond

// fromSystemAccount asks all servers of the cluster.
func fromSystemAccount(ctx context.Context, f *facts) ([]storeServer, error) {
	opts, err := loginOptions(config.Broker{Creds: f.Monitor.SysCreds, CA: f.Broker.CA})
	if err != nil {
		return nil, fmt.Errorf("NATS_SYS_CREDS: %w", err)
	}

	opts = append(opts, nats.Timeout(time.Duration(askShare*float64(f.Timeout))))

	nc, err := nats.Connect(strings.Join(f.broker.withoutUsers(), ","), opts...)
	if err != nil {
		return nil, errors.New(loginFailed(err, f.Now())[0].Message)
	}
	defer nc.Close()

	inbox := nc.NewRespInbox()

	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("wait for the servers' answers: %w", err)
	}

	if err := nc.PublishRequest("$SYS.REQ.SERVER.PING.VARZ", inbox, nil); err != nil {
		return nil, fmt.Errorf("ask the servers: %w", err)
	}

	return gather(ctx, sub)
}

// gather collects answers until none arrives for a while.
func gather(ctx context.Context, sub *nats.Subscription) ([]storeServer, error) {
	var servers []storeServer
	for {
		m, err := next(ctx, sub, len(servers) == 0)
		if err != nil && len(servers) > 0 {
			return servers, nil
		}

		if err != nil {
			return nil, errors.New("no server answers: do these credentials belong to the broker's system account?")
		}

		var answer struct {
			Data storeServer `json:"data"`
		}
		if json.Unmarshal(m.Data, &answer) == nil && answer.Data.Name != "" {
			servers = append(servers, answer.Data)
		}
	}
}

// next waits for an answer. The first may take its time; the others arrive at about the same moment.
func next(ctx context.Context, sub *nats.Subscription, first bool) (*nats.Msg, error) {
	if !first {
		return sub.NextMsg(quietAfter)
	}
	return sub.NextMsgWithContext(ctx)
}

// withoutUsers returns the addresses without the credentials of the services' user.
func (t target) withoutUsers() []string {
	bare := make([]string, len(t.urls))
	for i, address := range t.urls {
		scheme, rest, _ := strings.Cut(address, "://")
		if at := strings.LastIndex(rest, "@"); at >= 0 {
			rest = rest[at+1:]
		}

		bare[i] = scheme + "://" + rest
	}

	return bare
}
