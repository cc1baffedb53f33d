// Package commands holds the operators' commands, a file for each. They ask the services over the broker, and run none.
package commands

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"bobosync/shared/program"
	"bobosync/shared/text"
)

// Exit statuses of the commands; status and check have their own: see their help.
const (
	exitFailed = 1
	exitUsage  = 2
	// exitInterrupted is that of a program which Ctrl-C ended, by custom.
	exitInterrupted = 130
)

// Execute runs a command, tells the operator what is wrong, and returns the exit status.
func Execute(ctx context.Context, root *cobra.Command) int {
	called := markWhenCalled(root)
	cmd, err := root.ExecuteContextC(ctx)
	var status ExitStatus
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	case !*called, errors.As(err, &usage):
		complain(root, err)
		errOf(root).Printf("How it is used: %s --help\n", cmd.CommandPath())
		return exitUsage
	default:
		complain(root, err)
		return exitFailed
	}
}

// complain tells an error, a line for each of those that were joined.
func complain(root *cobra.Command, err error) {
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

// ExitStatus ends the program with a status of its own; what is wrong has been said already.
type ExitStatus int

func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usageError is a mistake in how a command was called that shows only when it runs.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// misused makes a usageError.
func misused(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// The groups of commands in the help.
const (
	// GroupRun is for those that run something.
	GroupRun  = "run"
	groupLook = "look"
	groupMend = "mend"
)

// Programs makes what a program adds to the operators' commands: what runs services. envFile is the value of --env.
type Programs func(envFile *string) []*cobra.Command

// Root makes the operators' commands, with those that programs adds.
func Root(programs Programs) *cobra.Command {
	cobra.EnableCommandSorting = false // the help shows first what is needed first
	root := &cobra.Command{
		Use:   "bobosync",
		Short: "Carry duty statuses from BOBO's CSV files to BlackBerry AtHoc",
		Long: `bobosync carries duty statuses from BOBO's CSV files to BlackBerry AtHoc.

Something is wrong? Begin with "bobosync status": it says what, and what to do.

Settings come from the environment and from a .env file; .env.example explains them all. The commands that look and mend ask
the services over the broker: that of NATS_URL, or the one inside a "bobosync run" with the same DATA_DIRECTORY. They work
wherever the broker can be reached.

Exit status: 0 done, 1 it failed, 2 it was called wrongly or a setting is wrong. "bobosync status" has its own: see its help.`,
		Version:       program.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	var envFile string
	root.PersistentFlags().StringVar(&envFile, "env", "", "read settings from this `file` (default .env, if it is there)")
	root.AddGroup(&cobra.Group{ID: groupLook, Title: "Look:"}, &cobra.Group{ID: groupMend, Title: "Mend:"})
	root.AddCommand(inGroup(groupLook, statusCommand(&envFile), checkCommand(&envFile), filesCommand(&envFile), feedsCommand(&envFile), workerCommand(&envFile), onDutyCommand(&envFile), journalCommand(&envFile), auditCommand(&envFile))...)
	root.AddCommand(inGroup(groupMend, heldCommand(&envFile), mappingCommand(&envFile), reconcileCommand(&envFile), replayCommand(&envFile), deadCommand(&envFile), eraseCommand(&envFile), pauseCommand(&envFile), resumeCommand(&envFile), notifyCommand(&envFile), consoleCommand(&envFile), provisionCommand(&envFile))...)
	if added := programs(&envFile); len(added) > 0 {
		root.AddGroup(&cobra.Group{ID: GroupRun, Title: "Run:"})
		root.AddCommand(added...)
	}
	EachCommand(root, refuseUnknown)
	return root
}

func inGroup(id string, commands ...*cobra.Command) []*cobra.Command {
	for _, cmd := range commands {
		cmd.GroupID = id
	}
	return commands
}

// refuseUnknown makes a command that only holds others refuse a name that none of them has; cobra would show the help and
// count that as a success.
func refuseUnknown(cmd *cobra.Command) {
	if cmd.HasParent() && !cmd.Runnable() && cmd.HasSubCommands() {
		cmd.Args, cmd.DisableFlagsInUseLine = cobra.NoArgs, true
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}
