package sim

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
)

// CallFilter chooses calls; the zero value chooses all that are held.
type CallFilter struct {
	After    uint64 // only calls with a greater Seq
	Endpoint string // only this end point
	User     string // only updates that carry this username, in any letter case
	Limit    int    // at most this many, the earliest first; 0 means all
}

// EndpointStats counts the calls of one end point since the last reset.
type EndpointStats struct {
	Calls    int         `json:"calls"`
	ByStatus map[int]int `json:"by_status"` // 0: no answer was sent
	// PeakPerSecond is the most calls that arrived within any one second.
	PeakPerSecond int `json:"peak_per_second"`
	// PeakInFlight is the most calls that were in flight at once.
	PeakInFlight int `json:"peak_in_flight"`
	// InFlight is how many are in flight now.
	InFlight int `json:"in_flight"`
}

// Stats sums up what happened since the last reset; it also counts calls that are no longer held.
type Stats struct {
	Run       int64                    `json:"run"`
	Endpoints map[string]EndpointStats `json:"endpoints"`
	Faults    map[string]int           `json:"faults"`   // calls by the fault played
	Outcomes  map[string]int           `json:"outcomes"` // users of updates by outcome
	Applied   int                      `json:"applied"`  // users for whom a value was written
	// OtherAttributes counts users for whom anything but the duty attribute was sent, by attribute.
	OtherAttributes map[string]int `json:"other_attributes"`
	Users           int            `json:"users"`      // users in the directory
	CallsHeld       int            `json:"calls_held"` // calls in memory
	InFlight        int            `json:"in_flight"`
}

type endpointCount struct {
	EndpointStats
	inFlight int
	recent   []int64 // times of arrival within the last second
}

// callLog holds the latest calls and writes all of them to a file.
type callLog struct {
	duty      string
	keepCalls int
	keepUsers int
	onCall    func(Call)
	logger    *slog.Logger
	run       int64

	mu        sync.Mutex
	seq       uint64
	calls     []Call // by order of finishing
	users     int    // users in calls
	endpoints map[string]*endpointCount
	faults    map[string]int
	outcomes  map[string]int
	others    map[string]int
	applied   int

	out  sync.Mutex // keeps lines whole and OnCall to one call at a time; never taken with mu held
	file *os.File
}

func newCallLog(o *Options) (*callLog, error) {
	l := &callLog{duty: o.DutyAttribute, keepCalls: o.KeepCalls, keepUsers: o.KeepUsers, onCall: o.OnCall,
		logger: o.Logger, run: time.Now().UnixNano()}
	l.reset()

	if o.CallLog == "" {
		return l, nil
	}

	f, err := openLines(o.CallLog)
	if err != nil {
		return nil, fmt.Errorf("opening the call log: %w", err)
	}

	l.file = f

	return l, nil
}

// openLines opens a file for appending lines, and terminates a line that a kill cut off.
func openLines(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}

	info, err := f.Stat()
	last := []byte{'\n'}
	if err == nil && info.Size() > 0 {
		_, err = f.ReadAt(last, info.Size()-1)
	}

	if err == nil && last[0] != '\n' {
		_, err = f.Write([]byte{'\n'})
	}

	if err != nil {
		return nil, errors.Join(err, f.Close())
	}

	return f, nil
}

func (l *callLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()

	running := l.endpoints
	l.calls, l.users, l.applied = nil, 0, 0
	l.endpoints = map[string]*endpointCount{}
	l.faults, l.outcomes, l.others = map[string]int{}, map[string]int{}, map[string]int{}
	for name, e := range running { // calls in flight will still finish
		l.endpoint(name).inFlight = e.inFlight
	}
}

func (l *callLog) endpoint(name string) *endpointCount {
	e := l.endpoints[name]
	if e == nil {
		e = &endpointCount{EndpointStats: EndpointStats{ByStatus: map[int]int{}}}
		l.endpoints[name] = e
	}

	return e
}

// arrive gives a call its number and time of arrival.
func (l *callLog) arrive(c *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.seq++
	c.Run, c.Seq, c.Arrived = l.run, l.seq, time.Now().UnixNano()

	e := l.endpoint(c.Endpoint)
	e.Calls++
	e.inFlight++
	e.PeakInFlight = max(e.PeakInFlight, e.inFlight)
	old := 0
	for old < len(e.recent) && e.recent[old] <= c.Arrived-int64(time.Second) {
		old++
	}

	e.recent = append(slices.Delete(e.recent, 0, old), c.Arrived)
	e.PeakPerSecond = max(e.PeakPerSecond, len(e.recent))
}

// begin writes an update to the file before it is worked on, so that a simulator that is killed leaves a trace of it.
func (l *callLog) begin(c *Call) {
	if l.file != nil {
		l.write("begin", c)
	}
}

// finish records a call whose times and outcomes are set.
func (l *callLog) finish(c *Call) {
	l.count(c)
	l.out.Lock()
	defer l.out.Unlock()

	if l.file != nil {
		l.writeLocked("end", c)
	}

	if l.onCall != nil {
		l.onCall(cloneCall(*c))
	}
}

func (l *callLog) count(c *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()

	e := l.endpoint(c.Endpoint)
	e.inFlight--

	e.ByStatus[c.Status]++
	if c.Fault != "" {
		l.faults[c.Fault]++
	}

	for i := range c.Users {
		u := &c.Users[i]
		l.outcomes[u.Outcome]++
		if u.Applied {
			l.applied++
		}

		for _, f := range u.Fields {
			if f.Name != l.duty {
				l.others[f.Name]++
			}
		}
	}

	l.keep(c)
}

func (l *callLog) keep(c *Call) {
	l.calls = append(l.calls, cloneCall(*c))
	l.users += len(c.Users)
	drop := 0
	for len(l.calls)-drop > 1 && (len(l.calls)-drop > l.keepCalls || l.users > l.keepUsers) {
		l.users -= len(l.calls[drop].Users)
		l.calls[drop] = Call{} // releases the users now, although the slot is reused later
		drop++
	}

	l.calls = l.calls[drop:]
}

func cloneCall(c Call) Call {
	c.Users = slices.Clone(c.Users)
	return c
}

type callLine struct {
	Phase string `json:"phase"`
	*Call
}

func (l *callLog) write(phase string, c *Call) {
	l.out.Lock()
	defer l.out.Unlock()

	l.writeLocked(phase, c)
}

// writeLocked hands a line to the operating system in one write, so that the line outlives a kill of this process.
func (l *callLog) writeLocked(phase string, c *Call) {
	line := append(mustJSON(callLine{phase, c}), '\n')
	if _, err := l.file.Write(line); err != nil {
		l.logger.Error("a call is missing from the call log; check the disk", "error", err, "call", c.Seq)
	}
}

func (l *callLog) find(f CallFilter) []Call {
	key := loginKey(f.User)
	carries := func(c Call) bool {
		return slices.ContainsFunc(c.Users, func(u UserCall) bool { return loginKey(u.LoginID) == key })
	}

	l.mu.Lock()
	defer l.mu.Unlock()

	found := []Call{}
	for _, c := range l.calls {
		if c.Seq > f.After && (f.Endpoint == "" || f.Endpoint == c.Endpoint) && (f.User == "" || carries(c)) {
			found = append(found, cloneCall(c))
		}
	}

	slices.SortFunc(found, func(a, b Call) int { return cmp.Compare(a.Seq, b.Seq) })

	if f.Limit > 0 && len(found) > f.Limit {
		found = found[:f.Limit]
	}

	return found
}

func (l *callLog) stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()

	s := Stats{Run: l.run, Endpoints: map[string]EndpointStats{}, Faults: maps.Clone(l.faults), Outcomes: maps.Clone(l.outcomes),
		OtherAttributes: maps.Clone(l.others), Applied: l.applied, CallsHeld: len(l.calls)}
	for name, e := range l.endpoints {
		one := e.EndpointStats
		one.ByStatus, one.InFlight = maps.Clone(one.ByStatus), e.inFlight
		s.Endpoints[name] = one
		s.InFlight += e.inFlight
	}

	return s
}

func (l *callLog) close() error {
	l.out.Lock()
	defer l.out.Unlock()

	if l.file == nil {
		return nil
	}

	err := l.file.Close()
	l.file = nil

	return err
}

// ReadCallLog reads a file that was written for Options.CallLog, and returns its calls ordered by run and Seq. A call
// that was begun but not finished, because the simulator was killed, has Unfinished set: it may have been applied. A
// line that such a kill cut off is skipped. Any other line that cannot be read is an error.
func ReadCallLog(path string) ([]Call, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the call log: %w", err)
	}
	defer f.Close()

	calls, err := readCalls(f)
	if err != nil {
		return nil, fmt.Errorf("call log %s, %w", path, err)
	}

	return calls, nil
}

type callKey struct {
	run int64
	seq uint64
}

func readCalls(in io.Reader) ([]Call, error) {
	r := bufio.NewReaderSize(in, 1<<20)
	byKey := map[callKey]Call{}
	var lastRun int64
	broken := 0 // the number of a line that could not be read, until what follows shows whether a kill cut it off
	for n := 1; ; n++ {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) == 0 {
			return sortedCalls(byKey), nil
		}

		if err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}

		var c Call

		parsed := callLine{Call: &c}
		if json.Unmarshal(line, &parsed) != nil {
			if broken != 0 {
				return nil, fmt.Errorf("line %d cannot be read", broken)
			}

			broken = n

			continue
		}

		if broken != 0 && c.Run == lastRun {
			return nil, fmt.Errorf("line %d cannot be read", broken)
		}

		broken, lastRun = 0, c.Run
		c.Unfinished = parsed.Phase == "begin"
		byKey[callKey{c.Run, c.Seq}] = c
	}
}

func sortedCalls(byKey map[callKey]Call) []Call {
	calls := make([]Call, 0, len(byKey))
	for _, c := range byKey {
		calls = append(calls, c)
	}

	slices.SortFunc(calls, func(a, b Call) int {
		return cmp.Or(cmp.Compare(a.Run, b.Run), cmp.Compare(a.Seq, b.Seq))
	})

	return calls
}
