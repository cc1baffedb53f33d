// Command natssetup makes what a broker of BOBO Sync is configured with. The Makefile calls it.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bobosync/deploy/nats/setup"
	"bobosync/shared/topology"
)

const usage = `natssetup makes what a broker of BOBO Sync is configured with.

  natssetup conf  [-out DIR]                 accounts.conf, with everyone's permissions
  natssetup creds [-out DIR] [-rotate USERS] keys.conf and creds/<user>.nk: a key for each user that has none
  natssetup certs [-out DIR] [-hosts NAMES]  tls/: a private authority, and the broker's certificate

`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	flags := flag.NewFlagSet("natssetup "+args[0], flag.ContinueOnError)
	out := flags.String("out", ".", "`directory` to write to")
	rotate := flags.String("rotate", "", "`users` who get a new key, with commas")
	hosts := flags.String("hosts", "localhost,127.0.0.1,nats", "`names` and addresses by which the broker is reached, with commas")
	if err := flags.Parse(args[1:]); err != nil {
		return 2
	}
	var err error
	switch args[0] {
	case "conf":
		err = os.WriteFile(filepath.Join(*out, "accounts.conf"), setup.Accounts(), 0o644)
	case "creds":
		err = creds(*out, list(*rotate))
	case "certs":
		err = setup.Certificates(filepath.Join(*out, "tls"), list(*hosts), time.Now())
	default:
		err = errors.New("there is no such command; run it without arguments to see them")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "natssetup %s: %v\n", args[0], err)
		return 1
	}
	return 0
}

func creds(out string, rotate []string) error {
	made, err := setup.Keys(out, topology.Users(), rotate...)
	if err != nil {
		return err
	}
	if len(made) == 0 {
		fmt.Println("Everyone has a key; nothing was changed.")
		return nil
	}
	fmt.Printf("New keys: %s.\nGive each program its file below %s, let the broker read %s again (nats-server --signal reload), then restart those programs.\n",
		strings.Join(made, ", "), filepath.Join(out, setup.CredsDir), filepath.Join(out, setup.PublicFile))
	return nil
}

func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}
