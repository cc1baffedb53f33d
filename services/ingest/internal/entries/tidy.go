package entries

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"bobosync/shared/topology"
)

// fullPart is the part of the stream's size limit above which all entries that were read are purged, whatever their
// age.
const fullPart = 0.8

// Tidy purges entries that the resolver has read: those older than MaxAge, or all of them if the stream is nearly
// full. The stream itself has no age limit, since that would drop entries that nobody has read.
func (s *Stream) Tidy(ctx context.Context) error {
	stream, err := s.cfg.Conn.JS.Stream(ctx, topology.StreamEntries)
	if err != nil {
		return fmt.Errorf("look at the stream of entries: %w", err)
	}

	info := stream.CachedInfo()
	if limit := info.Config.MaxBytes; limit > 0 && float64(info.State.Bytes) > fullPart*float64(limit) {
		_, err := s.purgeRead(ctx)
		return err
	}

	oldest := s.cfg.Now().Add(-s.cfg.MaxAge)
	if info.State.Msgs == 0 || info.State.FirstTime.After(oldest) {
		return nil
	}

	read, err := s.readUpTo(ctx)
	if err != nil {
		return err
	}

	sequence, err := firstAfter(ctx, stream, info.State.FirstSeq, min(read, info.State.LastSeq)+1, oldest)
	if err != nil || sequence <= info.State.FirstSeq {
		return err
	}

	return purge(ctx, stream, sequence)
}

// firstAfter returns the sequence of the first message from low up to high that was stored after moment; high if
// there is none.
func firstAfter(ctx context.Context, stream jetstream.Stream, low, high uint64, moment time.Time) (uint64, error) {
	for low < high {
		middle := low + (high-low)/2

		m, err := stream.GetMsg(ctx, middle)
		if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
			return 0, fmt.Errorf("look at the age of entries: %w", err)
		}

		if err == nil && m.Time.After(moment) {
			high = middle
		} else {
			low = middle + 1
		}
	}

	return low, nil
}

// readUpTo returns the last sequence up to which the resolver has acknowledged everything.
func (s *Stream) readUpTo(ctx context.Context) (uint64, error) {
	c, err := s.cfg.Conn.JS.Consumer(ctx, topology.StreamEntries, topology.ConsumerResolverEntries)
	if err != nil {
		return 0, fmt.Errorf("look at what the resolver has read: %w", err)
	}

	return c.CachedInfo().AckFloor.Stream, nil
}

// purgeRead removes the entries that the resolver has read, and returns how many messages there were.
func (s *Stream) purgeRead(ctx context.Context) (uint64, error) {
	stream, err := s.cfg.Conn.JS.Stream(ctx, topology.StreamEntries)
	if err != nil {
		return 0, fmt.Errorf("look at the stream of entries: %w", err)
	}

	read, err := s.readUpTo(ctx)
	if err != nil {
		return 0, err
	}

	first := stream.CachedInfo().State.FirstSeq
	if read < first || stream.CachedInfo().State.Msgs == 0 {
		return 0, nil
	}

	return read + 1 - first, purge(ctx, stream, read+1)
}

func purge(ctx context.Context, stream jetstream.Stream, before uint64) error {
	if err := stream.Purge(ctx, jetstream.WithPurgeSequence(before)); err != nil {
		return fmt.Errorf("purge entries that were read: %w", err)
	}
	return nil
}

// UnderWay reports whether any consumer still has anything to process.
func (s *Stream) UnderWay(ctx context.Context) (bool, error) {
	consumers := map[string]string{
		topology.ConsumerResolverEntries: topology.StreamEntries,
		topology.ConsumerIngestAcks:      topology.StreamAcks,
	}
	for partition := range topology.Partitions {
		consumers[topology.PartitionConsumer(partition)] = topology.StreamUpdates
	}

	for name, stream := range consumers {
		c, err := s.cfg.Conn.JS.Consumer(ctx, stream, name)
		if err != nil {
			return false, fmt.Errorf("look at consumer %s: %w", name, err)
		}

		if info := c.CachedInfo(); info.NumPending > 0 || info.NumAckPending > 0 {
			return true, nil
		}
	}

	return false, nil
}
