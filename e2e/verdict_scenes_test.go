//go:build unix

package e2e_test

// The faults, each with what status has to say about it.

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"bobosync/cmd/athocsim/sim"
	"bobosync/e2e/harness"
	"bobosync/shared/breaker"
	"bobosync/shared/topology"
	"bobosync/shared/verdict"
)

// scenes returns all faults, in the order of the runbook's table.
func scenes() []scene {
	return slices.Concat(processScenes(), brokerScenes(), athocScenes(), orderScenes(), mappingScenes(), fileScenes(), feedScenes(), diskScenes())
}

func processScenes() []scene {
	const warning, problem = verdict.Warning, verdict.Problem

	return []scene{
		{fault: "ingest is killed", soak: []string{"kill ingest", "stop ingest"}, cause: "no_ingest", level: problem, short: true},
		{fault: "ingest is frozen", soak: []string{"freeze ingest"}, cause: "no_ingest", level: problem},
		{fault: "the resolver is killed", soak: []string{"kill resolver", "stop resolver"}, cause: "no_resolver", level: problem},
		{fault: "the resolver is frozen", soak: []string{"freeze resolver"}, cause: "no_resolver", level: problem},
		{fault: "the only publisher is killed", soak: []string{"kill publisher", "stop publisher", "one less publisher"}, cause: "no_publisher", level: problem},
		{fault: "the only publisher is frozen", soak: []string{"freeze publisher", "freeze long publisher"}, cause: "no_publisher", level: problem},
		{fault: "the janitor is killed", soak: []string{"kill janitor", "stop janitor"}, cause: "no_janitor", level: warning},
		{fault: "the janitor is frozen", soak: []string{"freeze janitor"}, cause: "no_janitor", level: warning},
		{fault: "the leading janitor is frozen, and another one follows", cause: verdict.CauseStandby, level: warning,
			settings: map[string]string{"ATHOC_TIMEOUT": "30s"}, play: func(t *testing.T, s *harness.Stack) {
				_, err := s.AddSecond(harness.Janitor)
				require.NoError(t, err)
				require.Eventually(t, func() bool {
					var seen struct{ Facts struct{ Janitor []struct{} } }
					out, _ := s.Operate(t.Context(), "status", "--json") // the exit status is the verdict
					return json.Unmarshal([]byte(out), &seen) == nil && len(seen.Facts.Janitor) == 2
				}, namedWithin, pollInterval)
				require.NoError(t, s.Process(harness.Janitor).Pause())
			}},
		{fault: "a second resolver runs", cause: verdict.CauseTwice, level: problem, play: func(t *testing.T, s *harness.Stack) {
			_, err := s.AddSecond(harness.Resolver, "DATA_DIRECTORY="+t.TempDir())
			require.NoError(t, err)
		}},
		{fault: "bobosync run is killed", allInOne: true, cause: verdict.CauseBroker, level: problem, play: func(t *testing.T, s *harness.Stack) {
			end(t, s, harness.AllInOne)
		}},
		{fault: "a publisher comes and goes", soak: []string{"one more new publisher"}},
		{fault: "the resolver is killed, and its state store is lost", soak: []string{"lost memory of resolver"}, play: lost("lost memory of resolver")},
		{fault: "the resolver has lost its state store, and ingest does not run", cause: verdict.CauseRecovering, level: warning, play: func(t *testing.T, s *harness.Stack) {
			end(t, s, harness.Ingest, harness.Resolver)
			require.NoError(t, s.Delete("data/resolver.db"))
			require.NoError(t, s.Process(harness.Resolver).Start())
		}},
		{fault: "ingest is killed, and its ledger is lost", soak: []string{"lost ledger of ingest"}, play: lost("lost ledger of ingest")},
		{fault: "a service of another version runs", cause: verdict.CauseVersions, level: warning, play: func(t *testing.T, s *harness.Stack) {
			end(t, s, harness.Janitor)
			older := s.Path("older-janitor")
			require.NoError(t, harness.BuildVersion(t.Context(), harness.Janitor, older, "v0.9.9"))
			s.Process(harness.Janitor).Replace(older)
			require.NoError(t, s.Process(harness.Janitor).Start())
		}},
	}
}

// lost plays a loss, and starts the process again that was killed for it.
func lost(name string) func(*testing.T, *harness.Stack) {
	return func(t *testing.T, s *harness.Stack) {
		over, err := s.Begin(t.Context(), name, time.Second)
		require.NoError(t, err)
		require.NoError(t, over())
	}
}

func brokerScenes() []scene {
	const warning, problem = verdict.Warning, verdict.Problem

	return []scene{
		{fault: "the broker is killed", soak: []string{"kill broker", "stop broker"}, cause: verdict.CauseBroker, level: problem, short: true},
		{fault: "the broker is frozen", soak: []string{"freeze broker"}, cause: verdict.CauseBroker, level: problem},
		{fault: "the broker has lost its store", soak: []string{"lost store of broker"}, play: lost("lost store of broker")},
		{fault: "a part of the broker's store is damaged, and it restarts", soak: []string{"damaged store of broker"}, play: lost("damaged store of broker")},
		{fault: "the broker is cut off from the publisher", soak: []string{"cut broker off from publisher"}, cause: "no_publisher", level: problem},
		{fault: "the broker does not answer the publisher", soak: []string{"silent broker for publisher"}, cause: "no_publisher", level: problem},
		{fault: "the broker has another password than the commands know", allInOne: true, cause: verdict.CauseNotAllowed, level: problem, play: func(t *testing.T, s *harness.Stack) {
			path := s.Path("data", "broker.url")
			address, err := os.ReadFile(path)
			require.NoError(t, err)

			_, place, _ := strings.Cut(string(address), "@")
			require.NoError(t, os.WriteFile(path, []byte("nats://wrong@"+place), 0o600))
		}},
		{fault: "the broker runs without JetStream", cause: verdict.CauseJetStream, level: problem, play: func(t *testing.T, s *harness.Stack) {
			end(t, s, harness.Broker)
			s.Process(harness.Broker).Replace("", "-without-jetstream")
			require.NoError(t, s.Process(harness.Broker).Start())
		}},
		{fault: "the broker has lost a consumer", cause: verdict.CauseMissing, level: problem, play: func(t *testing.T, s *harness.Stack) {
			js, err := s.Broker()
			require.NoError(t, err)
			require.NoError(t, js.DeleteConsumer(t.Context(), topology.StreamEntries, topology.ConsumerResolverEntries))
		}},
		{fault: "the broker has lost a stream", cause: verdict.CauseMissing, level: problem, play: func(t *testing.T, s *harness.Stack) {
			js, err := s.Broker()
			require.NoError(t, err)
			require.NoError(t, js.DeleteStream(t.Context(), topology.StreamDead))
		}},
		{fault: "a program of another make has written into the broker's state", cause: verdict.CauseUnread, level: warning, play: func(t *testing.T, s *harness.Stack) {
			end(t, s, append(s.Publishers(), harness.Janitor)...) // they would overwrite it
			put(t, s, breaker.Key, []byte("no JSON"))
		}},
		{fault: "the broker's room for entries is full, since the resolver does not run", cause: verdict.CauseFull, level: warning,
			settings: map[string]string{"ENTRIES_MAX_BYTES": fmt.Sprint(1 << 20)}, play: fillEntries},
		{fault: "files wait to be read, since there is no room for entries", cause: verdict.CauseNotRead, level: warning,
			settings: map[string]string{"ENTRIES_MAX_BYTES": fmt.Sprint(1 << 20)}, play: fillEntries},
		{fault: "something that is no entry stands in the stream of entries", cause: verdict.CauseDead, level: warning, play: func(t *testing.T, s *harness.Stack) {
			js, err := s.Broker()
			require.NoError(t, err)
			_, err = js.Publish(t.Context(), "bobo.entries."+strings.Repeat("0", 64), []byte("no JSON"))
			require.NoError(t, err)
		}},
	}
}

// fillEntries ends the resolver, and drops more rows than there is room for.
func fillEntries(t *testing.T, s *harness.Stack) {
	end(t, s, harness.Resolver)

	for i := range 40 {
		drop(t, s, fmt.Sprintf("much %d.csv", i), slices.Repeat(shift(staffed, true, 200-i), 20)...)
	}
}

// put writes a value into the state bucket.
func put(t *testing.T, s *harness.Stack, key string, value []byte) {
	t.Helper()
	_, err := bucket(t, s).Put(t.Context(), key, value)
	require.NoError(t, err)
}

func bucket(t *testing.T, s *harness.Stack) jetstream.KeyValue {
	t.Helper()

	js, err := s.Broker()
	require.NoError(t, err)
	kv, err := js.KeyValue(t.Context(), topology.BucketState)
	require.NoError(t, err)

	return kv
}

// simulated switches on a fault of the simulator that does not end.
func simulated(f sim.Fault) func(*testing.T, *harness.Stack) {
	return func(t *testing.T, s *harness.Stack) {
		_, err := s.Sim.Fault(t.Context(), f)
		require.NoError(t, err)
	}
}

// set changes a setting of the simulator.
func set(name string, value any) func(*testing.T, *harness.Stack) {
	return func(t *testing.T, s *harness.Stack) {
		require.NoError(t, s.Sim.Set(t.Context(), map[string]any{name: value}))
	}
}

func athocScenes() []scene {
	const warning, problem = verdict.Warning, verdict.Problem
	down := func(fault string, soak ...string) scene {
		return scene{fault: fault, soak: soak, cause: verdict.CauseAtHocDown, level: problem}
	}
	only := func(n int) []string { return []string{fmt.Sprintf("worker%05d@example.org", n)} }

	all := []scene{
		{fault: "AtHoc's machine restarts", soak: []string{"kill athocsim"}, play: lost("kill athocsim")},
		down("AtHoc is frozen", "freeze athocsim"),
		down("a gzip bomb comes in AtHoc's place", "a gzip bomb from athocsim", "an endless answer from athocsim", "endless headers from athocsim"),
		down("AtHoc's answer comes letter by letter", "a dripping body from athocsim", "a dripping head from athocsim"),
		{fault: "brackets without end come in AtHoc's place", soak: []string{"a deep answer from athocsim", "endless attributes from athocsim"},
			cause: verdict.CauseWebPage, level: warning},
		{fault: "AtHoc says more than was asked, of strangers and of nobody", soak: []string{"lies from athocsim"}},
		down("nothing listens at AtHoc", "refused connections from athocsim"),
		down("AtHoc answers 500", "500 from athocsim"),
		down("AtHoc answers 503", "503 from athocsim", "long outage of athocsim"),
		down("AtHoc answers 503 and does it all the same", "503 but applied from athocsim"),
		down("AtHoc answers 504 and does it all the same", "504 but applied from athocsim"),
		down("AtHoc does not answer", "hang from athocsim"),
		down("AtHoc resets connections", "reset from athocsim"),
		down("AtHoc does what is asked, and the answer is lost", "applied, answer lost from athocsim"),
		down("AtHoc's answers are cut", "truncated body from athocsim"),
		down("one user is too much for AtHoc (413)", "413 from athocsim"),
		down("the publisher is cut off from AtHoc", "cut network of publisher"),
		down("the publisher hears nothing from AtHoc", "silent network of publisher"),
		{fault: "AtHoc fails for a moment", short: true, cause: verdict.CauseAtHocDown, level: warning, play: simulated(sim.Fault{Kind: sim.FaultStatus, Status: 503})},
		{fault: "a web page answers 200 in AtHoc's place", short: true, cause: verdict.CauseWebPage, level: warning,
			play: simulated(sim.Fault{Kind: sim.FaultStatus, Status: 200, Body: "<!DOCTYPE html><html><title>Sign in</title>"})},
		{fault: "a web page answers 502 in AtHoc's place", soak: []string{"502 from athocsim"}, cause: verdict.CauseWebPage, level: warning},
		{fault: "AtHoc's answers are no JSON", soak: []string{"broken body from athocsim"}, cause: verdict.CauseWebPage, level: warning},
		{fault: "AtHoc asks for fewer calls (429)", soak: []string{"429 from athocsim"}, cause: verdict.CauseThrottled, level: warning},
		{fault: "AtHoc asks for fewer calls (429), until a date", soak: []string{"429 with a date from athocsim"}, cause: verdict.CauseThrottled, level: warning},
		{fault: "AtHoc takes fewer calls than are made", soak: []string{"throttling at athocsim"}},
		{fault: "AtHoc is slow with each user", soak: []string{"slow users at athocsim"}},
		{fault: "AtHoc's answers come slowly", soak: []string{"slow body from athocsim"}},
		{fault: "AtHoc does what is asked late", soak: []string{"applied late from athocsim"}},
		{fault: "the network to AtHoc is slow", soak: []string{"slow network of publisher"}},
		{fault: "AtHoc has forgotten all tokens", soak: []string{"revoked tokens at athocsim"}},
		{fault: "AtHoc leaves some users out of its answers", soak: []string{"missing users from athocsim"}},
		{fault: "AtHoc leaves some users out of its answers, and does what is asked", soak: []string{"missing users, applied from athocsim"}},
		{fault: "AtHoc does a part of what is asked", soak: []string{"partial from athocsim"}},
		{fault: "AtHoc says that it did a part of what is asked, and did all", soak: []string{"partial, applied from athocsim"}},
		{fault: "AtHoc answers errors for some users", soak: []string{"errors of users from athocsim"}},
		{fault: "AtHoc refuses some users", soak: []string{"denied users from athocsim"}},
		{fault: "the account has lost its role", soak: []string{"lost role at athocsim"}, cause: verdict.CauseAtHocRefuses, level: problem},
		{fault: "the password has expired", cause: verdict.CauseAtHocRefuses, level: problem, play: set("forbidden", "password")},
		{fault: "the password is wrong", short: true, cause: verdict.CauseAtHocRefuses, level: problem, play: func(t *testing.T, s *harness.Stack) {
			simulated(sim.Fault{Kind: sim.FaultStatus, Status: 400, Scope: []string{sim.EndpointToken}, Body: `{"error":"invalid_grant"}`})(t, s)
			require.NoError(t, s.Sim.Revoke(t.Context()))
		}},
		{fault: "AtHoc does not know the address", cause: verdict.CauseAtHocRefuses, level: problem, play: simulated(sim.Fault{Kind: sim.FaultStatus, Status: 404})},
		{fault: "DUTY_STATUS_FIELD is not the attribute's name", cold: true, quiet: true, cause: verdict.CauseAtHocRefuses, level: problem,
			settings: map[string]string{"DUTY_STATUS_FIELD": "On-Duty"}, play: func(t *testing.T, s *harness.Stack) { drop(t, s, "shift.csv", shift(20, true, 60)...) }},
		{fault: "calls fail because of one user", soak: []string{"a culprit at athocsim"}, cause: verdict.CauseUserRefused, level: warning, play: func(t *testing.T, s *harness.Stack) {
			simulated(sim.Fault{Kind: sim.FaultStatus, Status: 500, Scope: []string{sim.EndpointUpdate}, Users: only(7)})(t, s)
			drop(t, s, "shift.csv", shift(20, true, 60)...)
		}},
		{fault: "AtHoc refuses one user again and again", short: true, cause: verdict.CauseUserRefused, level: warning, play: func(t *testing.T, s *harness.Stack) {
			simulated(sim.Fault{Kind: sim.FaultUserError, Users: only(7), Detail: "the record is locked by another session"})(t, s)
			drop(t, s, "shift.csv", shift(20, true, 60)...)
		}},
		{fault: "AtHoc leaves one user out of each answer", cause: verdict.CauseUserRefused, level: warning, play: func(t *testing.T, s *harness.Stack) {
			simulated(sim.Fault{Kind: sim.FaultOmitUser, Users: only(7)})(t, s)
			drop(t, s, "shift.csv", shift(20, true, 60)...)
		}},
		{fault: "most users of a file may not be written", cause: verdict.CauseManyRefused, level: warning, play: func(t *testing.T, s *harness.Stack) {
			simulated(sim.Fault{Kind: sim.FaultDenyUser})(t, s)
			drop(t, s, "shift.csv", shift(20, true, 60)...)
		}},
		{fault: "AtHoc is called without TLS", cold: true, quiet: true, cause: verdict.CauseInTheClear, level: warning},
		{fault: "AtHoc's certificate is not verified", cold: true, quiet: true, cause: verdict.CauseUnverified, level: warning, settings: map[string]string{"DISABLE_SSL_VERIFY": "true"}},
		{fault: "a file waits for AtHoc for longer than LATE_AFTER", quiet: true, cause: verdict.CauseLate, level: warning, play: func(t *testing.T, s *harness.Stack) {
			s.RefuseAtHoc(true)
			drop(t, s, "shift.csv", shift(20, true, 60)...)
		}},
	}
	for i := range all {
		all[i].busy = !all[i].cold && !all[i].quiet
	}

	return all
}

func orderScenes() []scene {
	const warning = verdict.Warning

	return []scene{
		{fault: "an operator has paused sending", soak: []string{"pause by operator"}, cause: verdict.CausePaused, level: warning, play: func(t *testing.T, s *harness.Stack) {
			operate(t, s, "pause", "--for", "1h", "--reason", "a test")
		}},
		{fault: "the broker loses a pause", cause: verdict.CausePauseLost, level: warning, play: func(t *testing.T, s *harness.Stack) {
			operate(t, s, "pause", "--for", "1h", "--reason", "a test")
			require.NoError(t, bucket(t, s).Delete(t.Context(), breaker.PauseKey))
		}},
		{fault: "everybody goes off duty at once", cause: verdict.CauseHeld, level: warning, settings: guarded("hold"), play: everybodyGoes},
		{fault: "everybody goes off duty at once, and the guard only observes", cause: verdict.CauseUnusual, level: warning, settings: guarded("observe"), play: everybodyGoes},
		{fault: "notices cannot be sent", cold: true, quiet: true, cause: verdict.CauseNotifyFails, level: warning,
			settings: map[string]string{
				"NOTIFY_SMTP_HOST": "127.0.0.1", "NOTIFY_SMTP_PORT": "9", "NOTIFY_SMTP_TLS": "none", "NOTIFY_FROM": "bobosync@example.org", "NOTIFY_TO": "duty@example.org",
			}, play: func(t *testing.T, s *harness.Stack) {
				require.NoError(t, s.Ready(readyWithin))
				end(t, s, harness.Resolver)
			}},
	}
}

func guarded(mode string) map[string]string {
	return map[string]string{"GUARD": mode, "GUARD_MIN_USERS": "5", "GUARD_OFF_PERCENT": "10"}
}

func everybodyGoes(t *testing.T, s *harness.Stack) {
	drop(t, s, "on.csv", shift(staffed, true, 60)...)
	require.NoError(t, s.Idle(idleWithin))
	drop(t, s, "off.csv", shift(staffed, false, 30)...)
}

func mappingScenes() []scene {
	const warning, problem = verdict.Warning, verdict.Problem

	return []scene{
		{fault: "there never was a mapping", cold: true, quiet: true, cause: verdict.CauseNoMapping, level: problem, settings: map[string]string{"SYNC_MAPPINGS": "false"}},
		{fault: "half of AtHoc's users are gone", cause: verdict.CauseMappingHeld, level: warning, play: func(t *testing.T, s *harness.Stack) {
			var logins []string
			for i := range staffed / 2 {
				logins = append(logins, fmt.Sprintf("worker%05d@example.org", i))
			}

			require.NoError(t, s.Sim.Remove(t.Context(), logins...))
			_, _ = s.Operate(t.Context(), "mapping", "refresh") // it says that the mapping is held back
		}},
		{fault: "the mapping was not refreshed for two days", cause: verdict.CauseMappingOld, level: warning, play: func(t *testing.T, s *harness.Stack) {
			simulated(sim.Fault{Kind: sim.FaultStatus, Status: 500, Scope: []string{sim.EndpointSearch}})(t, s)
			end(t, s, harness.Janitor)
			older(t, s, "janitor.duties", `"(since|done|succeeded)":"[^"]+"`)
			older(t, s, "janitor.mapping", `"(taken|refreshed)":"[^"]+"`)
			require.NoError(t, s.Process(harness.Janitor).Start())
		}},
		{fault: "AtHoc's searches fail", cause: verdict.CauseJob, level: warning,
			play: simulated(sim.Fault{Kind: sim.FaultStatus, Status: 500, Scope: []string{sim.EndpointSearch}})},
		{fault: "most workers of a file are unknown in AtHoc", cause: verdict.CauseManyUnmapped, level: warning, play: func(t *testing.T, s *harness.Stack) {
			drop(t, s, "strangers.csv", changed(shift(10, true, 60), "BON,0", "BON,7")...)
		}},
	}
}

// older moves times in the state bucket back by 50 hours.
func older(t *testing.T, s *harness.Stack, key, form string) {
	t.Helper()
	entry, err := bucket(t, s).Get(t.Context(), key)
	require.NoError(t, err)

	then := fmt.Sprintf(`"$1":%q`, time.Now().Add(-50*time.Hour).UTC().Format(time.RFC3339Nano))
	put(t, s, key, regexp.MustCompile(form).ReplaceAll(entry.Value(), []byte(then)))
}

// changed replaces a text in each row.
func changed(rows []string, from, to string) []string {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i] = strings.ReplaceAll(rows[i], from, to)
	}

	return rows
}

func fileScenes() []scene {
	const warning, problem = verdict.Warning, verdict.Problem
	file := func(fault, cause string, rows func() []string) scene {
		return scene{fault: fault, cause: cause, level: warning, play: func(t *testing.T, s *harness.Stack) { drop(t, s, "export.csv", rows()...) }}
	}
	name := func(fault string, soak []string, make func(path string) error) scene {
		return scene{fault: fault, soak: soak, cause: verdict.CauseUnreadable, level: warning, play: func(t *testing.T, s *harness.Stack) {
			require.NoError(t, make(below(s, "x.csv")))
		}}
	}
	semicolons := file("a file has semicolons instead of commas", verdict.CauseNoGoodRow, func() []string { return changed(shift(15, true, 60), ",", ";") })
	semicolons.short = true

	return []scene{
		semicolons,
		file("most rows of a file cannot be used", verdict.CauseManyRejected, func() []string {
			return append(shift(5, true, 60), changed(shift(10, true, 60), ",P,", ",")...)
		}),
		file("all rows of a file lie in the future", verdict.CauseNoGoodRow, func() []string { return shift(10, true, -300) }),
		file("a file is no text", verdict.CauseFailedFiles, func() []string { return []string{"PK\x03\x04\x00\x00\x00"} }),
		name("a directory is named like a file", nil, func(path string) error { return os.Mkdir(path, 0o700) }),
		name("a link is named like a file", []string{"links from bringer"}, func(path string) error { return os.Symlink("/etc/passwd", path) }),
		name("a pipe is named like a file", []string{"pipes from bringer"}, func(path string) error { return syscall.Mkfifo(path, 0o600) }),
		{fault: "another program holds a file, so that nobody else may open it", soak: []string{"leases from bringer"}, cause: verdict.CauseUnreadable, level: warning},
		{fault: "a file has holes and no end", soak: []string{"sparse files from bringer"}, cause: verdict.CauseUnreadable, level: warning},
		{fault: "what lies under a name is another thing each moment", soak: []string{"swaps from bringer"}, cause: verdict.CauseManyUnmapped, level: warning, play: func(t *testing.T, s *harness.Stack) {
			over, err := s.Begin(t.Context(), "swaps from bringer", 0)
			require.NoError(t, err)
			time.Sleep(4 * time.Second) // there is nothing to wait for
			require.NoError(t, over())
		}},
		{fault: "files have names that no person would give", soak: []string{"odd names from bringer"}},
		{fault: "a file is larger than MAX_FILE_SIZE", cause: verdict.CauseUnreadable, level: warning, settings: map[string]string{"MAX_FILE_SIZE": fmt.Sprint(1 << 20)},
			play: func(t *testing.T, s *harness.Stack) {
				drop(t, s, "large.csv", slices.Repeat(shift(1, true, 60), 40_000)...)
			}},
		{fault: "a file keeps changing", cause: verdict.CauseGrowing, level: warning, play: func(t *testing.T, s *harness.Stack) {
			out, err := os.Create(below(s, "growing.csv"))
			require.NoError(t, err)
			t.Cleanup(func() { _ = out.Close() })

			go func() {
				for row := shift(1, true, 60)[0]; ; time.Sleep(50 * time.Millisecond) {
					if _, err := fmt.Fprintln(out, row); err != nil {
						return // the test has ended
					}
				}
			}()
		}},
		{fault: "CSV_DIRECTORY is gone", cause: verdict.CauseDirectory, level: problem, quiet: true, play: away("in")},
		{fault: "PROCESSED_DIRECTORY is gone and cannot be made", cause: verdict.CauseDirectory, level: problem, play: away("processed")},
		{fault: "the file system of PROCESSED_DIRECTORY is full", root: true, cause: verdict.CauseBlocked, level: warning, prepare: smallProcessed,
			play: func(t *testing.T, s *harness.Stack) { fill(t, s.Path("small")) }},
	}
}

func smallProcessed(t *testing.T, dir string, settings map[string]string) {
	settings["PROCESSED_DIRECTORY"] = small(t, filepath.Join(dir, "small"), 120)
}

// away replaces a directory with a file.
func away(name string) func(*testing.T, *harness.Stack) {
	return func(t *testing.T, s *harness.Stack) {
		require.NoError(t, os.Rename(s.Path(name), s.Path(name+"-away")))
		require.NoError(t, os.WriteFile(s.Path(name), nil, 0o600))
	}
}

func feedScenes() []scene {
	const warning = verdict.Warning

	return []scene{
		{fault: "no file comes", quiet: true, cause: verdict.CauseSilent, level: warning, flags: []string{"--silent-after", "5s"}, play: func(*testing.T, *harness.Stack) {}},
		{fault: "far fewer rows come than usual", cause: verdict.CauseThin, level: warning, play: func(t *testing.T, s *harness.Stack) {
			usually(t, s, 50, func(begin int64) bool { return begin > time.Now().Add(-2*time.Hour).Unix() })
		}},
		{fault: "far more rows come than usual", cause: verdict.CauseFlood, level: warning, play: func(t *testing.T, s *harness.Stack) {
			usually(t, s, 2, func(int64) bool { return false })
			drop(t, s, "all.csv", slices.Concat(shift(staffed, true, 60), shift(staffed, true, 50), shift(staffed, true, 40))...)
		}},
	}
}

// usually makes ingest believe in nine weeks in which each hour brought so many rows, except for the hours that were
// thin.
func usually(t *testing.T, s *harness.Stack, rows int64, thin func(begin int64) bool) {
	t.Helper()
	end(t, s, harness.Ingest)
	require.NoError(t, s.Delete("data/ingest.db"))

	zone, err := time.LoadLocation(harness.BoboZone)
	require.NoError(t, err)

	now := time.Now().In(zone)

	hour := now.Add(-time.Duration(now.Minute())*time.Minute - time.Duration(now.Second())*time.Second).Truncate(time.Second)
	hours := map[int64][3]int64{}
	for i := range int64(9 * 7 * 24) {
		begin := hour.Unix() - (i+1)*3600
		hours[begin] = [3]int64{rows, 6, 600}
		if thin(begin) {
			hours[begin] = [3]int64{1, 1, 600}
		}
	}

	data, err := json.Marshal(map[string]any{"since": now.Add(-9 * 7 * 24 * time.Hour), "last": now.Add(-time.Minute), "hours": hours})
	require.NoError(t, err)
	put(t, s, topology.FeedKey("default"), data)
	require.NoError(t, s.Process(harness.Ingest).Start())
}

func diskScenes() []scene {
	const problem = verdict.Problem

	return []scene{
		{fault: "the disk of DATA_DIRECTORY is full, with the broker inside", root: true, allInOne: true, cause: verdict.CauseDisk, level: problem,
			prepare: func(t *testing.T, dir string, _ map[string]string) { small(t, filepath.Join(dir, "data"), 150) },
			play: func(t *testing.T, s *harness.Stack) {
				fill(t, s.Path("data"))
				require.Eventually(t, func() bool { // also while there is no broker to ask
					_, err := s.Book()
					require.NoError(t, err)
					return strings.Contains(status(t, s, nil).String(), "so that the broker inside bobosync run cannot work")
				}, namedWithin, pollInterval)
			}},
		{fault: "the disk of a broker of its own is full", soak: []string{"full disk of broker"}, root: true, cause: verdict.CauseUnstored, level: problem,
			prepare: func(t *testing.T, dir string, _ map[string]string) { small(t, filepath.Join(dir, "jetstream"), 150) },
			play:    func(t *testing.T, s *harness.Stack) { fill(t, s.Path("jetstream")) }},
	}
}
