module bobosync/deploy/nats

go 1.26.0

require (
	bobosync/shared v0.0.0
	github.com/nats-io/nkeys v0.4.16
)

require (
	github.com/joho/godotenv v1.5.1 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/nats-io/nats.go v1.55.0 // indirect
	github.com/nats-io/nuid v1.0.1 // indirect
	github.com/sethvargo/go-envconfig v1.4.3 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace bobosync/shared => ../../shared
