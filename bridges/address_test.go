package bridges

import "testing"

func TestCheckAddress(t *testing.T) {
	for address, ok := range map[string]bool{
		"h:1": true, "h:65535": true, "[::1]:6379": true, "[fe80::1%eth0]:1": true, "127.0.0.1:80": true,
		"h:0": false, "h:65536": false, "h:99999": false, "h:x": false, "h:": false, "h": false,
		"h:1:2": false, "[h:1]:2": false, ":1": false,
	} {
		if err := CheckAddress(address); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}
