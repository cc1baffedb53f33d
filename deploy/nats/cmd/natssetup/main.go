// Command natssetup makes the files that a broker of BOBO Sync is configured with. The Makefile calls it.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bobosync/deploy/nats/setup"
	"bobosync/shared/topology"
)

const usage = `natssetup makes what a broker of BOBO Sync is configured with.

  natssetup conf  [-out DIR]                 accounts.conf, with everyone's permissions, and the operators of keys.conf
  natssetup creds [-out DIR] [-rotate USERS] keys.conf and creds/<user>.nk: a key for each user that has none
  natssetup operators [-out DIR] [-add NAMES] [-withdraw NAMES]
                                             who has an operator's key of his own; keys.conf, accounts.conf and creds/operator-<name>.nk
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
	add := flags.String("add", "", "`operators` who get a key of their own, with commas")
	withdraw := flags.String("withdraw", "", "`operators` whose key is withdrawn, with commas")
	hosts := flags.String("hosts", "localhost,127.0.0.1,nats", "`names` and addresses by which the broker is reached, with commas")
	if err := flags.Parse(args[1:]); err != nil {
		return 2
	}

	var err error
	switch args[0] {
	case "conf":
		err = conf(*out)
	case "creds":
		err = creds(*out, list(*rotate))
	case "operators":
		err = operators(*out, list(*add), list(*withdraw))
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

// conf writes accounts.conf.
func conf(out string) error {
	names, err := setup.Operators(out)
	if err != nil {
		return err
	}

	return os.WriteFile(filepath.Join(out, setup.AccountsFile), setup.Accounts(names...), 0o644)
}

// operators gives operators keys of their own, or withdraws them, and lists the operators who have one.
func operators(out string, add, withdraw []string) error {
	names, err := setup.Operators(out)
	if err != nil {
		return err
	}

	for _, name := range add {
		if !topology.IsOperatorName(name) {
			return fmt.Errorf("%q cannot be an operator's name: use lower-case letters, digits and -, at most 31 of them, a letter first", name)
		}

		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}

	for _, name := range withdraw {
		at := slices.Index(names, name)
		if at < 0 {
			return fmt.Errorf("no operator %q has a key of his own", name)
		}

		names = slices.Delete(names, at, at+1)

		if err := setup.Withdraw(out, topology.OperatorUser(name)); err != nil {
			return err
		}
	}

	slices.Sort(names)

	if len(add)+len(withdraw) > 0 {
		made, err := setup.Keys(out, topology.Users(names...))
		if err == nil {
			err = conf(out)
		}

		if err != nil {
			return err
		}

		fmt.Printf("New keys: %s. Let the broker read %s and %s of %s again (nats-server --signal reload), twice if there are new ones.\n",
			cmp.Or(strings.Join(made, ", "), "none"), setup.PublicFile, setup.AccountsFile, out)
	}

	for _, name := range names {
		fmt.Printf("%s\t%s\n", name, setup.CredsFile(out, topology.OperatorUser(name)))
	}

	if len(names) == 0 {
		fmt.Println("No operator has a key of his own; all use that of the user operator.")
	}

	return nil
}

func creds(out string, rotate []string) error {
	names, err := setup.Operators(out)
	if err != nil {
		return err
	}

	made, err := setup.Keys(out, topology.Users(names...), rotate...)
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
