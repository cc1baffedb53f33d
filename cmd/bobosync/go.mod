module bobosync/cmd/bobosync

go 1.26.0

require bobosync/shared v0.0.0

require bobosync/services/ingest v0.0.0

require bobosync/services/resolver v0.0.0

require bobosync/services/publisher v0.0.0

require bobosync/services/janitor v0.0.0

require bobosync/cmd/athocsim v0.0.0

require (
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/spf13/cobra v1.10.2 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	golang.org/x/sync v0.24.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/term v0.47.0 // indirect
)

replace bobosync/shared => ../../shared

replace bobosync/services/ingest => ../../services/ingest

replace bobosync/services/resolver => ../../services/resolver

replace bobosync/services/publisher => ../../services/publisher

replace bobosync/services/janitor => ../../services/janitor

replace bobosync/cmd/athocsim => ../../cmd/athocsim
