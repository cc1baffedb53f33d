// Package sign signs releases with a key of the owner's, so that whoever installs a release can verify its origin.
// The signatures have the form of cosign's signatures of files (ECDSA over SHA-256, in base64), but are made without
// a service:
//
//	openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out release.key
//	openssl ec -in release.key -pubout -out release.pub
//	cosign verify-blob --key release.pub --insecure-ignore-tlog --signature checksums.txt.sig checksums.txt
package sign

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Suffix is appended to a file's name to name its signature.
const Suffix = ".sig"

// File signs a file with the key in a PEM file (PKCS #8, without a password) and writes the signature next to it.
// Without a key file it removes the signature that an earlier run may have left there.
func File(keyFile, path string) error {
	if keyFile == "" {
		if err := os.Remove(path + Suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the signature of an earlier file: %w", err)
		}
		return nil
	}

	key, err := load(keyFile)
	if err != nil {
		return fmt.Errorf("sign %s with the key %s: %w", path, keyFile, err)
	}

	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}

	sum := sha256.Sum256(data)

	signature, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		return fmt.Errorf("sign %s: %w", path, err)
	}

	return os.WriteFile(path+Suffix, []byte(base64.StdEncoding.EncodeToString(signature)), 0o644)
}

func load(path string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is no PEM file")
	}

	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}

	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("it is no ECDSA key")
	}

	return ec, nil
}
