package servers

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

const aptLimit = 5 * time.Minute

// policyPath is the script that Debian's packages ask whether they may start services.
const policyPath = "/usr/sbin/policy-rc.d"

func (f *Finder) installPostgres(ctx context.Context) (*Server, error) {
	if err := f.aptInstall(ctx, "postgresql"); err != nil {
		return nil, err
	}
	return f.localPostgres(ctx)
}

func (f *Finder) installRedis(ctx context.Context) (*Server, error) {
	if err := f.aptInstall(ctx, "redis-server"); err != nil {
		return nil, err
	}
	return f.localRedis(ctx)
}

// aptInstall installs a Debian package. Packages of servers start a service of
// their own when they are installed; that is held off, because the demo
// promises to leave nothing running.
func (f *Finder) aptInstall(ctx context.Context, pkg string) error {
	if runtime.GOOS != "linux" || os.Geteuid() != 0 {
		return fmt.Errorf("%w: only as root on Debian", errNotHere)
	}
	if f.lookPath("apt-get") == "" {
		return fmt.Errorf("%w: no apt-get", errNotHere)
	}
	f.Say(fmt.Sprintf("Installing the Debian package %s with apt-get. It stays installed (apt-get remove %s); its service is not started.", pkg, pkg))
	allow, err := holdServices(or(f.policy, policyPath))
	if err != nil {
		return err
	}
	defer allow()
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	if !f.updated {
		if _, err := f.run(ctx, aptLimit, env, "apt-get", "update", "-qq"); err != nil {
			return err
		}
		f.updated = true
	}
	_, err = f.run(ctx, aptLimit, env, "apt-get", "install", "-y", "-qq", "--no-install-recommends", pkg)
	return err
}

// holdServices keeps packages from starting services until the returned
// function is called. A policy that is there already is left alone.
func holdServices(path string) (allow func(), err error) {
	policy, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if os.IsExist(err) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("keep packages from starting services: %w", err)
	}
	allow = func() { _ = os.Remove(path) }
	_, err = strings.NewReader("#!/bin/sh\nexit 101\n").WriteTo(policy)
	if closeErr := policy.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		allow()
		return nil, fmt.Errorf("keep packages from starting services: %w", err)
	}
	return allow, nil
}
