package commands

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/program"
	"bobosync/shared/text"
)

// outOf returns the printer of a command's answer. It makes what it prints harmless.
func outOf(cmd *cobra.Command) *text.Printer { return text.To(cmd.OutOrStdout()) }

// errOf returns the printer for what goes wrong in a command.
func errOf(cmd *cobra.Command) *text.Printer { return text.To(cmd.ErrOrStderr()) }

// loadSettings reads the settings of the operators' commands.
func loadSettings(ctx context.Context, envFile string) (client.Settings, error) {
	var s client.Settings
	return s, load(ctx, envFile, &s)
}

// load reads settings into target. If they cannot be used, it prints why and returns the exit status.
func load(ctx context.Context, envFile string, target any) error {
	if err := program.Load(ctx, envFile, target); err != nil {
		program.PrintSettingsError(os.Stderr, "the command", err)
		return ExitStatus(exitUsage)
	}

	return nil
}

// withBroker runs a command with a connection to the broker. The command ends as soon as the broker reports that its
// user lacks a right; otherwise it would wait in vain for an answer.
func withBroker(envFile *string, f func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		settings, err := loadSettings(cmd.Context(), *envFile)
		if err != nil {
			return err
		}

		conn, err := settings.Connect(cmd.Context(), client.ConnectTimeout)
		if err != nil {
			return err
		}
		defer conn.Close()

		ctx, cancel := conn.Heed(cmd.Context(), "")
		defer cancel()

		err = f(ctx, conn, cmd, args)
		if err != nil && errors.Is(context.Cause(ctx), bus.ErrNotAllowed) {
			return errNotAllowed
		}

		return err
	}
}

// errNotAllowed says what to do if the broker's user has no right to give an order.
var errNotAllowed = errors.New("the broker does not let this user give that order: call the command with the operator's file in NATS_CREDS")

// moment is client.Moment with its error made a usageError.
func moment(words string, now time.Time) (time.Time, error) {
	t, err := client.Moment(words, now)
	if err != nil {
		err = usageError{err}
	}

	return t, err
}

// orderOf returns who gives an order by a command, and how its warnings are printed.
func orderOf(cmd *cobra.Command) client.Order {
	return client.Order{By: client.Whoami(), Warn: func(err error) {
		errOf(cmd).Printf("bobosync: warning: this is done, but the journal has no note of it: %v\n", err)
	}}
}

// asking returns the RunE of a command that asks for something and shows the answer, to people or as JSON.
func asking[T any](envFile *string, asJSON *bool, ask func(context.Context, *bus.Conn) (T, error), show func(*text.Printer, T) error,
) func(*cobra.Command, []string) error {
	return withBroker(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
		answer, err := ask(ctx, conn)
		if err != nil {
			return err
		}

		if *asJSON {
			return outOf(cmd).JSON(answer)
		}

		return show(outOf(cmd), answer)
	})
}
