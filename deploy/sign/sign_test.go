package sign_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"bobosync/deploy/sign"
)

// TestASignatureIsVerifiedByOthers checks that openssl, which shares no code with this package, accepts the
// signature, and rejects it for a changed file.
func TestASignatureIsVerifiedByOthers(t *testing.T) {
	t.Parallel()

	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("openssl is not installed")
	}

	dir := t.TempDir()
	run := func(command string) error {
		cmd := exec.Command("sh", "-ec", command)
		cmd.Dir = dir
		return cmd.Run()
	}
	path := filepath.Join(dir, "checksums.txt")
	require.NoError(t, os.WriteFile(path, []byte("0123  bobosync.tar.gz\n"), 0o600))
	require.NoError(t, run("openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out release.key; openssl ec -in release.key -pubout -out release.pub"))

	require.NoError(t, sign.File(filepath.Join(dir, "release.key"), path))
	const verify = "base64 -d checksums.txt.sig >sig; openssl dgst -sha256 -verify release.pub -signature sig checksums.txt"
	require.NoError(t, run(verify))
	require.NoError(t, os.WriteFile(path, []byte("4567  bobosync.tar.gz\n"), 0o600))
	require.Error(t, run(verify))

	require.Error(t, sign.File(filepath.Join(dir, "release.pub"), path), "a public key signs nothing")
	require.NoError(t, sign.File("", filepath.Join(dir, "nothing")), "no key, no signature")
	require.FileExists(t, path+sign.Suffix)
	require.NoError(t, sign.File("", path))
	require.NoFileExists(t, path+sign.Suffix, "that of another version is no signature of this one")
}
