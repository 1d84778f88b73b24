package redisstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// certificate writes a certificate for loopback that is its own authority, and
// its key.
func certificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TLS with a client's certificate, and an ACL user that may do no more than
// docs/cluster.md says.
func TestTLSAndAnACLUser(t *testing.T) {
	cert, key := certificate(t, t.TempDir())
	port := hosttest.FreePort(t)
	r := redistest.Start(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "yes")
	r.Do("acl", "setuser", "sluice", "on", ">secret", "~sluice:*", "&sluice:*", "+@all", "-@dangerous", "+info", "+cluster|slots")
	r.Do("acl", "setuser", "default", "off")
	url := fmt.Sprintf("rediss://sluice:secret@127.0.0.1:%d/0?ca=%s&cert=%s&key=%s", port, cert, cert, key)
	n := startNode(t, Options{URL: url})
	domain := hourly("a.example", 2)
	for i, want := range []bool{true, true, false} {
		if res, err := n.take(take(1+i, 1, domain)); err != nil || res.OK != want {
			t.Errorf("%+v, %v", res, err)
		}
	}
	if _, err := n.Post(t.Context(), "lock/a.example", []byte("root")); err != nil {
		t.Error(err)
	}
	for bad, reason := range map[string]string{
		fmt.Sprintf("rediss://sluice:secret@127.0.0.1:%d/0?ca=%s", port, cert):                          "",
		fmt.Sprintf("rediss://sluice:wrong@127.0.0.1:%d/0?ca=%s&cert=%s&key=%s", port, cert, cert, key): "WRONGPASS",
	} {
		n := openNode(t, t.TempDir(), Options{URL: bad, Timeout: hosttest.Deadline(time.Second)})
		hosttest.Eventually(t, "saying why", func() bool { return n.heard.has("lost, share") && n.heard.has(reason) })
		n.stop()
	}
}
