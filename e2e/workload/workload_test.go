package workload_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"bobosync/e2e/workload"
)

var now = time.Date(2024, 6, 17, 12, 0, 0, 0, time.UTC)

func TestSameSeedSameWorkload(t *testing.T) {
	o := workload.Options{Seed: 7, Now: now}
	require.Equal(t, workload.New(o), workload.New(o))
	other := o
	other.Seed = 8
	require.NotEqual(t, workload.New(o), workload.New(other))
}

// TestEverythingComes checks that over some seeds there is each kind of file and worker, and each kind of trouble.
func TestEverythingComes(t *testing.T) {
	kinds, roles, traits := map[workload.Kind]int{}, map[workload.Role]int{}, map[string]int{}
	for seed := range uint64(20) {
		p := workload.New(workload.Options{Seed: seed, Now: now})
		for _, w := range p.Workers {
			roles[w.Role]++
		}

		for _, f := range p.Files {
			kinds[f.Kind]++
			for trait, has := range map[string]bool{
				"slow": len(f.Pieces) > 0, "crlf": bytes.Contains(f.Content, []byte("\r\n")), "bom": bytes.HasPrefix(f.Content, []byte("\ufeff")),
				"no end": len(f.Content) > 0 && f.Content[len(f.Content)-1] != '\n', "quotes": bytes.Contains(f.Content, []byte(`"`)),
				"future": bytes.Contains(f.Content, []byte(",20240619,")), "no worker": bytes.Contains(f.Content, []byte("BON,,")),
				"stale": bytes.Contains(f.Content, []byte(",20240616,")), "garbage": bytes.Contains(f.Content, []byte("connection to host lost")),
				"25 o'clock": bytes.Contains(f.Content, []byte(",250000,")), "no date": bytes.Contains(f.Content, []byte(",20240230,")),
			} {
				if has {
					traits[trait]++
				}
			}
		}
	}

	require.Len(t, kinds, 6, "%v", kinds)
	require.Len(t, roles, 5, "%v", roles)
	require.Len(t, traits, 11, "%v", traits)
}

func TestShape(t *testing.T) {
	for seed := range uint64(20) {
		p := workload.New(workload.Options{Seed: seed, Now: now, Files: 40})
		require.Len(t, p.Files, 40)
		require.True(t, slices.IsSortedFunc(p.Files, func(a, b workload.File) int { return int(a.At - b.At) }))

		all := ""
		for _, f := range p.Files {
			require.True(t, strings.EqualFold(f.Name[len(f.Name)-4:], ".csv"))
			require.Equal(t, f.Kind == workload.Binary, !utf8.Valid(f.Content))

			sum := 0
			for _, n := range f.Pieces {
				require.Positive(t, n)
				sum += n
			}

			if sum > 0 {
				require.Len(t, f.Content, sum)
			}

			all += string(f.Content)
		}

		for _, w := range p.Workers {
			if w.Role == workload.Idle {
				require.NotContains(t, all, ","+w.Employee+",")
			}
		}

		require.NotEmpty(t, p.Private)
	}
}
