module bobosync/e2e

go 1.26.0

require bobosync/shared v0.0.0
require bobosync/cmd/athocsim v0.0.0

replace bobosync/shared => ../shared
replace bobosync/cmd/athocsim => ../cmd/athocsim
