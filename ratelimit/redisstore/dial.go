package redisstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// An address is a parsed store URL.
type address struct {
	kind     string // redis, sentinel, cluster
	hosts    []string
	master   string // of Sentinel
	user     string
	password string
	db       int
	tls      *tls.Config
}

const defaultPort = "6379"

// CheckURL returns the error that Open would return for a URL, or for a file it names.
func CheckURL(text string) error {
	_, err := parseURL(text)
	return err
}

// parseURL reads redis://, rediss://, unix://, redis-sentinel://h1,h2/master or
// redis-cluster://h1,h2,h3, each with user:password@ and with the parameters
// ca=, cert= and key=, which name PEM files, or tls=true.
func parseURL(text string) (a address, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return a, errors.New("store.url: it is no URL") // err has the password in it
	}
	a.user = u.User.Username()
	a.password, _ = u.User.Password()
	path := strings.Trim(u.Path, "/")
	switch u.Scheme {
	case "redis", "rediss":
		a.kind, a.hosts = "redis", hostList(u.Host, defaultPort)
		if path != "" {
			if a.db, err = strconv.Atoi(path); err != nil {
				return a, fmt.Errorf("store.url: the database %q is no number", path)
			}
		}
	case "unix":
		a.kind, a.hosts = "redis", []string{u.Path}
	case "redis-sentinel":
		a.kind, a.hosts, a.master = "sentinel", hostList(u.Host, "26379"), path
		if path == "" {
			return a, errors.New("store.url: redis-sentinel:// needs the name of the master after the hosts")
		}
	case "redis-cluster":
		a.kind, a.hosts = "cluster", hostList(u.Host, defaultPort)
	default:
		return a, fmt.Errorf("store.url: unknown scheme %q", u.Scheme)
	}
	a.tls, err = tlsConfig(u.Scheme == "rediss", u.Query())
	return a, err
}

// hostList splits the hosts of a URL, and gives each a port.
func hostList(hosts, port string) (all []string) {
	for h := range strings.SplitSeq(hosts, ",") {
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), port)
		}
		all = append(all, h)
	}
	return all
}

func tlsConfig(required bool, q url.Values) (*tls.Config, error) {
	if !required && q.Get("tls") != "true" && q.Get("ca") == "" && q.Get("cert") == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if file := q.Get("ca"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("store.url: read ca: %w", err)
		}
		if c.RootCAs = x509.NewCertPool(); !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("store.url: read ca: %s holds no certificate", file)
		}
	}
	if file := q.Get("cert"); file != "" {
		pair, err := tls.LoadX509KeyPair(file, q.Get("key"))
		if err != nil {
			return nil, fmt.Errorf("store.url: read cert and key: %w", err)
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
	if a.kind == "sentinel" {
		return a.failover(timeout, f)
	}
	o := &redis.Options{
		Network: "tcp", Addr: host, Username: a.user, Password: a.password, DB: a.db,
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
	return redis.NewClient(o)
}

// failover makes a client for the master that the Sentinels name.
func (a address) failover(timeout time.Duration, f onConnect) *redis.Client {
	return redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: a.master, SentinelAddrs: a.hosts, Username: a.user, Password: a.password,
		Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, PoolTimeout: timeout,
		PoolSize: poolSize, ConnMaxIdleTime: -1,
		Dialer: a.dialer(timeout), OnConnect: f,
	})
}

// quiet has go-redis log nothing: operators get what matters from the Reporter.
var quiet = sync.OnceFunc(logging.Disable)

// poolSize is more connections than are ever used at once to one server.
const poolSize = 8

// dialer also applies the deadline of its context to a TLS handshake.
func (a address) dialer(timeout time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: timeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}}
	if a.tls == nil {
		return d.DialContext
	}
	secure := &tls.Dialer{NetDialer: d, Config: a.tls}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := secure.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return abrupt{c.(*tls.Conn)}, nil
	}
}

// abrupt closes without TLS's close_notify, which crypto/tls would try to send for
// five seconds to a server that no longer reads.
type abrupt struct{ *tls.Conn }

func (c abrupt) Close() error { return c.NetConn().Close() }
