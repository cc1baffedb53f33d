module bobosync/services/ingest

go 1.26.0

require bobosync/shared v0.0.0

replace bobosync/shared => ../../shared
