module bobosync/services/janitor

go 1.26.0

require (
	bobosync/cmd/athocsim v0.0.0
	bobosync/shared v0.0.0
	github.com/google/uuid v1.6.0
	github.com/nats-io/nats.go v1.55.0
	github.com/stretchr/testify v1.12.1
	pgregory.net/rapid v1.3.0
)

replace (
	bobosync/cmd/athocsim => ../../cmd/athocsim
	bobosync/shared => ../../shared
)
