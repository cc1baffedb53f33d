// Package commands holds the operators' commands, mostly one file for each. They ask the services over the broker, and
// run none of them.
package commands

import (
	"errors"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bobosync/shared/program"
)

// The groups of commands in the help.
const (
	// GroupRun is the group of the commands that run something.
	GroupRun     = "run"
	groupInspect = "look"
	groupRepair  = "mend"
)

// Programs returns the commands that a program adds to the operators' commands: those that run services. envFile is
// the value of --env.
type Programs func(envFile *string) []*cobra.Command

// Root returns the root command with the operators' commands and those of programs.
func Root(programs Programs) *cobra.Command {
	cobra.EnableCommandSorting = false // the help lists the commands in the order in which they are needed
	root := &cobra.Command{
		Use:   "bobosync",
		Short: "Carry duty statuses from BOBO's CSV files to BlackBerry AtHoc",
		Long: `bobosync carries duty statuses from BOBO's CSV files to BlackBerry AtHoc.

Something is wrong? Begin with "bobosync status": it says what, and what to do.

Settings come from the environment and from a .env file; .env.example explains them all. The commands that look and repair ask
the services over the broker: that of NATS_URL, or the one inside a "bobosync run" with the same DATA_DIRECTORY. They work
wherever the broker can be reached.

Exit status: 0 done, 1 it failed, 2 it was called wrongly or a setting is wrong. "bobosync status" has its own: see its help.`,
		Version:           program.Version,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: refuseEmpty,
	}

	var envFile string
	root.PersistentFlags().StringVar(&envFile, "env", "", "read settings from this `file` (default .env, if it is there)")
	root.AddGroup(&cobra.Group{ID: groupInspect, Title: "Look:"}, &cobra.Group{ID: groupRepair, Title: "Repair:"})
	root.AddCommand(inGroup(groupInspect, statusCommand(&envFile), checkCommand(&envFile), filesCommand(&envFile), feedsCommand(&envFile), workerCommand(&envFile), onDutyCommand(&envFile), journalCommand(&envFile), auditCommand(&envFile))...)
	root.AddCommand(inGroup(groupRepair, heldCommand(&envFile), mappingCommand(&envFile), reconcileCommand(&envFile), replayCommand(&envFile), deadCommand(&envFile), eraseCommand(&envFile), pauseCommand(&envFile), resumeCommand(&envFile), notifyCommand(&envFile), consoleCommand(&envFile), provisionCommand(&envFile))...)

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

// refuseEmpty refuses an argument or a flag whose value is the empty text. Most often a script's variable is not set;
// without the value the command would mean all workers, the present moment, or whatever else it does by default.
func refuseEmpty(cmd *cobra.Command, args []string) error {
	if cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd {
		return nil // the word to be completed is often empty
	}

	for i, arg := range args {
		if arg == "" {
			return misused("argument %d is empty: leave it out, or is a variable of the shell not set?", i+1)
		}
	}

	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		list, isList := f.Value.(pflag.SliceValue)
		switch {
		case isList && len(list.GetSlice()) == 0, !isList && f.Value.String() == "":
			err = errors.Join(err, misused("--%s is empty: leave it out, or is a variable of the shell not set?", f.Name))
		case isList && slices.Contains(list.GetSlice(), ""):
			err = errors.Join(err, misused("--%s has an empty part: is there a comma too many?", f.Name))
		}
	})

	return err
}

// refuseUnknown makes a command that only holds other commands refuse an unknown name; cobra would show the help and
// count that as a success.
func refuseUnknown(cmd *cobra.Command) {
	if cmd.HasParent() && !cmd.Runnable() && cmd.HasSubCommands() {
		cmd.Args, cmd.DisableFlagsInUseLine = cobra.NoArgs, true
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
}
