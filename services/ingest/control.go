package ingest

import (
	"context"

	"bobosync/shared/control"
)

// findFile looks for files by name, id, or the beginning of an id.
func (s *service) findFile(_ context.Context, req control.FindRequest) ([]control.FoundFile, error) {
	if req.Text == "" {
		return nil, control.Refuse("name a file, or the beginning of its id")
	}
	files, err := s.ledger.Files()
	if err != nil {
		return nil, err
	}
	var found []control.FoundFile
	for _, f := range files {
		if meant(f, req.Text) {
			found = append(found, control.FoundFile{ID: f.ID, Name: f.Name})
		}
	}
	return found, nil
}
