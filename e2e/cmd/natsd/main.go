// Command natsd is a NATS server with JetStream in a separate process, so that a test can kill and restart it. It
// ends on SIGTERM or SIGINT.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"bobosync/shared/broker"
)

// stopTime is how long a graceful stop may take.
const stopTime = 10 * time.Second

func main() { os.Exit(run()) }

func run() int {
	store := flag.String("store", "", "`directory` of the streams")
	port := flag.Int("port", 4222, "TCP `port` on 127.0.0.1")
	lazy := flag.Bool("sync-lazily", false, "acknowledge messages before they are synced to the disk")
	without := flag.Bool("without-jetstream", false, "run without any streams, as a server does whose JetStream is switched off")

	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))

	if *without {
		return bare(ctx, *port)
	}

	inside, err := broker.Start(ctx, broker.Options{StoreDir: *store, Port: *port, SyncLazily: *lazy, Logger: log})
	if err != nil {
		fmt.Fprintln(os.Stderr, "natsd:", err)
		return 1
	}

	<-ctx.Done()

	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()

	if err := inside.Shutdown(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "natsd:", err)
		return 1
	}

	return 0
}

// bare runs a server without JetStream.
func bare(ctx context.Context, port int) int {
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoSigs: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, "natsd:", err)
		return 1
	}

	ns.Start()
	<-ctx.Done()
	ns.Shutdown()
	ns.WaitForShutdown()

	return 0
}
