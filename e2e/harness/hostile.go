//go:build unix

package harness

// A hostile bringer: somebody who may write into the input directory, and who puts there what is not a file, what
// nobody may open, what has no end, and what is something else a moment later. What the bringer brings is about
// strangers whom AtHoc does not know, and the bringer takes it away again. Nobody else's files may be delayed by it.

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"bobosync/e2e/audit"
	"bobosync/shared/boborow"
	"bobosync/shared/pause"
)

// Bringer is the source of faults that somebody causes who may write into the input directory.
const Bringer = "bringer"

// bringers is how many tricks the bringer plays at once.
const bringers = 3

// hostilePrefix begins the names of what the bringer brings, except for the odd names.
const hostilePrefix = "hostile-"

// bringerFaults are the bringer's faults.
var bringerFaults = []faultKind{
	{"links from", 2, []string{Bringer}, 2 * settleTime, 4 * time.Second, plantLinks},
	{"pipes from", 2, []string{Bringer}, 2 * settleTime, 4 * time.Second, plantPipes},
	{"leases from", 2, []string{Bringer}, 2 * settleTime, 6 * time.Second, plantLeases},
	{"sparse files from", 2, []string{Bringer}, 2 * settleTime, 4 * time.Second, plantSparse},
	{"swaps from", 4, []string{Bringer}, 2 * time.Second, 6 * time.Second, swapFiles},
	{"odd names from", 4, []string{Bringer}, time.Second, 4 * time.Second, oddNames},
}

// hostileName returns the n-th name that belongs to this fault.
func (f Fault) hostileName(n int) string {
	return fmt.Sprintf("%s%016x %d.csv", hostilePrefix, f.Draw, n)
}

// plant makes things in the input directory. The end of the fault removes what is left of them.
func (s *Stack) plant(f Fault, makes ...func(path string) error) (func() error, error) {
	var errs []error
	for i, make := range makes {
		errs = append(errs, make(s.Path(inDir, f.hostileName(i))))
	}

	return func() error {
		var errs []error
		for i := range makes {
			errs = append(errs, s.remove(f.hostileName(i)))
		}

		return errors.Join(errs...)
	}, errors.Join(errs...)
}

// remove removes something from the input directory, whatever it is by now.
func (s *Stack) remove(name string) error {
	path := s.Path(inDir, name)
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		_ = os.Chmod(path, 0o700) // without this, removing it fails
	}

	return os.RemoveAll(path)
}

// secretFile writes a file that nobody may read through a link: if it were read, it would be kept although nobody
// dropped it.
func (s *Stack) secretFile() (string, error) {
	path := s.Path("outside", "secret.csv")
	return path, os.WriteFile(path, []byte("BON,secret of another user\n"), 0o600)
}

func plantLinks(_ context.Context, s *Stack, f Fault, _ string) (func() error, error) {
	secret, err := s.secretFile()
	if err != nil {
		return nil, err
	}

	link := func(to string) func(string) error { return func(path string) error { return os.Symlink(to, path) } }

	return s.plant(f, link(secret), link("../outside/secret.csv"), link("/proc/self/environ"), link("/dev/zero"), link("/nothing/there"),
		link(f.hostileName(5)), link(s.Path(dataDir)), link(s.Path(dataDir, "ingest.db")), link("."))
}

func plantPipes(_ context.Context, s *Stack, f Fault, _ string) (func() error, error) {
	mode := uint32(0o666)
	aside := s.Path(inDir, fmt.Sprintf(".bobosync-%016x.aside", f.Draw)) // the form of the names that ingest uses itself
	end, err := s.plant(f,
		func(path string) error { return syscall.Mkfifo(path, mode) },
		func(path string) error { return os.Mkdir(path, 0) },
		func(path string) error { return syscall.Mknod(path, syscall.S_IFSOCK|mode, 0) },
		func(path string) error { return syscall.Mkfifo(path, 0) },
		func(string) error { return os.Mkdir(aside, 0) },
	)

	return func() error { return errors.Join(end(), os.RemoveAll(aside)) }, err
}

// strangers makes a file about workers whom nobody knows.
func strangers(rng *rand.Rand, rows int) []byte {
	var b strings.Builder
	at := time.Now().Add(-12 * time.Hour).UTC() // a past moment in any zone
	for range rows {
		fmt.Fprintln(&b, boborow.New(true, fmt.Sprintf("X%08d", rng.IntN(1e8)), at))
	}

	return []byte(b.String())
}

func plantLeases(_ context.Context, s *Stack, f Fault, _ string) (func() error, error) {
	var held []*os.File
	lease := func(path string) error {
		out, err := s.bring(strangers(f.rng(), 3), 0)
		if err != nil {
			return err
		}

		file, err := os.OpenFile(out, os.O_RDWR, 0)
		if err == nil {
			held = append(held, file)
			err = takeLease(file)
		}

		return errors.Join(err, os.Rename(out, path))
	}
	end, err := s.plant(f, lease, lease)

	return func() error {
		err := end() // while the lease holds, nobody can have read the file
		for _, file := range held {
			err = errors.Join(err, file.Close())
		}

		return err
	}, err
}

// bring writes a file outside, to be moved in, and records that its content may be kept any number of times. A size
// other than 0 extends the file to that many bytes.
func (s *Stack) bring(content []byte, size int64) (path string, err error) {
	path = s.outside()
	if err = os.WriteFile(path, content, 0o644); err == nil && size > 0 {
		err = os.Truncate(path, size)
		content = append(content, make([]byte, max(0, size-int64(len(content))))...)
	}

	s.In.mayKeep(audit.FileID(content))

	return path, err
}

// outside returns a path for something that will be moved into the input directory.
func (s *Stack) outside() string {
	s.mu.Lock()
	defer s.mu.Unlock()

	s.brought++

	return s.Path("outside", fmt.Sprintf("%s%d", hostilePrefix, s.brought))
}

// Sizes of sparse files: one of a file that is read up to its first hole, and one larger than MAX_FILE_SIZE.
const smallHole, largeHole = 8 << 20, 1 << 40

func plantSparse(_ context.Context, s *Stack, f Fault, _ string) (func() error, error) {
	hole := func(content []byte) func(string) error {
		return func(path string) error {
			out, err := s.bring(content, smallHole)
			return errors.Join(err, os.Rename(out, path))
		}
	}
	large := func(path string) error {
		return errors.Join(os.WriteFile(path, nil, 0o644), os.Truncate(path, largeHole))
	}

	return s.plant(f, large, hole(nil), hole(strangers(f.rng(), 2)))
}

func (f Fault) rng() *rand.Rand { return rand.New(rand.NewPCG(f.Draw, 2)) }

// swapFiles keeps replacing what is under some names, at any moment while it is being found, read and moved.
func swapFiles(ctx context.Context, s *Stack, f Fault, _ string) (func() error, error) {
	secret, err := s.secretFile()
	if err != nil {
		return nil, err
	}

	ctx, cancel := context.WithCancel(ctx)
	var swapping sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		rng := rand.New(rand.NewPCG(f.Draw, uint64(3+i)))
		swapping.Go(func() {
			for ctx.Err() == nil && errs[i] == nil {
				errs[i] = s.swap(rng, s.Path(inDir, f.hostileName(i)), secret)
				_ = pause.For(ctx, time.Duration(rng.Int64N(int64(3*settleTime))))
			}
		})
	}

	return func() error {
		cancel()
		swapping.Wait()
		s.In.sweep(fmt.Sprintf("%s%016x", hostilePrefix, f.Draw))
		return errors.Join(errs...)
	}, nil
}

// swap puts something else under a name.
func (s *Stack) swap(rng *rand.Rand, path, secret string) error {
	draw := rng.IntN(9)
	var out string
	var err error
	if draw < 5 { // files; the larger ones take a while to be read
		out, err = s.bring(strangers(rng, 1+rng.IntN(1<<(2+3*draw))), 0)
	} else {
		out = s.outside()
		err = []func() error{
			func() error { return os.Symlink(secret, out) },
			func() error { return syscall.Mkfifo(out, 0o666) },
			func() error { return os.Mkdir(out, 0o700) },
			func() error { return errors.Join(os.WriteFile(out, nil, 0o644), os.Truncate(out, largeHole)) },
		}[draw-5]()
	}

	if err != nil {
		return err
	}

	if err = os.Rename(out, path); errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist) {
		err = errors.Join(os.RemoveAll(path), os.Rename(out, path)) // renaming does not replace a directory with a file, or a file with a directory
	}

	return err
}

// odd holds name prefixes that a program may stumble over; a number is appended to each.
var odd = []string{
	"\x1b[2J\x1b[1;32mOK all is well\x1b[0m ", "line\nbreak\rand\ttab ", "right \u202eto\u2066 left ", "not \xff\xfe UTF-8 \x80 ", strings.Repeat("long", 55),
	"-rf ", "$(reboot) `id` ; rm ", "..", " ", "CON", "%s%n%d ", "=cmd|' C'!A", ".hidden ", "\ufeff", `a\b`, ".bobosync-odd.part", "<img src=x onerror=alert(1)>", "'\"--",
	"\U000e0041\u00ad\u200b", "a\u0301\u0301\u0301", "*?[a]{b}~", "\x7f\x01",
}

// oddNames gives such a name to every file that is dropped while the fault lasts.
func oddNames(_ context.Context, s *Stack, f Fault, _ string) (func() error, error) {
	rng := f.rng()
	order := rng.Perm(len(odd))
	n := 0
	s.In.rename(func() string {
		n++
		return fmt.Sprintf("%s%d-%04x.csv", odd[order[n%len(odd)]], n, f.Draw&0xffff)
	})

	return func() error { s.In.rename(nil); return nil }, nil
}
