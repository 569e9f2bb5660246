package bridges

import (
	"errors"
	"net"
	"strconv"
	"strings"
)

// CheckAddress reports why host:port cannot be a broker's address, or nil.
// url.Parse takes "host:99999" and "host:1:2" for hosts; a gateway that started
// with one would dial it for ever.
func CheckAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || strings.Contains(host, ":") && net.ParseIP(strings.Split(host, "%")[0]) == nil {
		return errors.New("the address is not of the form host:port or [IPv6]:port")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return errors.New("the port must be a number from 1 to 65535")
	}
	return nil
}
