module bobosync/cmd/bobosync

go 1.26.0

require bobosync/shared v0.0.0
require bobosync/services/ingest v0.0.0
require bobosync/services/resolver v0.0.0
require bobosync/services/publisher v0.0.0
require bobosync/services/janitor v0.0.0
require bobosync/cmd/athocsim v0.0.0

replace bobosync/shared => ../../shared
replace bobosync/services/ingest => ../../services/ingest
replace bobosync/services/resolver => ../../services/resolver
replace bobosync/services/publisher => ../../services/publisher
replace bobosync/services/janitor => ../../services/janitor
replace bobosync/cmd/athocsim => ../../cmd/athocsim
