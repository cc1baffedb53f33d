package commands

// How a command is run, and the meaning of its exit status.

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"bobosync/shared/text"
)

// The exit statuses of the commands. status and check have their own; see their help.
const (
	exitFailed = 1
	exitUsage  = 2
	// exitInterrupted is the customary status of a program that Ctrl-C ended.
	exitInterrupted = 130
)

// Execute runs a command, prints its error, and returns the exit status.
func Execute(ctx context.Context, root *cobra.Command) int {
	called := markWhenCalled(root)
	cmd, err := root.ExecuteContextC(ctx)
	var status ExitStatus
	var usage usageError
	var own withStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &own):
		printError(root, err)
		return int(own.status)
	case errors.As(err, &status):
		return int(status)
	case !*called, errors.As(err, &usage):
		printError(root, err)
		errOf(root).Printf("How it is used: %s --help\n", cmd.CommandPath())
		return exitUsage
	default:
		printError(root, err)
		return exitFailed
	}
}

// printError prints an error, one line for each of those that it joins.
func printError(root *cobra.Command, err error) {
	out := errOf(root)
	for i, line := range text.Lines(err) {
		if i == 0 {
			line = root.Name() + ": " + line
		}

		out.Line(line)
	}
}

// markWhenCalled returns a flag that is set when any command begins to run. An error before that is a wrong call, such
// as an unknown flag or too few arguments, for which cobra has no error type.
func markWhenCalled(root *cobra.Command) *bool {
	called := new(bool)

	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	EachCommand(root, func(cmd *cobra.Command) {
		if run := cmd.RunE; run != nil {
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				*called = true
				return run(cmd, args)
			}
		}
	})

	return called
}

// EachCommand calls visit for a command and all commands below it.
func EachCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)

	for _, sub := range cmd.Commands() {
		EachCommand(sub, visit)
	}
}

// ExitStatus is an error that ends the program with this status. What is wrong has already been printed.
type ExitStatus int

func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// withStatus is an error that is printed and that ends the program with its own status.
type withStatus struct {
	error
	status ExitStatus
}

func (e withStatus) Unwrap() error { return e.error }

// usageError is a mistake in the call of a command that is found only when the command runs.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// misused returns a usageError.
func misused(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
