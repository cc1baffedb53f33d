package commands

// Running a command, and what its end means.

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"bobosync/shared/text"
)

// Exit statuses of the commands; status and check have their own: see their help.
const (
	exitFailed = 1
	exitUsage  = 2
	// exitInterrupted is that of a program which Ctrl-C ended, by custom.
	exitInterrupted = 130
)

// Execute runs a command, prints what is wrong, and returns the exit status.
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

// printError prints an error, a line for each of those that were joined.
func printError(root *cobra.Command, err error) {
	out := errOf(root)
	for i, line := range text.Lines(err) {
		if i == 0 {
			line = root.Name() + ": " + line
		}

		out.Line(line)
	}
}

// markWhenCalled finds out whether any command has begun: an error before that is a mistake in how it was called, such as an
// unknown flag or too few arguments, for which cobra has no error of its own.
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

// EachCommand visits a command and all below it.
func EachCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	visit(cmd)

	for _, sub := range cmd.Commands() {
		EachCommand(sub, visit)
	}
}

// ExitStatus ends the program with a status of its own; what is wrong has been printed already.
type ExitStatus int

func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// withStatus is an error that is printed and ends the program with a status of its own.
type withStatus struct {
	error
	status ExitStatus
}

func (e withStatus) Unwrap() error { return e.error }

// usageError is a mistake in how a command was called that shows only when it runs.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// misused makes a usageError.
func misused(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }
