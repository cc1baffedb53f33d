package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/event"
	"bobosync/shared/topology"
)

// letter is a dead letter with its number in the stream, by which operators name it.
type letter struct {
	ID uint64 `json:"id"`
	event.DeadLetter
}

// deadFlags are how an operator chooses dead letters.
type deadFlags struct {
	reason, file string
	all          bool
}

func deadCommand(envFile *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "Look at what could not be processed, try it again or drop it",
		Long: `Look at what could not be processed, try it again or drop it.

A dead letter is a message that no service could read, or an update whose value AtHoc will never take. A file with dead rows
lies in FAILED_FILES_DIRECTORY; when a requeue has mended the last of them, the file moves on to PROCESSED_DIRECTORY.
Dead letters are kept for 30 days.`,
		Example: `  bobosync dead list
  bobosync dead show 17
  bobosync dead requeue 17 18
  bobosync dead requeue --reason "not valid"
  bobosync dead drop --file monday.csv`,
	}
	cmd.AddCommand(deadListCommand(envFile), deadShowCommand(envFile), deadRequeueCommand(envFile), deadDropCommand(envFile))
	return cmd
}

// chooser adds the flags that choose dead letters.
func (f *deadFlags) add(cmd *cobra.Command, all bool) {
	cmd.Flags().StringVar(&f.reason, "reason", "", "those whose reason has this `text` in it")
	cmd.Flags().StringVar(&f.file, "file", "", "those of this file, by `name` or id")
	if all {
		cmd.Flags().BoolVar(&f.all, "all", false, "all of them")
	}
}

// choose returns the dead letters that an operator means: those named, those of the flags, or all if nothing is asked for
// and everything says so.
func (f *deadFlags) choose(ctx context.Context, conn *bus.Conn, args []string, everything bool) ([]letter, error) {
	if len(args) == 0 && f.reason == "" && f.file == "" && !f.all && !everything {
		return nil, errors.New("say which: ids, --reason, --file or --all")
	}
	ids := make([]uint64, 0, len(args))
	for _, arg := range args {
		id, err := strconv.ParseUint(arg, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no id: bobosync dead list shows them", arg)
		}
		ids = append(ids, id)
	}
	file := ""
	if f.file != "" {
		var err error
		if file, err = fileID(ctx, conn.NC, f.file); err != nil {
			return nil, err
		}
	}
	all, err := deadLetters(ctx, conn.JS)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !slices.ContainsFunc(all, func(l letter) bool { return l.ID == id }) {
			return nil, fmt.Errorf("there is no dead letter %d: bobosync dead list shows them", id)
		}
	}
	chosen := slices.DeleteFunc(all, func(l letter) bool {
		return len(ids) > 0 && !slices.Contains(ids, l.ID) ||
			f.reason != "" && !strings.Contains(strings.ToLower(l.Reason), strings.ToLower(f.reason)) ||
			file != "" && l.File != file
	})
	return chosen, nil
}

// deadLetters reads all dead letters. One that cannot be read itself is shown as such.
func deadLetters(ctx context.Context, js jetstream.JetStream) ([]letter, error) {
	stream, err := js.Stream(ctx, topology.StreamDead)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, errors.New("this broker has no dead letters' stream: have the services run with it?")
	}
	if err != nil {
		return nil, fmt.Errorf("open the dead letters: %w", err)
	}
	state := stream.CachedInfo().State
	all := []letter{} // JSON's null is no list
	for seq := state.FirstSeq; state.Msgs > 0 && seq <= state.LastSeq; seq++ {
		m, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read dead letter %d: %w", seq, err)
		}
		l := letter{ID: seq}
		if err := event.Decode(m.Data, &l.DeadLetter); err != nil {
			l.DeadLetter = event.DeadLetter{Service: "?", Reason: err.Error(), Payload: m.Data, Died: m.Time}
		}
		all = append(all, l)
	}
	return all, nil
}

func deadListCommand(envFile *string) *cobra.Command {
	var f deadFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List dead letters",
		Args:  cobra.NoArgs,
		RunE: with(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, _ []string) error {
			letters, err := f.choose(ctx, conn, nil, true)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), letters)
			}
			rows := [][]string{{"ID", "DIED", "SERVICE", "FILE", "LINE", "TRIES", "REASON"}}
			for _, l := range letters {
				line := "-"
				if l.Row > 0 {
					line = strconv.Itoa(l.Row)
				}
				rows = append(rows, []string{
					strconv.FormatUint(l.ID, 10), when(l.Died), l.Service, dash(l.File[:min(len(l.File), 12)]), line,
					strconv.FormatUint(l.Attempts, 10), l.Reason,
				})
			}
			return table(cmd.OutOrStdout(), rows)
		}),
	}
	f.add(cmd, false)
	cmd.Flags().BoolVar(&asJSON, "json", false, "answer in JSON")
	return cmd
}

func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func deadShowCommand(envFile *string) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a dead letter whole, with the original message",
		Args:  cobra.ExactArgs(1),
		RunE: with(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			letters, err := new(deadFlags).choose(ctx, conn, args, false)
			if err != nil {
				return err
			}
			return showLetter(cmd.OutOrStdout(), letters[0])
		}),
	}
}

// showLetter writes a dead letter; a payload that is JSON is shown as such.
func showLetter(out io.Writer, l letter) error {
	shown := struct {
		letter
		Payload any `json:"payload"`
	}{l, l.Payload}
	if json.Valid(l.Payload) {
		shown.Payload = json.RawMessage(l.Payload)
	}
	return printJSON(out, shown)
}

func deadRequeueCommand(envFile *string) *cobra.Command {
	var f deadFlags
	cmd := &cobra.Command{
		Use:   "requeue (ID... | --reason TEXT | --file NAME | --all)",
		Short: "Try dead letters again, once what was wrong is mended",
		Long: `Try dead letters again, once what was wrong is mended. If a newer event of the worker has won meanwhile, the row is settled as
superseded and nothing is sent.`,
		RunE: with(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			letters, err := f.choose(ctx, conn, args, false)
			if err != nil {
				return err
			}
			return forEach(ctx, conn, cmd.OutOrStdout(), letters, requeue)
		}),
	}
	f.add(cmd, true)
	return cmd
}

// forEach does something with each dead letter and removes it if that succeeded. It tells of each, and fails if one failed.
func forEach(ctx context.Context, conn *bus.Conn, out io.Writer, letters []letter,
	do func(context.Context, *bus.Conn, letter) (string, error),
) error {
	stream, err := conn.JS.Stream(ctx, topology.StreamDead)
	if err != nil {
		return fmt.Errorf("open the dead letters: %w", err)
	}
	failed := 0
	for _, l := range letters {
		did, err := do(ctx, conn, l)
		if err == nil {
			err = stream.DeleteMsg(ctx, l.ID)
		}
		if err != nil {
			failed++
			fmt.Fprintf(out, "%d: %v\n", l.ID, err)
			continue
		}
		fmt.Fprintf(out, "%d: %s\n", l.ID, did)
	}
	if len(letters) == 0 {
		fmt.Fprintln(out, "There are no such dead letters.")
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d dead letters stay as they are", failed, len(letters))
	}
	return nil
}

// requeue tries one dead letter again: an update through the resolver, which knows whether it still is the latest; any
// other message at the place where it could not be read.
func requeue(ctx context.Context, conn *bus.Conn, l letter) (string, error) {
	var u event.Update
	if l.Service == string(topology.Publisher) && event.Decode(l.Payload, &u) == nil {
		answer, err := control.Ask[control.RequeueAnswer](ctx, conn.NC, topology.Resolver, control.Requeue,
			control.RequeueRequest{Update: u, By: whoami()})
		if err != nil {
			return "", err
		}
		if answer.Superseded {
			return "a newer event has won meanwhile, nothing is to be sent", nil
		}
		return "is sent again", nil
	}
	switch {
	case l.Subject == "":
		return "", errors.New("it does not say where it came from, so it can only be dropped")
	case l.Service == string(topology.Publisher):
		// It would take the place of the update that the user has now.
		return "", errors.New("an update that cannot be read can only be dropped; bobosync replay sends the worker's status again")
	case l.Subject == topology.SubjectMapping:
		// It would take the place of a newer mapping.
		return "", errors.New("a part of a mapping can only be dropped: the janitor fetches the mapping anew")
	}
	if _, err := conn.JS.Publish(ctx, l.Subject, l.Payload); err != nil {
		return "", fmt.Errorf("publish it again: %w", err)
	}
	return "is read again", nil
}

func deadDropCommand(envFile *string) *cobra.Command {
	var f deadFlags
	cmd := &cobra.Command{
		Use:   "drop (ID... | --reason TEXT | --file NAME | --all)",
		Short: "Forget dead letters",
		RunE: with(envFile, func(ctx context.Context, conn *bus.Conn, cmd *cobra.Command, args []string) error {
			letters, err := f.choose(ctx, conn, args, false)
			if err != nil {
				return err
			}
			return forEach(ctx, conn, cmd.OutOrStdout(), letters,
				func(context.Context, *bus.Conn, letter) (string, error) { return "dropped", nil })
		}),
	}
	f.add(cmd, true)
	return cmd
}
