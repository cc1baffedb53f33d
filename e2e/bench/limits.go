//go:build unix

package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"bobosync/shared/broker"
)

const (
	// payload is the size of a message that represents a row; atomicBatch is the most messages that the server
	// accepts in one batch.
	payload     = 200
	atomicBatch = 1000
	// syncs is how many writes are synced to measure what one costs.
	syncs = 200
)

// readCSV reads a file with encoding/csv and returns the rows, header included.
func readCSV(path string) (rows int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()

	r := csv.NewReader(bufio.NewReaderSize(f, 1<<20))
	r.ReuseRecord = true
	for {
		if _, err := r.Read(); errors.Is(err, io.EOF) {
			return rows, nil
		} else if err != nil {
			return rows, err
		}

		rows++
	}
}

// splitLines reads a file line by line and finds the columns, ignoring quotes.
func splitLines(path string) (rows int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()

	lines := bufio.NewScanner(bufio.NewReaderSize(f, 1<<20))
	for lines.Scan() {
		columns := 1
		for line := lines.Bytes(); ; columns++ {
			i := bytes.IndexByte(line, ',')
			if i < 0 {
				break
			}

			line = line[i+1:]
		}

		if columns != 10 {
			return rows, fmt.Errorf("line %d has %d columns", rows+1, columns)
		}

		rows++
	}

	return rows, lines.Err()
}

// syncTime returns the median time of a small write and its sync in dir.
func syncTime(dir string) (median time.Duration, err error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()

	block := make([]byte, 4096)
	var took []time.Duration
	for range syncs {
		began := time.Now()

		if _, err := f.Write(block); err != nil {
			return 0, err
		}

		if err := f.Sync(); err != nil {
			return 0, err
		}

		took = append(took, time.Since(began))
	}

	slices.Sort(took)

	return took[len(took)/2], nil
}

// jetStreamRate returns how many messages a second a broker in this process stores, either over TCP or within the
// process. The messages are sent in atomic batches one after the other, each synced to disk before it is
// acknowledged.
func jetStreamRate(ctx context.Context, dir string, messages int, tcp bool) (rate float64, err error) {
	server, err := broker.Start(ctx, broker.Options{
		StoreDir: dir, Port: broker.RandomPort, DontListen: !tcp, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()

		err = errors.Join(err, server.Shutdown(ctx), os.RemoveAll(dir))
	}()

	option := nats.InProcessServer(server)
	if tcp {
		option = func(*nats.Options) error { return nil }
	}

	conn, err := nats.Connect(server.ClientURL(), option)
	if err != nil {
		return 0, err
	}
	defer conn.Close()

	js, err := jetstream.New(conn)
	if err != nil {
		return 0, err
	}

	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "ROWS", Subjects: []string{"rows"}, AllowAtomicPublish: true})
	if err != nil {
		return 0, err
	}

	return publishRate(ctx, js, messages)
}

func publishRate(ctx context.Context, js jetstream.JetStream, messages int) (float64, error) {
	data := bytes.Repeat([]byte("x"), payload)
	batch := make([]*nats.Msg, atomicBatch)
	began := time.Now()

	done := 0
	for done < messages {
		for i := range batch {
			batch[i] = nats.NewMsg("rows") // publishing adds headers, so messages are not reused
			batch[i].Data = data
		}

		ack, err := jetstreamext.PublishMsgBatch(ctx, js, batch)
		if err != nil {
			return 0, fmt.Errorf("publish an atomic batch: %w", err)
		}

		if done += len(batch); ack.Sequence != uint64(done) {
			return 0, fmt.Errorf("the stream holds %d messages instead of %d", ack.Sequence, done)
		}
	}

	return float64(done) / time.Since(began).Seconds(), nil
}
