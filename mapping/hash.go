package mapping

import (
	"crypto/sha256"
	"encoding/hex"
)

// Hash returns what |hash makes of a value: the first 32 hexadecimal digits
// of the SHA-256 of its text in UTF-8. An application computes the same to
// name the token. It keeps the value out of the outbox, of Redis and of logs;
// it does not hide values that can be guessed one by one.
func Hash(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:16])
}

// appendHash appends Hash(value) to dst.
func appendHash(dst []byte, value string) []byte {
	sum := sha256.Sum256([]byte(value))
	return hex.AppendEncode(dst, sum[:16])
}

// hashSQL is Hash in SQL, of a text expression.
func hashSQL(text string) string {
	return "left(encode(sha256(convert_to(" + text + ",'UTF8')),'hex'),32)"
}
