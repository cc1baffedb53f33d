package tokens

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"bobosync/shared/athoc"
	"bobosync/shared/config"
)

// sealVersion is the first byte of a sealed token. A different way of sealing gets a different number.
const sealVersion = 1

// errSealed means that a value was not sealed with these credentials, or not by this version.
var errSealed = errors.New("not sealed with these credentials")

// sealer seals tokens with a key that can be derived only from the account's secrets.
type sealer struct {
	aead    cipher.AEAD
	account []byte // additional data: a token of one account cannot be passed off as another's
	name    string
}

// newSealer derives everything from the settings.
func newSealer(a config.AtHoc) (*sealer, error) {
	// The server's address is left out: replicas may reach one AtHoc by different names or gateways, and must share its
	// one token even then. Otherwise they would revoke each other's without end.
	account := joined(a.OrgCode, a.ClientID, a.Account())
	sum := sha256.Sum256(account)
	secret := joined(a.ClientSecret.Reveal(), a.Password.Reveal())

	key, err := hkdf.Key(sha256.New, secret, sum[:], "bobosync access token 1", 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key that access tokens are kept under: %w", err)
	}

	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive the key that access tokens are kept under: %w", err)
	}

	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("derive the key that access tokens are kept under: %w", err)
	}

	return &sealer{aead: aead, account: account, name: hex.EncodeToString(sum[:16])}, nil
}

// joined encodes texts so that no other list of texts has the same encoding.
func joined(parts ...string) []byte {
	var out []byte
	for _, p := range parts {
		out = binary.BigEndian.AppendUint32(out, uint32(len(p))) //nolint:gosec // settings are short
		out = append(out, p...)
	}

	return out
}

// seal encrypts a token.
func (s *sealer) seal(t athoc.Token) ([]byte, error) {
	plain, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("seal an access token: %w", err)
	}

	return s.sealBytes(plain, nil), nil
}

// sealBytes encrypts plain, bound to the account and to more; openBytes must be given the same.
func (s *sealer) sealBytes(plain, more []byte) []byte {
	return s.aead.Seal([]byte{sealVersion}, nil, plain, slices.Concat(s.account, more))
}

// openBytes reverses sealBytes. Its errors wrap errSealed.
func (s *sealer) openBytes(value, more []byte) ([]byte, error) {
	if len(value) == 0 || value[0] != sealVersion {
		return nil, fmt.Errorf("unknown form: %w", errSealed)
	}

	plain, err := s.aead.Open(nil, nil, value[1:], slices.Concat(s.account, more))
	if err != nil {
		return nil, errSealed
	}

	return plain, nil
}

// open reverses seal. Its errors wrap errSealed.
func (s *sealer) open(value []byte) (athoc.Token, error) {
	plain, err := s.openBytes(value, nil)
	if err != nil {
		return athoc.Token{}, fmt.Errorf("open an access token: %w", err)
	}

	var t athoc.Token
	if err := json.Unmarshal(plain, &t); err != nil {
		return athoc.Token{}, fmt.Errorf("open an access token: unknown content: %w", errSealed)
	}

	return t, nil
}
