// What the audit holds, and whether it is still what was written.

package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/bus"
	"bobosync/shared/cas"
	"bobosync/shared/pause"
	"bobosync/shared/topology"
)

// Link is a record of the stream with its detail, both as they are stored.
type Link struct {
	Service topology.Service
	Data    []byte
	// Detail is nil if there is none, or none any more.
	Detail []byte
}

// Chains is all that can be verified.
type Chains struct {
	// Links are in the order of the stream.
	Links []Link
	// Ends are the ends of the chains, as the services report them.
	Ends map[topology.Service]End
	// Age is how long records are kept; 0 means forever.
	Age time.Duration
	// Hidden reports whether the details were left out because the person who loads the records may not see them.
	Hidden bool
}

// Day holds the ends of the chains at the end of a day, as recorded in the janitor's journal.
type Day struct {
	// Date is the day in UTC, such as 2026-11-28.
	Date string         `json:"date"`
	Ends map[string]End `json:"ends"`
}

// Days returns the ends of the chains for each day that is over and had orders, oldest first.
func (b Chains) Days(now time.Time) []Day {
	days := map[string]map[string]End{}
	for _, l := range b.Links {
		end, err := after(l.Data)
		if err != nil || end.At.Format(time.DateOnly) >= now.UTC().Format(time.DateOnly) {
			continue
		}

		date := end.At.Format(time.DateOnly)
		if days[date] == nil {
			days[date] = map[string]End{}
		}

		days[date][string(l.Service)] = end
	}

	var all []Day
	for _, date := range slices.Sorted(maps.Keys(days)) {
		all = append(all, Day{Date: date, Ends: days[date]})
	}

	return all
}

// Finding is something that is not as it was written.
type Finding struct {
	Service string `json:"service"`
	// N is the number of the record in the service's chain; 0 if the finding concerns no record.
	N    uint64 `json:"n,omitempty"`
	Text string `json:"text"`
}

// LoadChains reads the records without their details, and without the ends that the services report.
func LoadChains(ctx context.Context, js jetstream.JetStream) (Chains, error) {
	chains := Chains{Ends: map[topology.Service]End{}}

	stream, err := js.Stream(ctx, topology.StreamAudit)
	if err != nil {
		return chains, fmt.Errorf("open stream %s: %w", topology.StreamAudit, err)
	}

	chains.Age = stream.CachedInfo().Config.MaxAge
	err = bus.Read(ctx, js, topology.StreamAudit, bus.ReadFrom{}, func(data []byte, subject string) {
		service := topology.Service(strings.TrimPrefix(subject, topology.AuditSubject("")))
		chains.Links = append(chains.Links, Link{Service: service, Data: slices.Clone(data)})
	})

	return chains, err
}

// Load reads everything. For a caller who may not see the details of the records, it leaves those out. Records that are
// written while it reads do not look removed or inserted.
func Load(ctx context.Context, js jetstream.JetStream) (Chains, error) {
	before := map[topology.Service]End{}
	if err := loadEnds(ctx, js, before); err != nil {
		return Chains{}, err
	}

	chains, err := LoadChains(ctx, js)
	if err != nil {
		return chains, err
	}

	may, err := topology.MayRead(ctx, js.Conn(), bucketStream)
	if err != nil {
		return chains, err
	}

	chains.Hidden = !may
	if err := chains.settle(ctx, js, before); err != nil || chains.Hidden {
		return chains, err
	}

	details := map[string][]byte{}
	err = bus.Read(ctx, js, bucketStream, bus.ReadFrom{}, func(data []byte, subject string) {
		if len(data) > 0 { // else it was removed
			details[strings.TrimPrefix(subject, "$KV."+topology.BucketAudit+".")] = slices.Clone(data)
		}
	})

	for i, l := range chains.Links {
		var r Record
		if json.Unmarshal(l.Data, &r) == nil {
			chains.Links[i].Detail = details[topology.AuditDetail(l.Service, r.ID)]
		}
	}

	return chains, err
}

// bucketStream is the stream that holds the bucket.
const bucketStream = "KV_" + topology.BucketAudit

const (
	// settleEvery is the delay between checks whether a service has stored where its chain ends.
	settleEvery = 100 * time.Millisecond
	// justNow is the age below which a record's service may still be about to store the new end.
	justNow = time.Minute
)

// settle sets the ends to those that were stored before the chains were read, and drops records written since. A
// service stores the end just after it has written a record, so settle may have to wait for that.
func (b *Chains) settle(ctx context.Context, js jetstream.JetStream, before map[topology.Service]End) error {
	now := map[topology.Service]End{}
	for until := time.Now().Add(appendTimeout); ; {
		if err := loadEnds(ctx, js, now); err != nil {
			return err
		}

		if !b.awaited(now) || time.Now().After(until) {
			break
		}

		if err := pause.For(ctx, settleEvery); err != nil {
			return err
		}
	}

	b.Ends = before
	b.Links = slices.DeleteFunc(b.Links, func(l Link) bool {
		end, err := after(l.Data)
		return err == nil && end.N > before[l.Service].N && end.N <= now[l.Service].N
	})

	return nil
}

// awaited reports whether a service may be about to store a later end than the one it reported.
func (b *Chains) awaited(said map[topology.Service]End) bool {
	return slices.ContainsFunc(b.Links, func(l Link) bool {
		end, err := after(l.Data)
		return err == nil && end.N > said[l.Service].N && time.Since(end.At).Abs() < justNow
	})
}

// loadEnds reads the ends of the chains that the services report.
func loadEnds(ctx context.Context, js jetstream.JetStream, ends map[topology.Service]End) error {
	kv, err := js.KeyValue(ctx, topology.BucketAudit)
	if err != nil {
		return fmt.Errorf("open bucket %s: %w", topology.BucketAudit, err)
	}

	for _, service := range []topology.Service{topology.Ingest, topology.Resolver, topology.Publisher, topology.Janitor} {
		value, _, err := cas.Load(ctx, kv, topology.AuditHead(service))
		if err != nil {
			return fmt.Errorf("read where the audit ended: %w", err)
		}

		var end End
		if value != nil && json.Unmarshal(value, &end) == nil {
			ends[service] = end
		}
	}

	return nil
}

// Entry is a record in the form shown to people.
type Entry struct {
	Record
	// What is the record's detail; nil if it no longer exists, or is Hidden from the person who asks.
	What   *Detail `json:"what,omitempty"`
	Hidden bool    `json:"hidden,omitempty"`
}

// Entries returns the records, newest first. It skips what cannot be read; Verify reports that.
func (b Chains) Entries() []Entry {
	all := []Entry{} // JSON's null is not a list
	for _, l := range b.Links {
		e := Entry{Hidden: b.Hidden}
		if json.Unmarshal(l.Data, &e.Record) != nil {
			continue
		}

		var d Detail
		if l.Detail != nil && json.Unmarshal(l.Detail, &d) == nil {
			e.What = &d
		}

		all = append(all, e)
	}

	slices.SortStableFunc(all, func(a, b Entry) int { return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.ID, a.ID)) })

	return all
}

// slack is the tolerance for differences in age between records and details, and for clocks that disagree.
const slack = time.Hour

// Verify compares what is stored with itself and with the ends of days, at the moment now. It returns everything that
// is not as it was written.
func Verify(b Chains, days []Day, now time.Time) []Finding {
	chains := map[topology.Service][]Link{}
	for _, l := range b.Links {
		chains[l.Service] = append(chains[l.Service], l)
	}

	services := slices.Collect(maps.Keys(chains)) // plus those that have nothing else left
	services = slices.AppendSeq(services, maps.Keys(b.Ends))
	for _, day := range days {
		for service := range day.Ends {
			services = append(services, topology.Service(service))
		}
	}

	slices.Sort(services)

	var all []Finding
	erased := b.erasures()
	for _, service := range slices.Compact(services) {
		c := chain{service: service, age: b.Age, now: now, hashes: map[uint64]string{}, erased: erased, hidden: b.Hidden}
		c.walk(chains[service])

		if end, known := b.Ends[service]; known {
			c.end(end)
		}

		for _, day := range days {
			if end, known := day.Ends[string(service)]; known {
				c.holds(end, "at the end of "+day.Date)
			}
		}

		all = append(all, c.found...)
	}

	return all
}

// chain is the verification of one service's chain.
type chain struct {
	service topology.Service
	age     time.Duration
	now     time.Time
	last    End
	hashes  map[uint64]string
	erased  erasures
	hidden  bool
	found   []Finding
}

func (c *chain) find(n uint64, format string, args ...any) {
	c.found = append(c.found, Finding{Service: string(c.service), N: n, Text: fmt.Sprintf(format, args...)})
}

// mayBeExpired reports whether a record of that time may have been dropped because of its age.
func (c *chain) mayBeExpired(at time.Time) bool { return c.age > 0 && c.now.Sub(at) > c.age-slack }

// walk checks the records of the chain in order.
func (c *chain) walk(links []Link) {
	for i, l := range links {
		var r Record
		if err := json.Unmarshal(l.Data, &r); err != nil {
			c.find(c.last.N+1, "the record behind number %d cannot be read: it was changed", c.last.N)
			continue
		}

		c.step(r, i == 0)

		if r.Service != string(c.service) {
			c.find(r.N, "record %d says that it is of the service %q: it was put in or changed", r.N, r.Service)
		}

		c.detail(r, l.Detail)

		if _, twice := c.hashes[r.N]; !twice {
			c.hashes[r.N] = hashOf(l.Data)
		}

		c.last = End{N: r.N, Hash: hashOf(l.Data), At: r.At}
	}
}

// step checks that a record follows the previous one.
func (c *chain) step(r Record, first bool) {
	switch {
	case first && (r.N == 1) != (r.Prev == ""):
		c.find(r.N, "record %d is the first one, and says otherwise: it was changed", r.N)
	case first && r.N > 1 && !c.mayBeExpired(r.PrevAt):
		c.find(r.N-1, "the records up to number %d are missing, and are too young for that: they were removed", r.N-1)
	case first || r.Prev == c.last.Hash && r.N == c.last.N+1:
	case r.N > c.last.N+1:
		c.find(c.last.N+1, "records %d to %d are missing: they were removed", c.last.N+1, r.N-1)
	case r.N <= c.last.N:
		c.find(c.last.N, "there are two records of number %d: one was put in", r.N)
	default:
		c.find(c.last.N, "record %d is not the one that record %d was written behind: it was changed, or put in", c.last.N, r.N)
	}
}

// detail checks the detail of a record.
func (c *chain) detail(r Record, detail []byte) {
	var d Detail
	switch {
	case c.hidden:
	case detail == nil && !c.mayBeExpired(r.At):
		c.find(r.N, "what was ordered by record %d is gone: it was removed", r.N)
	case detail == nil || hashOf(detail) == r.Detail:
	case json.Unmarshal(detail, &d) == nil && d.Erased != "":
		if !c.erased.take(d.Erased) {
			c.find(r.N, "what was ordered by record %d is said to be erased, and no order to erase accounts for that: it was changed", r.N)
		}
	default:
		c.find(r.N, "what was ordered by record %d is not what was written: it was changed", r.N)
	}
}

// end compares the chain with the end that the service reports.
func (c *chain) end(end End) {
	c.holds(end, "by the word of its service")

	if c.last.N > end.N {
		c.find(end.N+1, "record %d is there, though the service's chain ends with number %d: it was put in, or the service was killed while it wrote it", c.last.N, end.N)
	}
}

// holds checks for a record that must exist.
func (c *chain) holds(end End, when string) {
	hash, there := c.hashes[end.N]
	switch {
	case there && hash != end.Hash:
		c.find(end.N, "record %d is not the one that the chain ended with %s: it was changed", end.N, when)
	case !there && !c.mayBeExpired(end.At):
		c.find(end.N, "record %d is missing, with which the chain ended %s: it was removed", end.N, when)
	}
}
