package client

// Words about workers, and names of files.

import (
	"context"
	"maps"
	"slices"

	"bobosync/shared/bus"
	"bobosync/shared/control"
	"bobosync/shared/topology"
)

// FilesOf returns the ids of the files that an answer refers to.
func FilesOf(a control.WorkerAnswer) []string {
	ids := map[string]bool{}
	for _, e := range a.Events {
		ids[e.File] = true
	}

	if a.Latest != nil {
		ids[a.Latest.File] = true
	}

	for _, s := range []*control.WorkerStatus{a.Sent, a.Confirmed} {
		if s != nil {
			ids[s.File] = true
		}
	}

	return slices.Sorted(maps.Keys(ids))
}

// FileNames asks ingest for the names of files. Files that ingest does not know, or cannot be asked about, are left
// out.
func FileNames(ctx context.Context, conn *bus.Conn, ids []string) map[string]string {
	names := map[string]string{}
	for _, id := range ids {
		if id == "" {
			continue
		}

		found, err := Ask[[]control.FoundFile](ctx, conn, topology.Ingest, control.FindFile, control.FindRequest{Text: id})
		if err != nil {
			return names // the ids will do
		}

		for _, f := range found {
			names[f.ID] = f.Name
		}
	}

	return names
}

// OnOrOff puts a duty status into words.
func OnOrOff(on bool) string {
	if on {
		return "on duty"
	}
	return "off duty"
}
