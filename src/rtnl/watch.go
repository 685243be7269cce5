package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Groups of messages for [Watch].
const (
	GroupLinks  = 1 << (unix.RTNLGRP_LINK - 1)
	GroupAddrs  = 1 << (unix.RTNLGRP_IPV4_IFADDR - 1)
	GroupRoutes = 1 << (unix.RTNLGRP_IPV4_ROUTE - 1)
)

// Watch calls changed once, and then after every change of what the groups are
// about, until the context ends. A change of a route is told with the protocol
// that set it, everything else with 0; now and then it calls for nothing.
func Watch(ctx context.Context, groups uint32, changed func(protocol uint8)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("watch the kernel: %w", err)
	}
	s := os.NewFile(uintptr(fd), "rtnetlink")
	defer s.Close()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("watch the kernel: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	changed(0)
	// What a message says is looked up afresh. So one that is cut off by the
	// small buffer, or lost (ENOBUFS), does no harm.
	buf := make([]byte, 512)
	for {
		n, err := s.Read(buf)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("watch the kernel: %w", err)
		}
		changed(routeProtocol(buf[:max(n, 0)]))
	}
}

// routeProtocol is who set the route that a message is about.
func routeProtocol(msg []byte) uint8 {
	const header = unix.SizeofNlMsghdr
	if len(msg) < header+unix.SizeofRtMsg {
		return 0
	}
	if t := binary.NativeEndian.Uint16(msg[4:]); t != unix.RTM_NEWROUTE && t != unix.RTM_DELROUTE {
		return 0
	}
	return msg[header+5]
}
