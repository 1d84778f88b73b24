package redisstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"sluice/ratelimit/redisurl"
)

// An address is a parsed store URL.
type address struct {
	redisurl.URL
	tls *tls.Config
}

// CheckURL returns the error that Open would return for a URL, or for a file it names.
func CheckURL(text string) error {
	_, err := parseURL(text)
	return err
}

// parseURL parses a store URL, and reads the PEM files that it names.
func parseURL(text string) (a address, err error) {
	if a.URL, err = redisurl.Parse(text); err == nil {
		a.tls, err = tlsConfig(a.URL)
	}
	return a, err
}

func tlsConfig(u redisurl.URL) (*tls.Config, error) {
	if !u.TLS {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if u.CA != "" {
		pem, err := os.ReadFile(u.CA)
		if err != nil {
			return nil, fmt.Errorf("read ca: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read ca: %s holds no certificate", u.CA)
		}
	}
	if u.Cert != "" {
		pair, err := tls.LoadX509KeyPair(u.Cert, u.Key)
		if err != nil {
			return nil, fmt.Errorf("read cert and key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// onConnect is called with every new connection, before it is used.
type onConnect func(context.Context, *redis.Conn) error

// client makes a client for one server of the URL; nothing is connected yet.
//
// By default go-redis repeats a command whose reply is lost, which would count twice,
// and waits for seconds; here it does not.
func (a address) client(host string, timeout time.Duration, f onConnect) *redis.Client {
	if a.Kind == redisurl.Sentinel {
		return a.failover(timeout, f)
	}
	o := &redis.Options{
		Network: "tcp", Addr: host, Username: a.User, Password: a.Password, DB: a.DB,
		Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
		PoolSize: poolSize, ConnMaxIdleTime: -1,
		Dialer: a.dialer(timeout), OnConnect: f,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if strings.HasPrefix(host, "/") {
		o.Network = "unix"
	}
	c := redis.NewClient(o)
	c.AddHook(discreet{a.secrets()})
	return c
}

// failover makes a client for the master that the Sentinels name.
func (a address) failover(timeout time.Duration, f onConnect) *redis.Client {
	c := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: a.Master, SentinelAddrs: slices.Clone(a.Hosts), Username: a.User, Password: a.Password,
		SentinelUsername: a.SentinelUser, SentinelPassword: a.SentinelPassword,
		Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
		PoolSize: poolSize, ConnMaxIdleTime: -1,
		Dialer: a.dialer(timeout), OnConnect: f,
	})
	c.AddHook(discreet{a.secrets()})
	return c
}

// quiet has go-redis log nothing: operators get what matters from the Reporter.
var quiet = sync.OnceFunc(logging.Disable)

// poolSize is more connections than are ever used at once to one server.
const poolSize = 8

// dialer connects, and shakes hands where TLS is wanted, in nine tenths of the timeout: so
// the error says what went wrong, and not that whoever waited for it has gone.
func (a address) dialer(timeout time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout-timeout/10)
		defer cancel()
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, blockedOr(err)
		}
		if a.tls == nil {
			return c, nil
		}
		return a.handshake(ctx, c, addr)
	}
}

// handshake speaks TLS over a connection. If it fails, that is closed.
func (a address) handshake(ctx context.Context, c net.Conn, addr string) (net.Conn, error) {
	config := a.tls.Clone()
	config.ServerName, _, _ = net.SplitHostPort(addr)
	secure := tls.Client(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", addr, err)
	}
	return abrupt{secure}, nil
}

// errBlocked means that this host itself lets nothing be sent to a server.
var errBlocked = errors.New("this host lets sluice send nothing there: IPAddressDeny of its systemd unit, or a firewall")

// isBlocked reports whether an error has errBlocked in it. Not everything between here
// and the dial keeps the error itself.
func isBlocked(err error) bool { return strings.Contains(err.Error(), errBlocked.Error()) }

// blockedOr returns the error of a failed dial, with errBlocked if that is why. What the
// kernel drops before it leaves the host is lost for TCP, which waits in vain. The sender
// of a UDP packet is told.
func blockedOr(err error) error {
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("%w (%v)", err, errBlocked)
	}
	var dial *net.OpError
	if !errors.As(err, &dial) || !dial.Timeout() || dial.Addr == nil {
		return err
	}
	c, failed := net.Dial("udp", dial.Addr.String())
	if failed == nil {
		_, failed = c.Write([]byte{0})
		c.Close()
	}
	if errors.Is(failed, syscall.EPERM) {
		return fmt.Errorf("%w (%v)", err, errBlocked)
	}
	return err
}

// abrupt closes without TLS's close_notify, which crypto/tls would try to send for
// five seconds to a server that no longer reads.
type abrupt struct{ *tls.Conn }

func (c abrupt) Close() error { return c.NetConn().Close() }
