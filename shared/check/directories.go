package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"bobosync/shared/disk"
)

// Space is the free and total space of a file system.
type Space struct {
	// Free and Total are in bytes; Free counts what this user can fill.
	Free, Total uint64
	// NoFiles reports whether no further file can be made, however much room there is.
	NoFiles bool
}

const (
	minFree = 100 << 20
	fewFree = 1 << 30
	fewPart = 20 // one part in twenty is 5 %
)

// judgeSpace judges whether there is enough room.
func judgeSpace(s Space) (Level, string) {
	text := size(s.Free) + " free"
	switch {
	case s.NoFiles:
		return Problem, "the file system can hold no more files, though it has " + text
	case s.Free < minFree:
		return Problem, "the disk is as good as full: " + text
	case s.Free < fewFree:
		return Warning, "the disk is nearly full: " + text
	case s.Free < s.Total/fewPart:
		return Warning, fmt.Sprintf("the disk is nearly full: %s of %s", text, size(s.Total))
	}

	return OK, text
}

// size formats a number of bytes for people.
func size(bytes uint64) string {
	const unit = 1024
	if bytes < unit {
		return fmt.Sprintf("%d bytes", bytes)
	}

	value, prefix := float64(bytes)/unit, 0
	for value >= unit && prefix < 4 {
		value /= unit
		prefix++
	}

	return fmt.Sprintf("%.1f %ciB", value, "KMGTP"[prefix])
}

// directory is a directory that the settings name.
type directory struct {
	variable, path string
	// write: files are made in it. made: it is created if it is missing. input: files arrive in it.
	write, made, input bool
}

func directories(s Settings) []directory {
	var all []directory
	if s.Files != nil {
		inputs := s.Files.Feeds
		if len(inputs) == 0 {
			inputs = []Feed{{"CSV_DIRECTORY", s.Files.CSV}}
		}

		for _, in := range inputs {
			all = append(all, directory{variable: in.Name, path: in.Dir, write: s.Files.Move, input: true})
		}

		if s.Files.Move {
			all = append(all,
				directory{variable: "PROCESSED_DIRECTORY", path: s.Files.Processed, write: true, made: true},
				directory{variable: "FAILED_FILES_DIRECTORY", path: s.Files.Failed, write: true, made: true})
		}
	}

	if s.Data != nil {
		all = append(all, directory{variable: "DATA_DIRECTORY", path: s.Data.Directory, write: true, made: true})
	}

	all = append(all, directory{variable: "LOG_DIRECTORY", path: s.Log.Directory, write: true, made: true})
	var set []directory
	for _, d := range all {
		if d.path != "" {
			set = append(set, d)
		}
	}

	return set
}

// directorySteps check each directory, and then whether files can be moved between them.
func directorySteps(s Settings) []step {
	dirs := directories(s)
	var steps []step
	for _, d := range dirs {
		steps = append(steps, step{name: d.variable, run: func(_ context.Context, f *facts) []Result { return d.check(f.Space) }})
	}

	from, into := moves(dirs)
	if len(into) == 0 {
		return steps
	}

	var needs []string
	for _, d := range append(slices.Clone(from), into...) {
		needs = append(needs, d.variable)
	}

	return append(steps, step{name: "moving files", needs: needs, run: func(context.Context, *facts) []Result {
		return checkMoves(from, into)
	}})
}

// moves returns the directories that files are moved from, and those that files are moved to.
func moves(dirs []directory) (from, into []directory) {
	for _, d := range dirs {
		switch {
		case d.input:
			from = append(from, d)
		case d.variable == "PROCESSED_DIRECTORY", d.variable == "FAILED_FILES_DIRECTORY":
			into = append(into, d)
		}
	}

	if len(from) == 0 {
		return nil, nil
	}

	return from, into
}

// check tries to read and to write, because only that shows what this user may do.
func (d directory) check(space func(string) (Space, error)) []Result {
	info, err := os.Stat(d.path)
	where := d.path
	switch {
	case errors.Is(err, fs.ErrNotExist) && d.made:
		where = above(d.path)
	case err != nil:
		return d.failed("look at", err)
	case !info.IsDir():
		return bad("name a directory", "%s is not a directory", d.path)
	}

	if where == d.path {
		if err := list(where); err != nil {
			return d.failed("read", err)
		}
	}

	if d.write {
		if err := try(where); err != nil {
			return d.failed("write", err)
		}
	}

	return d.judge(where, space)
}

// judge reports success, and adds how much room there is.
func (d directory) judge(where string, space func(string) (Space, error)) []Result {
	state := "can be read and written"
	if !d.write {
		state = "can be read"
	}

	if where != d.path {
		state = "does not exist yet and will be made"
	}

	s, err := space(where)
	if err != nil {
		return good("%s %s", d.path, state)
	}

	level, text := judgeSpace(s)
	advice := ""
	if level != OK {
		advice = fmt.Sprintf("make room on the file system of %s: on a full disk nothing can go on", d.path)
	}

	return []Result{{Level: level, Message: fmt.Sprintf("%s %s; %s", d.path, state, text), Advice: advice}}
}

// failed says in plain words what is wrong with a directory.
func (d directory) failed(doing string, err error) []Result {
	message := fmt.Sprintf("cannot %s %s: ", doing, d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !d.made:
		return bad("make it, or name another one", "%s does not exist", d.path)
	case disk.IsFull(err):
		return bad("make room on its file system", "%sthe disk is full", message)
	case errors.Is(err, syscall.EROFS):
		return bad("mount its file system for writing, or name another directory", "%sits file system is read-only", message)
	case errors.Is(err, fs.ErrPermission):
		return bad("give the user that runs the services read and write access to it", "%sno permission", message)
	case errors.Is(err, syscall.ENOTDIR):
		return bad("name a directory whose path holds directories only", "%sa part of its path is not a directory", message)
	}

	return bad("name a directory that this user can read and write", "%s%s", message, disk.Cause(err))
}

// above returns the nearest existing directory above a path.
func above(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "."
	}

	for {
		if _, err := os.Stat(abs); err == nil || filepath.Dir(abs) == abs {
			return abs
		}

		abs = filepath.Dir(abs)
	}
}

// list reads the first entry of a directory.
func list(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()

	if _, err := f.Readdirnames(1); err != nil && !errors.Is(err, io.EOF) {
		return err
	}

	return nil
}

// trialName is a file name that ingest does not take for one of BOBO's files.
const trialName = ".bobosync-check-*.tmp"

// trialSize is large enough to notice a full disk.
const trialSize = 64 << 10

// try makes a file in a directory and removes it again.
func try(path string) error {
	file, err := trial(path)
	if err != nil {
		return err
	}

	return os.Remove(file)
}

// trial makes a file in a directory and returns its path. On an error it leaves no file.
func trial(path string) (string, error) {
	f, err := os.CreateTemp(path, trialName)
	if err != nil {
		return "", err
	}

	_, err = f.Write(make([]byte, trialSize))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}

	return f.Name(), nil
}

// checkMoves checks that the directories differ, and that a file can be renamed from one into the other. It does so by
// renaming one: two mounts of the same file system do not allow that either.
func checkMoves(from, into []directory) []Result {
	all := append(slices.Clone(from), into...)
	for i, a := range all {
		for _, b := range all[i+1:] {
			if same(a.path, b.path) {
				return bad("give each a directory of its own", "%s and %s are the same directory", a.variable, b.variable)
			}
		}
	}

	var results []Result
	for _, in := range from {
		for _, d := range into {
			if crosses(in.path, d.path) {
				results = append(results, warn("put both on one file system (in containers: into one volume)",
					"%s and %s lie on different file systems: each file is copied, which takes longer, instead of renamed", in.variable, d.variable)...)
			}
		}
	}

	if len(results) == 0 {
		return good("finished files can be renamed into their place")
	}

	return results
}

// same reports whether two paths are the same directory, even if they do not exist yet.
func same(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX == nil && errY == nil {
		return os.SameFile(x, y)
	}

	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)

	return errA == nil && errB == nil && absA == absB
}

// crosses reports whether a file cannot be renamed from one directory into the other.
func crosses(from, into string) bool {
	if _, err := os.Stat(into); err != nil {
		into = above(into)
	}

	file, err := trial(from)
	if err != nil {
		return false // the directory's own check reports this
	}

	moved := filepath.Join(into, filepath.Base(file))
	if err := os.Rename(file, moved); err != nil {
		os.Remove(file)
		return true
	}

	os.Remove(moved)

	return false
}
