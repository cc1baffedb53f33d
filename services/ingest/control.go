package ingest

import (
	"context"
	"strings"

	"bobosync/shared/control"
)

// findFile looks for files by name, id, or the beginning of an id.
func (s *service) findFile(_ context.Context, req control.FindRequest) ([]control.FoundFile, error) {
	files, err := s.ledger.Files()
	if err != nil {
		return nil, err
	}
	var found []control.FoundFile
	for _, f := range files {
		named := f.Name == req.Text
		for _, p := range f.Places {
			named = named || p.Name == req.Text
		}
		if named || len(req.Text) >= 6 && strings.HasPrefix(f.ID, req.Text) {
			found = append(found, control.FoundFile{ID: f.ID, Name: f.Name})
		}
	}
	return found, nil
}
