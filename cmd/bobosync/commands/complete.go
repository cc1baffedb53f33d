package commands

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/client"
	"bobosync/shared/program"
	"bobosync/shared/text"
)

// completeTimeout is the longest that the shell waits for names.
const completeTimeout = 1500 * time.Millisecond

// noNames completes nothing, not even the names of files.
const noNames = cobra.ShellCompDirectiveNoFileComp

// completing lets the shell complete names that the services know. If anything goes wrong, it silently completes
// nothing.
func completing(envFile *string, names func(context.Context, *bus.Conn) ([]string, error)) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(contextOf(cmd), completeTimeout)
		defer cancel()

		var s client.Settings
		if program.Load(ctx, *envFile, &s) != nil {
			return nil, noNames
		}

		conn, err := s.Connect(ctx, completeTimeout)
		if err != nil {
			return nil, noNames
		}
		defer conn.Close()

		all, err := names(ctx, conn)
		if err != nil {
			return nil, noNames
		}

		for i, name := range all {
			all[i] = cleanCompletion(name)
		}

		return all, noNames
	}
}

// cleanCompletion makes a completion harmless, both the name and the description behind the tab, since the shell shows
// them verbatim.
func cleanCompletion(s string) string {
	name, about, has := strings.Cut(s, "\t")
	if !has {
		return text.Clean(name)
	}

	return text.Clean(name) + "\t" + text.Clean(about)
}

func contextOf(cmd *cobra.Command) context.Context {
	if ctx := cmd.Context(); ctx != nil {
		return ctx
	}
	return context.Background()
}

// completeFlag lets the shell complete a flag's value.
func completeFlag(cmd *cobra.Command, flag string, names cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, names); err != nil {
		panic("completion of --" + flag + ": " + err.Error()) // the command has no such flag
	}
}
