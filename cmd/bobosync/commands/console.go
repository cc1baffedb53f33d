package commands

// Access to the web console.

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"bobosync/shared/client"
	"bobosync/shared/login"
)

func consoleCommand(envFile *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "console",
		Short: "Come into the web console: a link for this machine, a user's line",
		Long: `Log in to the web console, which runs where CONSOLE_ADDR is set. With CONSOLE_AUTH=link anyone who may read DATA_DIRECTORY opens it
by a link; with CONSOLE_AUTH=file people log in with name and password.`,
		Example: "  bobosync console open\n  bobosync console passwd j.smith --role operator",
	}
	cmd.AddCommand(consoleOpenCommand(envFile), consolePasswdCommand())

	return cmd
}

func consoleOpenCommand(envFile *string) *cobra.Command {
	return &cobra.Command{
		Use:   "open",
		Short: "Print a link that opens the console once, within a minute",
		Long: `Print a link that opens the console once, within a minute, with all rights that the commands have: open it in a browser on this
machine. It needs a console with CONSOLE_AUTH=link and the same DATA_DIRECTORY.`,
		Example:           "  bobosync console open",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := loadSettings(cmd.Context(), *envFile)
			if err != nil {
				return err
			}

			link, err := login.NewLink(s.Data.Directory, client.Whoami(), time.Now())
			if err != nil {
				return err
			}

			out := outOf(cmd)
			out.Printf("%s\n", link)

			return out.Err()
		},
	}
}

func consolePasswdCommand() *cobra.Command {
	var role string
	cmd := &cobra.Command{
		Use:   "passwd NAME",
		Short: "Make a user's line for CONSOLE_USERS_FILE, with the hash of a password",
		Long: fmt.Sprintf(`Make a user's line for the file that CONSOLE_USERS_FILE names, with the argon2id hash of a password: put it there in place of
the user's previous line. The console reads the file again when it changes; users whose line has changed are logged out.

The password is asked for twice, without being shown; if the input is not a terminal, its first line is the password. It must have at
least %d characters.

Roles: viewer sees no person and gives no orders, operator does both, approver decides what is held as well.`, login.LeastPassword),
		Example:           "  bobosync console passwd j.smith --role operator >>users",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !login.IsUserName(args[0]) {
				return misused("a name begins with a letter or a digit, may go on with . _ @ - too, and has at most 64 characters")
			}

			if !slices.Contains(login.Roles, role) {
				return misused("--role must be one of %s", strings.Join(login.Roles, ", "))
			}

			password, err := askPassword(cmd)
			if err != nil {
				return err
			}

			hash, err := login.Hash(password)
			if err != nil {
				return err
			}

			out := outOf(cmd)
			out.Printf("%s\n", login.Line(args[0], role, hash))

			return out.Err()
		},
	}
	cmd.Flags().StringVar(&role, "role", "viewer", "the user's `role`: "+strings.Join(login.Roles, ", "))
	completeFlag(cmd, "role", cobra.FixedCompletions(login.Roles, noNames))

	return cmd
}

// askPassword reads a password twice from a terminal, or once from anything else.
func askPassword(cmd *cobra.Command) (string, error) {
	in := cmd.InOrStdin()
	file, isFile := in.(*os.File)
	if !isFile || !term.IsTerminal(int(file.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(in, login.MaxPassword+2)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("read the password: %w", err)
		}

		return strings.TrimRight(line, "\r\n"), nil
	}

	var typed [2]string
	for i, prompt := range []string{"Password: ", "The same again: "} {
		errOf(cmd).Printf("%s", prompt)

		line, err := term.ReadPassword(int(file.Fd()))

		errOf(cmd).Printf("\n")

		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}

		typed[i] = string(line)
	}

	if typed[0] != typed[1] {
		return "", errors.New("the two passwords differ: nothing is made")
	}

	return typed[0], nil
}
